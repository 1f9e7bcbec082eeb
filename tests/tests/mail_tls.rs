//! `mail restore` into a real Cyrus over TLS, from the first byte and by STARTTLS: with the authority that signed its
//! certificate it works, and a server that cannot show who it is gets neither password nor mail.

use std::fs;

use anyhow::{Result, ensure};
use mailkeep_tests::cyrus::facts::{contents, over_imap};
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Authority, Cyrus, Layout};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::process;
use mailkeep_tests::rig::{Rig, id, one_clear_line, words};

#[test]
fn only_a_server_that_shows_who_it_is_gets_password_and_mail() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    if !process::have("openssl") {
        return process::skip("openssl is missing");
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
    let authority = Authority::new(&server.root().join("authority"))?;
    let stranger = Authority::new(&server.root().join("stranger"))?;
    let good = authority.settings_for("good", "DNS:localhost", "20200101", "20491231")?;
    let old = authority.settings_for("old", "DNS:localhost", "20200101", "20200201")?;
    let ports = [
        (true, server.offer("imaps", true, &good)?, server.offer("oldimaps", true, &old)?),
        (false, server.offer("starttls", false, &good)?, server.offer("oldstarttls", false, &old)?),
    ];
    server.start()?;
    let mut imap = server.imap("alice")?;
    imap.run("CREATE INBOX")?;
    for number in 0..3 {
        let letter = format!("From: a@b.c\r\nMessage-ID: <{number}@lab>\r\nSubject: n{number}\r\n\r\nx\r\n");
        imap.append("INBOX", "\\Seen work", &imap_date(1_500_000_000 + number), letter.as_bytes())?;
    }
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    drop(imap);
    let snapshot = id(&rig.good_backup(&source)?)?;
    server.wait_for_greeting(process::HANG)?;
    let mut imap = server.imap("alice")?;
    let before = contents(&over_imap(&mut imap, "INBOX")?);
    let password = home.path().join("password");
    fs::write(&password, format!("{}\n", cyrus::PASSWORD))?;
    let password = password.display().to_string();
    let (trusted, other) = (authority.file().display().to_string(), stranger.file().display().to_string());
    let restore = |url: &str, into: &str, more: &[&str]| {
        let mut all = vec!["mail", "restore", &snapshot, "user/alice", "--imap", url, "--as", "alice"];
        all.extend(["--password-file", &password, "--into", into]);
        all.extend(more);
        rig.run(&words(&all))
    };
    for (number, (secure, port, old)) in ports.into_iter().enumerate() {
        let scheme = if secure { "imaps" } else { "imap" };
        let url = |host: &str, port: u16| format!("{scheme}://{}@{host}:{port}", cyrus::ADMIN);
        let into = format!("INBOX/Back{number}");
        restore(&url("localhost", port), &into, &["--ca-file", &trusted])?.expect_code(scheme, 0)?;
        ensure!(contents(&over_imap(&mut imap, &into)?) == before, "{scheme}: what came back differs");

        let refused = format!("INBOX/Refused{number}");
        for (url, more, told) in [
            (url("localhost", port), &["--ca-file", &other][..], "signed by none of the authorities"),
            (url("localhost", port), &[], "--ca-file"),
            (url("127.0.0.1", port), &["--ca-file", &trusted], "is not for 127.0.0.1, but for localhost"),
            (url("localhost", old), &["--ca-file", &trusted], "has expired"),
            (url("localhost", port), &["--ca-file", &password], "there is no certificate in this file"),
            (url("localhost", port), &["--ca-file", "/nowhere.pem"], "/nowhere.pem"),
        ] {
            let output = restore(&url, &refused, more)?;
            let line = one_clear_line(&url, &output)?;
            ensure!(output.code == 1 && line.contains(told), "{url} {more:?}: {}: {line}", output.code);
            ensure!(line.contains("no safe connection to "), "{line}");
        }
        ensure!(over_imap(&mut imap, &refused).is_err(), "{scheme}: something was restored");
    }
    // TLS to a port that speaks none: a clear line, and no waiting.
    let plain = format!("imaps://{}@localhost:{}", cyrus::ADMIN, server.ports().imap);
    let output = restore(&plain, "INBOX/Plain", &["--ca-file", &trusted])?;
    ensure!(output.code == 1 && one_clear_line("no TLS", &output)?.contains("is no TLS"), "{}", output.err());
    Ok(())
}
