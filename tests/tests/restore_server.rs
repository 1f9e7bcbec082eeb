//! A whole server's way back, on two real Cyrus: equal over IMAP, old or new whatever dies, a standby that takes over.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::state::ImapState;
use mailkeep_tests::cyrus::{self, ADMIN, BIN_DIR, Cyrus, Layout, PASSWORD};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::process::{self, Running, run_limited, write_script};
use mailkeep_tests::programs::json_line;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::ssh::{self, Sshd};
use rustix::process::Signal;

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// One server with two snapshots, and a second one that has the first of them.
struct Lab {
    rig: Rig,
    _first: Cyrus,
    second: Cyrus,
    source: PathBuf,
    snapshots: [String; 2],
    /// What users see of each.
    states: [ImapState; 2],
}

/// What a server shows that holds what the stopped server held in the window.
fn state_of(truth: &Path, server: &Cyrus) -> Result<ImapState> {
    let copy = Cyrus::adopt(truth, server.root(), server.users())?;
    copy.start()?;
    let state = ImapState::capture(&copy)?;
    ensure!(state.messages() > 0, "no mail in {}", truth.display());
    Ok(state)
}

/// New mail, flags and expunged mail.
fn a_day_goes_by(server: &Cyrus) -> Result<()> {
    for user in ["alice", "bob"] {
        let mut imap = server.imap(user)?;
        for number in 0..12 {
            let message = format!(
                "From: a@example.net\r\nTo: {user}\r\nSubject: new {number}\r\n\r\nHello {number}.\r\n"
            );
            imap.append("INBOX", "\\Flagged", &imap_date(1_700_000_000 + number * 60), message.as_bytes())?;
        }
        imap.run("SELECT INBOX")?;
        imap.run("STORE 1:3 +FLAGS (\\Answered)")?;
        imap.run("STORE 4 +FLAGS (\\Deleted)")?;
        imap.run("EXPUNGE")?;
        imap.run("CREATE INBOX/Later")?;
    }
    Ok(())
}

impl Lab {
    fn new(home: &Path, options: &Options<'_>, more: &str) -> Result<Lab> {
        let rig = Rig::new(home)?;
        let first = Cyrus::create(&home.join("first"), &USERS, Layout::Uuid)?;
        first.start()?;
        let backed_up = cyrus_source(&home.join("first.toml"), &first, &Options::default())?;
        let (mut snapshots, mut states) = (Vec::new(), Vec::new());
        populate(&first, 80, 7)?;
        for round in 0..2 {
            if round > 0 {
                a_day_goes_by(&first)?;
            }
            let truth = home.join(format!("truth{round}"));
            first.keep_truth_in(&truth)?;
            snapshots.push(id(&rig.good_backup(&backed_up)?)?);
            states.push(state_of(&truth, &first)?);
        }
        let second = Cyrus::create(&home.join("second"), &USERS, Layout::Uuid)?;
        let source = cyrus_source(&home.join("second.toml"), &second, options)?;
        let text = fs::read_to_string(&source)? + more;
        fs::write(&source, text)?;
        let (snapshots, states) = match (snapshots.try_into(), states.try_into()) {
            (Ok(snapshots), Ok(states)) => (snapshots, states),
            _ => bail!("two of each"),
        };
        Ok(Lab { rig, _first: first, second, source, snapshots, states })
    }

    fn words(&self, snapshot: usize, more: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--json".into(), "restore-server".into()];
        words.push(self.snapshots[snapshot].clone().into());
        words.extend(["--source".into(), self.source.clone().into()]);
        words.extend(more.iter().map(OsString::from));
        words
    }

    fn restore(&self, snapshot: usize, more: &[&str]) -> Result<serde_json::Value> {
        json_line(&self.rig.ok(&self.words(snapshot, more))?.out(), "summary")
    }

    fn drop_old(&self) -> Result<()> {
        let words = ["restore-server", "--drop-old", "--source"].map(OsString::from);
        self.rig.ok(&[words.to_vec(), vec![self.source.clone().into()]].concat()).map(drop)
    }

    /// Which of the two snapshots the second server serves; anything between them is an error.
    fn serves(&self) -> Result<usize> {
        self.second.wait_for_greeting(process::HANG)?;
        let state = ImapState::capture(&self.second)?;
        let differences: Vec<_> = self.states.iter().map(|known| known.difference(&state)).collect();
        differences
            .iter()
            .position(Option::is_none)
            .with_context(|| format!("neither of the two: {differences:?}; {}", self.second.diagnosis()))
    }

    fn beside(&self) -> Vec<PathBuf> {
        let places = ["", "spool", "meta", "archive"]
            .map(|part| self.second.root().join(part).join(".mailkeep-restore"));
        places.into_iter().filter(|place| place.exists()).collect()
    }
}

fn waited(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_so() {
        ensure!(began.elapsed() < process::HANG, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn a_second_server_becomes_the_snapshot_and_only_what_differs_crosses_the_link() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let lab = Lab::new(home.path(), &Options::default(), "")?;
    lab.second.start()?;
    let events = lab.second.events();
    // Looked at, and asked for without a yes: nothing happens.
    let plan = json_line(&lab.rig.ok(&lab.words(0, &["--dry-run"]))?.out(), "plan")?;
    ensure!(plan["files"].as_u64() > Some(100) && plan["mail_runs"] == true, "{plan}");
    let cyrus =
        |side: &str| plan[side].as_array().and_then(|all| all.iter().find(|one| one[0] == "cyrus").cloned());
    ensure!(cyrus("versions").is_some() && cyrus("versions") == cyrus("snapshot_versions"), "{plan}");
    let refused = lab.rig.run(&lab.words(0, &[]))?.expect_code("without a yes", 64)?;
    ensure!(refused.err().contains("--yes") && refused.err().lines().count() == 1, "{}", refused.err());
    ensure!(lab.second.events() == events && lab.beside().is_empty(), "something was done");

    // With an administrator's password it is looked at as its users see it; without one by Cyrus's own programs only.
    let password = home.path().join("password");
    let url = format!("imap://{ADMIN}@127.0.0.1:{}", lab.second.ports().imap);
    let login =
        ["--yes", "--imap", &url, "--password-file", &password.display().to_string()].map(str::to_owned);
    let login: Vec<&str> = login.iter().map(String::as_str).collect();
    lab.rig.run(&lab.words(0, &login))?.expect_code("without the password's file", 1)?;
    ensure!(lab.second.events() == events && lab.beside().is_empty(), "something was done");
    fs::write(&password, format!("{PASSWORD}\n"))?;
    let first = lab.restore(0, &login)?;
    ensure!(first["restored"] == true && first["problems"] == 0, "{first}");
    ensure!(first["imap_check"]["mailboxes"].as_u64() > Some(5), "{first}");
    let check = &first["check"];
    ensure!(check["names_equal"] == true && check["mailboxes_examined"].as_u64() > Some(5), "{first}");
    ensure!(lab.serves()? == 0 && !lab.beside().is_empty(), "{first}");
    // As long as the old trees are kept no other ones are put beside.
    let kept = lab.rig.run(&lab.words(1, &["--yes"]))?.expect_code("with kept trees", 1)?;
    ensure!(kept.err().contains("--drop-old"), "{}", kept.err());
    let plan = json_line(&lab.rig.ok(&lab.words(1, &["--dry-run"]))?.out(), "plan")?;
    ensure!(!plan["remarks"].to_string().contains("broken off"), "{plan}");
    lab.drop_old()?;
    ensure!(lab.beside().is_empty(), "{:?}", lab.beside());
    ensure!(lab.serves()? == 0, "what is served went too");

    // A wrong one undoes nothing and is told.
    fs::write(&password, "another\n")?;
    let second = lab.rig.run(&lab.words(1, &login))?.expect_code("with a wrong password", 2)?;
    ensure!(second.err().contains("over IMAP"), "{}", second.err());
    let second = json_line(&second.out(), "summary")?;
    ensure!(second["restored"] == true && second["imap_check"].is_null(), "{second}");
    ensure!(lab.serves()? == 1, "{second}");
    let (all, sent) = (second["bytes"].as_u64(), second["sent_bytes"].as_u64());
    ensure!(second["linked"].as_u64() > Some(20), "messages are shared with what was there: {second}");
    ensure!(sent < all.map(|all| all * 3 / 4), "what is there already is not sent: {second}");
    lab.drop_old()?;
    // And what it is when mail was down before, as after a disaster.
    lab.second.stop()?;
    lab.restore(0, &["--yes"])?;
    ensure!(lab.serves()? == 0, "restored while it was down");
    Ok(())
}

/// Who is struck.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Box,
    Agent,
}

/// A restore of the other snapshot, held at `place` (a script of the server), in which somebody dies; then the scripts go on.
fn strike(lab: &Lab, place: &str, victim: Victim, more: &[&str]) -> Result<usize> {
    let now = lab.serves()?;
    lab.second.hold(place, true)?;
    let words = [&["--yes"], more].concat();
    let mut restore = Running::spawn(&mut lab.rig.command(&lab.words(1 - now, &words)))?;
    waited("the place", || lab.second.is_held(place) || restore.ended().unwrap_or(true))?;
    ensure!(lab.second.is_held(place), "{:?}", restore.wait(process::HANG)?.err());
    match victim {
        Victim::Box => restore.kill_alone(),
        Victim::Agent => {
            let agent =
                process::descendants(restore.pid()).into_iter().find(|one| one.name == "mailkeep-agent");
            process::signal(agent.context("no agent")?.pid, Signal::KILL);
        }
    }
    if matches!(victim, Victim::Box) && place != "start" {
        // The agent has seen that its box is gone, has ended the stop that does not come back, and mail runs again. A stop
        // that came back before it saw that would have been followed by the exchange, and rightly so.
        settled(lab)?;
    }
    lab.second.hold(place, false)?;
    drop(restore.wait(process::HANG)?);
    settled(lab)?;
    let then = lab.serves().with_context(|| format!("{victim:?} killed at {place}"))?;
    eprintln!("{victim:?} killed at {place}: {now} became {then}");
    if then == now {
        // What was built for nothing is told, and goes.
        let plan = json_line(&lab.rig.ok(&lab.words(1, &["--dry-run"]))?.out(), "plan")?;
        ensure!(plan["remarks"].to_string().contains("broken off") && !lab.beside().is_empty(), "{plan}");
    }
    lab.drop_old()?;
    ensure!(lab.beside().is_empty(), "{:?}", lab.beside());
    Ok(then)
}

/// Waits until nobody starts mail any more.
fn settled(lab: &Lab) -> Result<()> {
    let state = lab.second.agent_state();
    let open = || {
        let folders = fs::read_dir(&state).into_iter().flatten().flatten();
        folders.map(|folder| folder.path()).any(|folder| folder.join("intent.json").exists())
    };
    waited("the end of the window", || !open() && lab.second.guards().is_empty())
}

#[test]
fn whoever_dies_and_when_all_is_old_or_all_is_new() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let lab = Lab::new(home.path(), &Options::default(), "")?;
    lab.second.start()?;
    lab.restore(0, &["--yes"])?;
    lab.drop_old()?;
    let mut serves = lab.serves()?;
    for victim in [Victim::Agent, Victim::Box] {
        for place in ["stop-begin", "stop"] {
            // Before the trees are exchanged.
            ensure!(
                strike(&lab, place, victim, &[])? == serves,
                "{victim:?} at {place}: it was not to be exchanged"
            );
        }
        // After it.
        ensure!(strike(&lab, "start", victim, &[])? == 1 - serves, "{victim:?}: the exchange was lost");
        serves = 1 - serves;
    }
    Ok(())
}

/// Kills at random moments of the whole run, whichever part of it they fall into.
#[test]
fn killed_at_random_moments_it_is_old_or_new() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let rounds = process::env_number("MAILKEEP_RESTORE_KILLS", 4);
    let home = tempfile::tempdir()?;
    let lab = Lab::new(home.path(), &Options::default(), "")?;
    lab.second.start()?;
    let (mut rng, seed) = Rng::of_run();
    lab.restore(0, &["--yes"])?;
    lab.drop_old()?;
    // What all of it takes, in bytes that the box reads and writes: moments are a part of that.
    let whole = Running::spawn(&mut lab.rig.command(&lab.words(1, &["--yes"])))?.measured()?;
    ensure!(whole.0.code == 0, "{}", whole.0.err());
    lab.drop_old()?;
    let (mut became, mut killed) = ([0; 2], 0);
    for round in 0..rounds {
        let now = lab.serves()?;
        let at = rng.below(whole.1);
        let mut restore = Running::spawn(&mut lab.rig.command(&lab.words(1 - now, &["--yes"])))?;
        if restore.reaches(at)? {
            killed += 1;
            let agent =
                process::descendants(restore.pid()).into_iter().find(|one| one.name == "mailkeep-agent");
            match agent.filter(|_| rng.chance(0.5)) {
                Some(agent) => process::signal(agent.pid, Signal::KILL),
                None => restore.kill_alone(),
            }
        }
        drop(restore.wait(process::HANG)?);
        settled(&lab)?;
        let then = lab.serves().with_context(|| format!("seed {seed}, round {round}, killed at {at}"))?;
        became[usize::from(then != now)] += 1;
        lab.drop_old()?;
    }
    eprintln!("{rounds} rounds, {killed} of them killed: {} old, {} new", became[0], became[1]);
    ensure!(killed > 0, "nobody was killed; seed {seed}");
    Ok(())
}

/// Cyrus's programs, of which some are scripts that stand before them.
fn programs(folder: &Path, scripts: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(folder)?;
    for program in fs::read_dir(BIN_DIR)? {
        let program = program?;
        std::os::unix::fs::symlink(program.path(), folder.join(program.file_name()))?;
    }
    for (name, text) in scripts {
        fs::remove_file(folder.join(name))?;
        write_script(&folder.join(name), &format!("#!/bin/sh\n{text}\nexec {BIN_DIR}/{name} \"$@\"\n"))?;
    }
    Ok(())
}

#[test]
fn the_list_is_imported_for_another_database_and_a_newer_cyrus_and_for_no_older_one() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let lab = Lab::new(home.path(), &Options::default(), "")?;
    let extra = lab.second.root().join("extra.conf");
    fs::write(&extra, fs::read_to_string(&extra)? + "mboxlist_db: skiplist\n")?;
    lab.second.start()?;
    let plan = json_line(&lab.rig.ok(&lab.words(0, &["--dry-run"]))?.out(), "plan")?;
    ensure!(plan["import_list"].to_string().contains("skiplist"), "{plan}");
    let restored = lab.restore(0, &["--yes"])?;
    ensure!(restored["problems"] == 0 && restored["check"]["names_equal"] == true, "{restored}");
    ensure!(lab.serves()? == 0, "{restored}");
    let database = fs::read(lab.second.root().join("conf/mailboxes.db"))?;
    ensure!(database.windows(8).take(32).any(|part| part == b"skiplist"), "{:?}", database.get(..32));
    lab.drop_old()?;

    let text = fs::read_to_string(&lab.source)?;
    let calls = home.path().join("calls");
    fs::write(&calls, "")?;
    fs::set_permissions(&calls, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let with = |name: &str, version: &str, ctl_mboxlist: &str| -> Result<()> {
        let folder = home.path().join(name);
        let info = format!("case \"$*\" in *version*) echo 'cyrus-imapd {version}'; exit 0;; esac");
        let list = format!("echo \"$*\" >> {}\n{ctl_mboxlist}", calls.display());
        programs(&folder, &[("cyr_info", &info), ("ctl_mboxlist", &list)])?;
        let named = format!("bin-dir = \"{}\"", folder.display());
        fs::write(&lab.source, text.replace(&format!("bin-dir = \"{BIN_DIR}\""), &named))?;
        Ok(())
    };
    let is_import = |line: &str| line.ends_with(" -u");
    // An older one is refused before anything is done.
    let events = lab.second.events();
    with("older", "3.4.1", "")?;
    let older = lab.rig.run(&lab.words(1, &["--yes"]))?.expect_code("onto an older Cyrus", 1)?;
    ensure!(
        older.err().contains("older Cyrus cannot read") && older.err().lines().count() == 1,
        "{}",
        older.err()
    );
    ensure!(lab.beside().is_empty() && !fs::read_to_string(&calls)?.lines().any(is_import));

    // One that does not take the list, and one that makes something else of it: nothing was stopped.
    let unable = "case \"$*\" in *-u) echo no such form >&2; exit 75;; esac";
    let other = format!("case \"$*\" in *-u) sed 2d | {BIN_DIR}/ctl_mboxlist \"$@\"; exit;; esac");
    for (name, script, said) in
        [("unable", unable, "no such form"), ("other", &other, "makes something else of it")]
    {
        with(name, "3.8.2", script)?;
        let failed = lab.rig.run(&lab.words(1, &["--yes"]))?.expect_code(name, 1)?;
        ensure!(
            failed.err().contains("cannot be imported") && failed.err().contains(said),
            "{}",
            failed.err()
        );
        ensure!(lab.second.events() == events && lab.serves()? == 0, "{name}: mail was touched");
    }
    // What it has left beside is told, and goes.
    let plan = json_line(&lab.rig.ok(&lab.words(1, &["--dry-run"]))?.out(), "plan")?;
    ensure!(plan["remarks"].to_string().contains("broken off") && !lab.beside().is_empty(), "{plan}");
    lab.drop_old()?;
    ensure!(lab.beside().is_empty() && lab.serves()? == 0, "{:?}", lab.beside());
    let plan = json_line(&lab.rig.ok(&lab.words(1, &["--dry-run"]))?.out(), "plan")?;
    ensure!(!plan["remarks"].to_string().contains("broken off"), "{plan}");

    with("newer", "3.8.2", "")?;
    fs::write(&calls, "")?;
    let restored = lab.restore(1, &["--yes"])?;
    ensure!(restored["problems"] == 0 && lab.serves()? == 1, "{restored}");
    ensure!(fs::read_to_string(&calls)?.lines().filter(|line| is_import(line)).count() == 1);
    let left: Vec<_> = fs::read_dir(std::env::temp_dir())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("mailkeep-list-"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn whoever_dies_before_mail_is_down_it_is_no_standby_and_mail_runs() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let more = STANDBY.replace("HOOKS", &home.path().join("hooks").display().to_string());
    let lab = Lab::new(home.path(), &Options::default(), &more)?;
    lab.second.start()?;
    lab.restore(0, &["--yes"])?;
    lab.drop_old()?;
    for victim in [Victim::Agent, Victim::Box] {
        for place in ["stop-begin", "stop"] {
            ensure!(strike(&lab, place, victim, &["--as-standby"])? == 0, "{victim:?} at {place}");
        }
    }
    let kept = lab.restore(1, &["--yes", "--as-standby"])?;
    ensure!(kept["standby"] == true && kept["check"].is_null(), "{kept}");
    settled(&lab)?;
    ensure!(!lab.second.greets() && !lab.second.is_running(), "mail runs on a standby");
    Ok(())
}

const STANDBY: &str = "[standby]\nof = \"lab\"\nhooks = [[\"/bin/sh\", \"-c\", \"echo $ARMS_EVENT $MAILKEEP_SOURCE >> HOOKS\"]]\n";

#[test]
fn a_standby_over_ssh_follows_and_takes_over() -> Result<()> {
    if let Some(why) = cyrus::missing().or_else(ssh::missing) {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let sshd = Sshd::start(&home.path().join("sshd"))?;
    let hooks = home.path().join("hooks");
    let more = STANDBY.replace("HOOKS", &hooks.display().to_string());
    let options = Options { transport: Transport::Ssh(&sshd), ..Options::default() };
    let lab = Lab::new(home.path(), &options, &more)?;
    lab.second.start()?;
    for snapshot in [0, 1] {
        let kept = lab.restore(snapshot, &["--yes", "--as-standby"])?;
        ensure!(kept["standby"] == true && kept["restored"] == true, "{kept}");
        ensure!(!lab.second.greets() && !lab.second.is_running(), "mail runs on a standby");
        ensure!(lab.beside().is_empty(), "of a standby nothing is kept: {:?}", lab.beside());
    }
    // Neither a rescue at boot nor a backup nor a restore without the word starts mail there.
    let agent = lab.second.script("agent");
    run_limited(std::process::Command::new(&agent).arg("rescue"), process::HANG)?.expect_code("rescue", 0)?;
    let words = ["backup", "--source"].map(OsString::from);
    let backup = lab.rig.run(&[words.to_vec(), vec![lab.source.clone().into()]].concat())?;
    ensure!(backup.code != 0 && backup.err().contains("standby"), "{} {}", backup.code, backup.err());
    let plain = lab.rig.run(&lab.words(0, &["--yes"]))?;
    ensure!(plain.code != 0 && plain.err().contains("standby"), "{} {}", plain.code, plain.err());
    ensure!(!lab.second.greets() && !hooks.exists(), "mail runs on a standby");

    let words = ["promote", "--source"].map(OsString::from);
    lab.rig.ok(&[words.to_vec(), vec![lab.source.clone().into()]].concat())?;
    ensure!(lab.serves()? == 1, "promoted");
    ensure!(fs::read_to_string(&hooks)? == "FAILOVER lab\n", "{:?}", fs::read_to_string(&hooks));
    // Once more it is no standby.
    let again = lab.rig.run(&[words.to_vec(), vec![lab.source.clone().into()]].concat())?;
    ensure!(again.code != 0 && again.err().contains("no standby"), "{} {}", again.code, again.err());
    Ok(())
}
