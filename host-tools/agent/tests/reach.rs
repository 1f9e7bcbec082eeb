//! Whoever holds a key of the box and speaks the protocol by hand: nothing outside of the places that were paired is opened,
//! whatever the source file says, whatever is said after it, and whatever links lead there.
#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mailkeep_format::Timestamp;
use mailkeep_link::Options;
use mailkeep_link::message::{BeginPass, Configure, Failed, Known, KnownFolder, Quiesce, ToAgent, ToBox};
use mailkeep_link::rebuild::Raise;
use mailkeep_mail::{Reach, Source};
use rustix::fs::inotify;
use rustix::io::Errno;
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// What nobody may open: a folder with a file, and who watches them.
struct Secret {
    folder: PathBuf,
    watch: std::os::fd::OwnedFd,
}

impl Secret {
    fn in_(folder: PathBuf) -> Secret {
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("key"), "secret").unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        let all = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS | inotify::WatchFlags::CREATE;
        inotify::add_watch(&watch, &folder, all).unwrap();
        Secret { folder, watch }
    }

    /// Whether somebody has opened the folder or something in it, or made something there, since this was asked last.
    fn was_opened(&self) -> bool {
        let mut events = [0; 4096];
        let mut seen = false;
        loop {
            match rustix::io::read(&self.watch, &mut events) {
                Ok(_) => seen = true,
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The places that this source comes to, as a pairing asks for them.
fn reach_of(source: &str) -> Reach {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
        .arg("reach")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut agent.stdin.take().unwrap(), source.as_bytes()).unwrap();
    let told = agent.wait_with_output().unwrap();
    assert!(told.status.success());
    Reach::parse(&told.stdout).unwrap()
}

/// The words of a forced command, as a pairing writes them.
fn forced(role: &str, source: &str) -> Vec<String> {
    let digest = Source::parse(source, "test").unwrap().commands_digest().to_string();
    let mut words =
        ["serve", "--role", role, "--commands", &digest, "--deadline", "600"].map(str::to_owned).to_vec();
    for place in reach_of(source).places() {
        words.extend(["--reach".to_owned(), place.display().to_string()]);
    }
    words
}

fn start(mail: &Mail, words: &[String]) -> Agent {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Agent::start_with(&mail.state(), &words, &Options::new("test"))
}

/// It ends as somebody who asks for what is not his ends: told in one line, with the exit code for that.
fn refused(agent: Agent, what: &str) -> Failed {
    let told = agent.receive();
    let Ok(ToBox::Failed(failed)) = told else { panic!("{what}: not refused: {told:?}") };
    assert_eq!((failed.exit_code, failed.what.lines().count()), (77, 1), "{what}: {}", failed.what);
    assert_eq!(agent.end(), Some(77), "{what}");
    failed
}

#[test]
fn other_places_than_the_paired_ones_are_refused_before_they_are_opened() {
    let mail = Mail::new();
    let secret = Secret::in_(mail.path("secret"));
    symlink(&secret.folder, mail.path("spool/out")).unwrap();
    let source = mail.source("");
    let spool = format!("{:?}", mail.path("spool"));
    let asks = [
        format!("{:?}", secret.folder),
        format!("{spool}, {:?}", secret.folder),
        format!("{:?}", secret.folder.join("key")),
        format!("{:?}", mail.path("")),
        "\"/\"".to_owned(),
        format!("{:?}", mail.path("spool/out")),
        format!("{:?}", mail.path("spool/out/key")),
        // Whether it is there is nothing to be learned either.
        format!("{:?}", mail.path("nothing")),
    ];
    for role in ["backup", "restore"] {
        let words = forced(role, &source);
        for ask in &asks {
            let agent = start(&mail, &words);
            agent.send(ToAgent::Configure(Configure { source: source.replace(&spool, ask) }));
            let failed = refused(agent, ask);
            assert!(
                failed.what.contains("no place that this key reaches")
                    && failed.what.contains("`mailkeep pair` again"),
                "{}",
                failed.what
            );
        }
        let longer = source.replace("[quiesce]", "[quiesce]\ndeadline = \"11m\"");
        let agent = start(&mail, &words);
        agent.send(ToAgent::Configure(Configure { source: longer }));
        assert!(refused(agent, "a longer deadline").what.contains("660 s"));
        let agent = start(&mail, &words);
        agent.configure(&source);
        agent.goodbye();
    }
    assert!(!secret.was_opened());
    assert!(mail.is_up() && mail.count("stop") == 0);

    // By a key of before this it is read: what is looked for above is what would be there.
    let agent = Agent::start(&mail.state());
    agent.configure(&source.replace(&spool, &asks[0]));
    assert_eq!(agent.pass(1, false).bytes(&secret.folder.join("key")), b"secret");
    agent.goodbye();
    assert!(secret.was_opened());
}

#[test]
fn what_was_paired_is_copied_as_ever_and_no_link_in_it_is_followed() {
    let mail = Mail::new();
    let secret = Secret::in_(mail.path("secret"));
    symlink(&secret.folder, mail.path("spool/out")).unwrap();
    symlink(mail.path("spool"), mail.path("called")).unwrap();
    // A tree that a link leads to, as on many servers.
    let source = mail.source("").replace(
        &format!("paths = [{:?}]", mail.path("spool")),
        &format!("paths = [{:?}]", mail.path("called")),
    );
    let agent = start(&mail, &forced("backup", &source));
    agent.configure(&source);
    let copy = agent.pass(1, false);
    assert_eq!(copy.bytes(&mail.path("spool/1.")), b"Subject: one\r\n\r\nHello.\r\n");
    assert!(
        copy.nodes.contains_key(&mail.path("spool/out")) && copy.problems.is_empty(),
        "{:?}",
        copy.problems
    );
    assert!(!copy.nodes.keys().any(|path| path.starts_with(&secret.folder) && *path != secret.folder));
    agent.prepare();
    assert!(agent.freeze().whole);
    agent.resumed();
    agent.goodbye();
    wait_for("the window's end", || mail.settled());
    assert!(!secret.was_opened());
}

/// Something that is asked of the agent, and how.
type Step = (&'static str, fn(&Agent));

/// Mail's own user, say, puts a link in the place of a tree after the source file was taken.
#[test]
fn a_tree_that_a_link_replaces_later_is_refused_at_every_step() {
    let steps: [Step; 4] = [
        ("a pass", |agent| agent.send(ToAgent::BeginPass(BeginPass { number: 2, is_final: false }))),
        ("preparing", |agent| agent.send(ToAgent::Prepare)),
        ("a stop", |agent| agent.send(ToAgent::Quiesce(Quiesce { deadline_seconds: 60 }))),
        ("a freeze", |agent| agent.send(ToAgent::Freeze(Quiesce { deadline_seconds: 60 }))),
    ];
    for (what, step) in steps {
        let mail = Mail::new();
        let secret = Secret::in_(mail.path("secret"));
        let source = mail.source("");
        let agent = start(&mail, &forced("backup", &source));
        agent.configure(&source);
        agent.pass(1, false);
        fs::rename(mail.path("spool"), mail.path("aside")).unwrap();
        symlink(&secret.folder, mail.path("spool")).unwrap();
        step(&agent);
        let failed = loop {
            match agent.receive().unwrap() {
                ToBox::Failed(failed) => break failed,
                // Said before the walk begins.
                ToBox::PassBegun(_) => {}
                other => panic!("{what}: {other:?}"),
            }
        };
        assert_eq!((failed.exit_code, agent.end()), (77, Some(77)), "{what}: {}", failed.what);
        assert!(!secret.was_opened(), "{what}");
        assert!(mail.is_up() && mail.count("stop") == 0, "{what}");
    }
}

#[test]
fn a_second_source_file_is_not_taken() {
    let mail = Mail::new();
    let secret = Secret::in_(mail.path("secret"));
    let source = mail.source("");
    let words = forced("backup", &source);
    let other = source.replace(&format!("{:?}", mail.path("spool")), &format!("{:?}", secret.folder));
    let agent = start(&mail, &words);
    agent.configure(&source);
    agent.send(ToAgent::Configure(Configure { source: other }));
    let told = agent.receive().unwrap();
    assert!(matches!(&told, ToBox::Failed(failed) if failed.what.contains("at the wrong time")), "{told:?}");
    drop(agent);
    let agent = start(&mail, &words);
    agent.send(ToAgent::BeginPass(BeginPass { number: 1, is_final: false }));
    assert!(matches!(agent.receive().unwrap(), ToBox::Failed(_)));
    assert!(!secret.was_opened());
}

/// The box may say what it knows of a folder, so that it need not be listed. Names in that are looked at and offered to be read.
#[test]
fn a_name_that_the_box_says_it_knows_leads_nowhere() {
    let mail = Mail::new();
    let secret = Secret::in_(mail.path("secret"));
    let source = mail.source("");
    let spool = mail.path("spool");
    let stat = fs::metadata(&spool).unwrap();
    let time = |seconds, nanos: i64| Timestamp { seconds, nanos: nanos as u32 };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // What a folder was is only believed when it has been at rest for some seconds.
    wait_for("a folder at rest", || now() as i64 > stat.ctime() + 5);
    let known = |name: &str| {
        let folder = KnownFolder {
            path: spool.as_os_str().as_encoded_bytes().to_vec(),
            inode: stat.ino(),
            mtime: time(stat.mtime(), stat.mtime_nsec()),
            ctime: time(stat.ctime(), stat.ctime_nsec()),
            entries: vec![(0, name.as_bytes().to_vec())],
        };
        ToAgent::Known(Known { clock: time(now() as i64, 0), folders: vec![folder] })
    };
    let words = forced("backup", &source);
    for name in ["../secret/key", "..", "/etc/passwd", "below/../../secret/key"] {
        let agent = start(&mail, &words);
        agent.configure(&source);
        let said = agent
            .link()
            .send(known(name))
            .and_then(|()| agent.link().send(ToAgent::BeginPass(BeginPass { number: 1, is_final: false })));
        // The link is ended for it, in words or at once.
        let told = said.map(|()| until_the_end(&agent));
        assert!(!matches!(&told, Ok(Some(_))), "{name}: {told:?}");
        assert_ne!(agent.end(), Some(0), "{name}");
    }
    assert!(!secret.was_opened());
    // What is said of the folder is believed: with a plain name the attack would be complete.
    fs::write(mail.path("spool/1."), "Subject: two\r\n").unwrap();
    let agent = start(&mail, &words);
    agent.configure(&source);
    agent.send(known("1."));
    agent.send(ToAgent::BeginPass(BeginPass { number: 1, is_final: false }));
    assert!(until_the_end(&agent).is_some());
}

/// The pass that begins, if one does: the first thing that it says of a folder.
fn until_the_end(agent: &Agent) -> Option<ToBox> {
    loop {
        match agent.receive() {
            Ok(ToBox::PassBegun(_)) => {}
            Ok(ToBox::Failed(_)) | Err(_) => return None,
            Ok(said) => return Some(said),
        }
    }
}

/// A Cyrus by its configuration alone, stopped and started by the scripts.
fn cyrus(mail: &Mail, conf: &str) -> String {
    fs::write(mail.path("imapd.conf"), conf).unwrap();
    mail.source("").replace(
        &format!("system = \"generic\"\n[transport]\nkind = \"local\"\n[generic]\npaths = [{:?}]\nwrite-once = [\"*.\"]", mail.path("spool")),
        &format!("system = \"cyrus\"\n[transport]\nkind = \"local\"\n[cyrus]\nimapd-conf = {:?}\ncyrus-user = \"root\"\nalso = []", mail.path("imapd.conf")),
    )
}

fn conf(mail: &Mail, spool: &Path) -> String {
    let at = |name: &str| mail.path(name).display().to_string();
    format!(
        "configdirectory: {}\npartition-default: {}\nsievedir: {}\nsasl_sasldb_path: {}\n",
        at("conf"),
        spool.display(),
        at("conf/sieve"),
        at("conf/sasldb2")
    )
}

#[test]
fn nothing_is_put_back_where_the_key_does_not_reach() {
    let mail = Mail::new();
    let secret = Secret::in_(mail.path("secret"));
    fs::create_dir_all(mail.path("conf/sieve")).unwrap();
    let paired = conf(&mail, &mail.path("spool"));
    let source = cyrus(&mail, &paired);
    assert!(source.contains("\"cyrus\""), "{source}");
    let words = forced("restore", &source);
    let raise = || {
        ToAgent::Raise(Raise { snapshot: "s".into(), trial: false, users: Vec::new(), groups: Vec::new() })
    };
    let started = || {
        let agent = start(&mail, &words);
        agent.configure(&source);
        agent
    };
    // As it was paired it works.
    let agent = started();
    agent.send(ToAgent::Trees);
    let told = agent.receive().unwrap();
    let ToBox::Trees(trees) = told else { panic!("{told:?}") };
    assert_eq!(trees.trees.len(), 2);
    agent.goodbye();

    // Somebody has put another path into imapd.conf.
    fs::write(mail.path("imapd.conf"), conf(&mail, &secret.folder)).unwrap();
    let agent = start(&mail, &words);
    agent.send(ToAgent::Configure(Configure { source: source.clone() }));
    let failed = refused(agent, "another partition");
    assert!(failed.what.contains("partition-default in "), "{}", failed.what);
    fs::write(mail.path("imapd.conf"), &paired).unwrap();

    // A link in the place of a tree, after the source file was taken.
    for (what, ask) in [("what there is", ToAgent::Trees), ("building", raise()), ("dropping", ToAgent::Drop)]
    {
        let agent = started();
        fs::rename(mail.path("spool"), mail.path("aside")).unwrap();
        symlink(&secret.folder, mail.path("spool")).unwrap();
        agent.send(ask);
        refused(agent, what);
        fs::remove_file(mail.path("spool")).unwrap();
        fs::rename(mail.path("aside"), mail.path("spool")).unwrap();
    }
    assert!(!secret.was_opened());
    for beside in [mail.path(".mailkeep-restore"), secret.folder.join(".mailkeep-restore")] {
        assert!(!beside.exists(), "{}", beside.display());
    }
    assert!(mail.is_up() && mail.count("stop") == 0);
}

#[test]
fn a_word_that_is_no_place_is_an_error_of_usage() {
    for wrong in ["relative", "/a/../b", "/a\nb"] {
        let told = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
            .args(["serve", "--reach", wrong])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!((told.status.code(), said.lines().count()), (Some(64), 1), "{said}");
    }
    let mail = Mail::new();
    // A path that would begin a line of its own in authorized_keys.
    fs::create_dir(mail.path("a\nb")).unwrap();
    let source = mail.source("").replace("spool\"", "a\\nb\"");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"))
        .arg("reach")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut agent.stdin.take().unwrap(), source.as_bytes()).unwrap();
    let told = agent.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.stdout.is_empty() && told.status.code() == Some(78) && said.lines().count() == 1, "{said}");
}
