//! The same pull through a real sshd on loopback: equal after the restore, safe when the link is cut in the
//! window, and refused before mail is touched when the host key is not the pinned one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::state::ImapState;
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process::{self, Running, env_number};
use mailkeep_tests::rig::{Rig, id, one_clear_line};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::ssh::{self, Sshd};
use mailkeep_tests::stalls::Stalls;

const DEADLINE: Duration = Duration::from_secs(60);

struct Lab {
    // Dropped in this order: the server before the folder that it lies in.
    server: Cyrus,
    sshd: Sshd,
    rig: Rig,
    home: tempfile::TempDir,
}

fn lab() -> Result<Option<Lab>> {
    if let Some(why) = cyrus::missing().or_else(ssh::missing) {
        process::skip(&why)?;
        return Ok(None);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let sshd = Sshd::start(&home.path().join("ssh"))?;
    let server = Cyrus::create(&home.path().join("server"), &["alice", "bob"], Layout::Uuid)?;
    server.start()?;
    populate(&server, 80, 4)?;
    Ok(Some(Lab { server, sshd, rig, home }))
}

fn source(lab: &Lab) -> Result<std::path::PathBuf> {
    let options = Options { transport: Transport::Ssh(&lab.sshd), deadline: "60s", ..Options::default() };
    cyrus_source(&lab.home.path().join("lab.toml"), &lab.server, &options)
}

#[test]
fn pulled_over_ssh_the_restored_server_is_equal() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let source = source(&lab)?;
    let truth_dir = lab.home.path().join("truth");
    lab.server.keep_truth_in(&truth_dir)?;
    let summary = lab.rig.good_backup(&source)?;
    lab.server.wait_for_greeting(process::HANG)?;
    let restored_dir = lab.rig.restore(&id(&summary)?, &lab.home.path().join("r"), lab.server.root())?;
    let truth = Cyrus::adopt(&truth_dir, lab.server.root(), lab.server.users())?;
    let restored = Cyrus::adopt(&restored_dir, lab.server.root(), lab.server.users())?;
    truth.start()?;
    restored.start()?;
    if let Some(difference) = ImapState::capture(&truth)?.difference(&ImapState::capture(&restored)?) {
        bail!("the window (left) and the restored server (right) differ: {difference}");
    }
    Ok(())
}

#[test]
fn a_link_cut_in_the_window_brings_mail_back() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let source = source(&lab)?;
    let (mut rng, seed) = Rng::of_run();
    let stalls = Stalls::watch();
    for cut in 0..env_number("MAILKEEP_CUTS", 3) {
        let stops = lab.server.events().iter().filter(|e| *e == "stop").count();
        let mut backup = Running::spawn(&mut lab.rig.backup_command(&source))?;
        let start = Instant::now();
        while lab.server.events().iter().filter(|e| *e == "stop").count() <= stops {
            ensure!(start.elapsed() < process::HANG && !backup.ended()?, "the backup never stopped mail");
            std::thread::sleep(Duration::from_millis(2));
        }
        let delay = Duration::from_micros(rng.below(400_000));
        std::thread::sleep(delay);
        let (struck, stalled) = (Instant::now(), stalls.so_far());
        let sessions = lab.sshd.cut();
        let output = backup.wait(process::HANG)?;
        let context =
            format!("cut {cut} of {sessions} sessions after {delay:?}, seed {seed}, exit {}", output.code);
        ensure!(!output.err().contains("panicked at"), "{context}: {}", output.err());
        lab.server
            .wait_for_greeting(process::HANG)
            .with_context(|| format!("{context}: mail stays stopped"))?;
        let (away, stalled) = (struck.elapsed(), stalls.so_far() - stalled);
        ensure!(
            away <= DEADLINE + stalled,
            "{context}: mail answers after {away:?}; stood still {stalled:?}"
        );
        lab.rig
            .good_backup_within(&source, process::HANG)
            .with_context(|| format!("{context}: the next backup"))?;
        lab.server.wait_for_greeting(process::HANG)?;
        eprintln!("{context}: fine");
    }
    lab.rig.verify_all()
}

#[test]
fn another_host_key_is_refused_before_mail_is_touched() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let source = source(&lab)?;
    let stranger = Sshd::start(&lab.home.path().join("stranger"))?;
    let key = std::fs::read_to_string(stranger.known_hosts())?;
    let key = key.split_once(' ').context("known_hosts line")?.1.to_owned();
    std::fs::write(lab.sshd.known_hosts(), format!("[127.0.0.1]:{} {key}", lab.sshd.port()))?;
    let before = lab.server.events();
    let output = process::run(&mut lab.rig.command(&["backup".into(), "--source".into(), source.into()]))?;
    ensure!([1, 75].contains(&output.code), "exit {} for a wrong host key: {}", output.code, output.err());
    let last = output.err().lines().last().unwrap_or_default().to_owned();
    let shown = process::Output { stderr: last.into_bytes(), ..output };
    one_clear_line("a wrong host key", &shown)?;
    assert_eq!(lab.server.events(), before, "mail must not be touched");
    Ok(())
}
