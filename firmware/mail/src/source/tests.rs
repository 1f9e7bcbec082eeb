//! The source file: what is accepted, what it means, and what each refusal says.

use std::time::Duration;

use super::*;

const FULL: &str = r#"
name = "mail1"
system = "cyrus"                 # cyrus | generic | (dovecot, mbox: later)
outage-budget = "60s"
[transport]
kind = "ssh"                     # ssh | local
host = "mail1.example.org"       # user, port, identity-file, known-hosts-file, agent-path
[cyrus]
imapd-conf = "/etc/imapd.conf"
cyrus-user = "cyrus"
also = ["/etc/cyrus.conf"]
bin-dir = "/usr/lib/cyrus/bin"
[quiesce]
mode = "auto"
stop = ["systemctl", "stop", "cyrus-imapd"]
start = ["systemctl", "start", "cyrus-imapd"]
running = ["true"]
probe = "imap://127.0.0.1:143"
deadline = "10m"
stragglers = "wait"
[generic]
paths = ["/srv/data"]
exclude = ["*.tmp"]
write-once = ["*.eml"]
"#;

fn parse(text: &str) -> Result<Source, MailError> {
    Source::parse(text, "mail1.toml")
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("must be refused").to_string()
}

fn with(sections: &str) -> String {
    format!("name = \"m\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n{sections}")
}

#[test]
fn the_documented_example_is_read() {
    let source = parse(FULL).unwrap();
    assert_eq!(source.name.as_str(), "mail1");
    let Transport::Ssh(ssh) = &source.transport else { panic!("ssh expected") };
    assert_eq!((ssh.host.as_str(), ssh.user.as_str(), ssh.port), ("mail1.example.org", "root", 22));
    let System::Cyrus(cyrus) = &source.system else { panic!("cyrus expected") };
    assert_eq!(cyrus.bin_dir.as_deref(), Some(std::path::Path::new("/usr/lib/cyrus/bin")));
    assert_eq!(source.quiesce.stop.as_ref().unwrap().to_string(), "systemctl stop cyrus-imapd");
    assert_eq!(source.quiesce.probe.as_ref().unwrap().to_string(), "imap://127.0.0.1:143");
    assert_eq!(source.text(), FULL);
    assert_eq!(parse(source.text()).unwrap(), source, "the agent must read what the box read");
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let source = parse(&with("")).unwrap();
    assert_eq!(source.outage_budget, Duration::from_secs(60));
    assert_eq!(source.quiesce.mode, QuiesceMode::Auto);
    assert_eq!(source.quiesce.deadline, Duration::from_secs(600));
    assert_eq!(source.quiesce.stragglers, Stragglers::Wait);
    assert_eq!(source.quiesce.straggler_wait, Duration::from_secs(30));
    assert_eq!(source.quiesce.freeze, Freeze::Auto);
    let System::Cyrus(cyrus) = source.system else { panic!("cyrus expected") };
    assert_eq!(cyrus.imapd_conf, PathBuf::from("/etc/imapd.conf"));
    assert_eq!(cyrus.cyrus_user, "cyrus");
    assert_eq!(cyrus.also, [PathBuf::from("/etc/cyrus.conf")]);
}

#[test]
fn an_unknown_key_is_named_with_line_section_and_nearest_key() {
    assert_eq!(
        refusal("name = \"m\"\noutage-bugdet = \"60s\"\n"),
        "mail1.toml, line 2: unknown key `outage-bugdet` in the top level; did you mean `outage-budget`?"
    );
    assert_eq!(
        refusal(&with("[quiesce]\nprobe = \"imap://h:1\"\nstraggler_wait = \"3s\"\n")),
        "mail1.toml, line 7: unknown key `straggler_wait` in [quiesce]; did you mean `straggler-wait`?"
    );
    assert_eq!(
        refusal(&with("[quiece]\nmode = \"auto\"\n")),
        "mail1.toml, line 5: unknown key `quiece` in the top level; did you mean `quiesce`?"
    );
    assert_eq!(
        refusal(&with("[generic]\ncolour = 1\n")),
        "mail1.toml, line 6: unknown key `colour` in [generic]"
    );
}

#[test]
fn syntax_and_type_errors_are_one_line_and_name_the_place() {
    for (text, line) in
        [("name = \"m\"\nsystem = \n", 2), ("name = 5\n", 1), ("\n\n[transport]\nport = \"x\"\n", 4)]
    {
        let said = refusal(text);
        assert!(said.starts_with(&format!("mail1.toml, line {line}: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn systems_of_later_versions_are_refused_by_name() {
    for system in ["dovecot", "mbox"] {
        let said = refusal(&with("").replace("cyrus", system));
        assert!(said.contains("not served by this version"), "{said}");
    }
    assert!(refusal(&with("").replace("cyrus", "cyrsu")).contains("did you mean \"cyrus\"?"));
}

#[test]
fn names_that_could_leave_their_folder_are_refused() {
    for name in ["", "../etc", "a/b", ".hidden", "-r", "a b", "ü", &"x".repeat(65)] {
        let said = refusal(&with("").replace("\"m\"", &format!("\"{name}\"")));
        assert!(said.starts_with("mail1.toml: name: "), "{said}");
    }
    assert!(parse(&with("").replace("\"m\"", "\"mail-1.example_org\"")).is_ok());
}

#[test]
fn what_ssh_would_take_for_an_option_is_refused() {
    let ssh = |rest: &str| format!("name = \"m\"\nsystem = \"cyrus\"\n[transport]\nkind = \"ssh\"\n{rest}");
    assert!(refusal(&ssh("host = \"-oProxyCommand=x\"")).contains("transport.host"));
    assert!(refusal(&ssh("host = \"h\"\nuser = \"-l\"")).contains("transport.user"));
    assert!(refusal(&ssh("")).contains("transport.host: is missing"));
    assert!(refusal(&ssh("host = \"h\"\nport = 0")).contains("transport.port"));
    assert!(refusal(&with("host = \"h\"\n")).contains("belongs to kind = \"ssh\""));
    assert!(parse(&ssh("host = \"fe80::1%eth0\"\nuser = \"backup\"\nport = 2222")).is_ok());
}

#[test]
fn mail_that_can_be_stopped_must_be_startable() {
    let quiesce = |rest: &str| with(&format!("[quiesce]\n{rest}"));
    assert!(refusal(&quiesce("mode = \"command\"")).contains("quiesce.stop: is missing"));
    assert!(refusal(&quiesce("mode = \"command\"\nstop = [\"a\"]")).contains("quiesce.start: is missing"));
    assert!(refusal(&quiesce("stop = [\"a\"]")).contains("quiesce.start: is missing"));
    assert!(refusal(&quiesce("stop = []\nstart = [\"a\"]")).contains("quiesce.stop: is empty"));
    assert!(refusal(&quiesce("deadline = \"0s\"")).contains("quiesce.deadline"));
    assert!(refusal(&quiesce("deadline = \"10\"")).contains("quiesce.deadline: write a duration"));
    assert!(refusal(&quiesce("mode = \"lock\"")).contains("quiesce.mode"));
    assert!(refusal(&quiesce("stragglers = \"shoot\"")).contains("quiesce.stragglers"));
    assert!(refusal(&quiesce("freeze = \"lvm\"")).contains("none of auto, snapshot, descriptors, off"));
    for (word, freeze) in [
        ("auto", Freeze::Auto),
        ("snapshot", Freeze::Snapshot),
        ("descriptors", Freeze::Descriptors),
        ("off", Freeze::Off),
    ] {
        assert_eq!(parse(&quiesce(&format!("freeze = {word:?}"))).unwrap().quiesce.freeze, freeze);
    }
}

#[test]
fn probes() {
    let probe = |url: &str| {
        parse(&with(&format!("[quiesce]\nprobe = \"{url}\"\n"))).map(|s| s.quiesce.probe.unwrap())
    };
    assert_eq!(probe("imap://127.0.0.1").unwrap().port, 143);
    assert_eq!(probe("pop3://h/").unwrap().port, 110);
    let v6 = probe("smtp://[::1]:2525").unwrap();
    assert_eq!((v6.protocol, v6.host.as_str(), v6.port), (ProbeProtocol::Smtp, "::1", 2525));
    assert_eq!(v6.to_string(), "smtp://[::1]:2525");
    for url in
        ["127.0.0.1:143", "http://h", "imap://", "imap://h:99999", "imap://[::1", "imap://h:0", "imap://a b"]
    {
        assert!(probe(url).is_err(), "{url}");
    }
}

#[test]
fn limits_are_rates_with_a_unit_and_none_unless_asked_for() {
    assert_eq!(parse(&with("")).unwrap().limits, Limits::default());
    let source = parse(&with("[limits]\nbandwidth = \"10 Mbit/s\"\nread = \"20 MB/s\"\n")).unwrap();
    assert_eq!(source.limits.bandwidth.map(Rate::bytes_per_second), Some(1_250_000));
    assert_eq!(source.limits.read.map(Rate::bytes_per_second), Some(20_000_000));
    for (line, key) in [
        ("bandwidth = \"10\"", "limits.bandwidth"),
        ("read = \"5 mb/s\"", "limits.read"),
        ("read = \"0 B/s\"", "limits.read"),
    ] {
        let said = refusal(&with(&format!("[limits]\n{line}\n")));
        assert!(said.starts_with(&format!("mail1.toml: {key}: ")) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(
        refusal(&with("[limits]\nbandwith = \"1 MB/s\"\n")),
        "mail1.toml, line 6: unknown key `bandwith` in [limits]; did you mean `bandwidth`?"
    );
}

#[test]
fn generic_needs_absolute_paths_and_readable_patterns() {
    let generic = |rest: &str| with("").replace("cyrus", "generic") + "[generic]\n" + rest;
    assert!(refusal(&generic("")).contains("generic.paths: is missing"));
    assert!(refusal(&generic("paths = [\"srv\"]")).contains("generic.paths"));
    assert!(refusal(&generic("paths = [\"/srv/../etc\"]")).contains("generic.paths"));
    assert!(refusal(&generic("paths = [\"/srv\"]\nexclude = [\"a[\"]")).contains("generic.exclude"));
    let source = parse(&generic("paths = [\"/srv//data/./\"]")).unwrap();
    let System::Generic(options) = source.system else { panic!("generic expected") };
    assert_eq!(options.paths, [PathBuf::from("/srv/data")]);
    assert_eq!(options.paths[0].as_os_str(), "/srv/data");
}

#[test]
fn a_source_file_of_any_size_is_refused_before_it_is_parsed() {
    assert!(refusal(&"#".repeat(crate::limits::SOURCE_FILE_BYTES + 1)).contains("at most"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", at in 0usize..900, put in "[\\[\\]\"=.a-z\n-]{0,4}") {
        let _ = parse(&text);
        let at = at.min(FULL.len());
        let spoilt = format!("{}{put}{}", &FULL[..at], &FULL[at..]);
        if let Err(error) = parse(&spoilt) {
            proptest::prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}

#[test]
fn the_box_s_key_for_restores_stays_at_home() {
    let text = "name = \"m\"\nsystem = \"cyrus\"\n# why\n[transport]\nkind = \"ssh\"\nhost = \"h\"\nidentity-file = \"/k\"\n";
    let plain = parse(text).unwrap();
    assert_eq!(plain.text_for_agent(), text, "letter by letter where there is nothing to keep back");
    let both =
        parse(&format!("{text}restore-identity-file = \"/r\"\n[cyrus]\nalso = [\"/etc/x\"]\n")).unwrap();
    let Transport::Ssh(ssh) = &both.transport else { panic!("ssh expected") };
    assert_eq!(ssh.restore_identity_file.as_deref(), Some(std::path::Path::new("/r")));
    let told = parse(&both.text_for_agent()).unwrap();
    assert!(!told.text().contains("restore"), "{}", told.text());
    let Transport::Ssh(ssh) = &told.transport else { panic!("ssh expected") };
    assert_eq!((ssh.host.as_str(), ssh.restore_identity_file.as_deref()), ("h", None));
    assert_eq!((told.system, told.quiesce), (both.system, both.quiesce));
    assert!(refusal(&with("restore-identity-file = \"/r\"\n")).contains("kind = \"ssh\" only"));
}
