//! A real Cyrus that a backup over ssh has stopped and started is what it is when an admin starts it over ssh: priority on the
//! processor and the disks, limits, masks, working folder, and nothing of the agent's in its environment or among its files.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, Transport, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::process;
use mailkeep_tests::rig::Rig;
use mailkeep_tests::ssh::{self, Sshd};

/// What the running master got from whoever started it.
fn inherited(server: &Cyrus) -> Result<BTreeMap<String, String>> {
    let pid = fs::read_to_string(server.root().join("run/master.pid"))?.trim().to_owned();
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let mut all = BTreeMap::new();
    let stat = fs::read_to_string(proc("stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_ascii_whitespace().collect();
    // Fields 18, 19, 40 and 41 of proc_pid_stat(5): priority, nice, real-time priority, policy.
    for (name, at) in [("priority", 15), ("nice", 16), ("real-time priority", 37), ("policy", 38)] {
        all.insert(name.to_owned(), fields[at].to_owned());
    }
    let class = process::run(Command::new("ionice").args(["-p", &pid]))?.expect_code("ionice", 0)?.out();
    all.insert("disk".to_owned(), class);
    for name in ["oom_score_adj", "limits", "timerslack_ns", "coredump_filter"] {
        all.insert(name.to_owned(), fs::read_to_string(proc(name))?);
    }
    all.insert("folder".to_owned(), fs::read_link(proc("cwd"))?.display().to_string());
    let wanted =
        ["Umask:", "SigIgn:", "SigCgt:", "NoNewPrivs:", "Seccomp:", "Cpus_allowed:", "CapEff:", "Groups:"];
    for line in fs::read_to_string(proc("status"))?.lines() {
        if wanted.iter().any(|key| line.starts_with(key)) {
            let (key, value) = line.split_once(':').context("status")?;
            all.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    Ok(all)
}

/// What of the agent's or of its login's is with the master.
fn of_the_agent(server: &Cyrus) -> Result<Vec<String>> {
    let pid = fs::read_to_string(server.root().join("run/master.pid"))?.trim().to_owned();
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mut found: Vec<String> = String::from_utf8_lossy(&environment)
        .split('\0')
        .filter(|pair| ["MALLOC_", "SSH_", "MAILKEEP_STOP"].iter().any(|name| pair.starts_with(name)))
        .map(str::to_owned)
        .collect();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        // Up to 2 is what the start command prints to.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.display().to_string();
        if number > 2 && (target.contains("mailkeep") || target.ends_with("(deleted)")) {
            found.push(format!("descriptor {number}: {target}"));
        }
    }
    Ok(found)
}

#[test]
fn mail_is_as_ever_after_a_backup() -> Result<()> {
    if let Some(why) = cyrus::missing().or_else(ssh::missing) {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let sshd = Sshd::start(&home.path().join("ssh"))?;
    let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
    server.start()?;
    populate(&server, 30, 5)?;
    server.stop()?;
    let start = server.script("start").display().to_string();
    let mut by_hand = Command::new("ssh");
    by_hand.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-n"]);
    by_hand.arg("-o").arg(format!("UserKnownHostsFile={}", sshd.known_hosts().display()));
    by_hand.arg("-i").arg(sshd.identity()).args(["-p", &sshd.port().to_string(), "-l", "root", "127.0.0.1"]);
    process::run(by_hand.arg(format!("cd /; {start} >/dev/null 2>&1")))?.expect_code("a start by hand", 0)?;
    server.wait_for_greeting(process::HANG)?;
    let before = inherited(&server)?;
    ensure!(before["nice"] == "0" && before.len() > 15, "{before:?}");

    let options = Options { transport: Transport::Ssh(&sshd), ..Options::default() };
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &options)?;
    for round in ["first", "second"] {
        rig.good_backup(&source)?;
        server.wait_for_greeting(process::HANG)?;
        let after = inherited(&server)?;
        for (name, value) in &before {
            ensure!(
                after.get(name) == Some(value),
                "{round} backup: {name} was {value}, is {:?}",
                after.get(name)
            );
        }
        let left = of_the_agent(&server)?;
        ensure!(left.is_empty(), "{round} backup: {left:?}");
    }
    Ok(())
}
