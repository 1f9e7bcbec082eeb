//! The lab's tools checked by themselves: a loopback sshd that lets in and can be cut, and the program that
//! spoils a link where it is told to.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use mailkeep_tests::process::{self, Running, run, run_limited};
use mailkeep_tests::programs::bin;
use mailkeep_tests::ssh::{self, Sshd};

fn ssh(sshd: &Sshd, command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-F", "none", "-p"])
        .arg(sshd.port().to_string());
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", sshd.known_hosts().display()));
    ssh.arg("-i").arg(sshd.identity()).arg("root@127.0.0.1").arg(command);
    ssh
}

#[test]
fn sshd_lets_in_and_can_be_cut() -> Result<()> {
    if let Some(why) = ssh::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    let sshd = Sshd::start(&home.path().join("ssh"))?;
    let output = run(&mut ssh(&sshd, "echo hello"))?.expect_code("ssh", 0)?;
    assert_eq!(output.out(), "hello\n", "log: {}", sshd.log());

    let marker = home.path().join("up");
    let waiting = Running::spawn(&mut ssh(&sshd, &format!("touch {}; exec sleep 20", marker.display())))?;
    while !marker.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(sshd.cut() > 0, "nothing was cut");
    let output = waiting.wait(process::HANG)?;
    assert_eq!(output.code, 255, "a cut link is the client's error 255: {}", output.err());
    run(&mut ssh(&sshd, "true"))?.expect_code("ssh after the cut", 0).map(drop)
}

#[test]
fn mangle_spoils_one_place_only() -> Result<()> {
    let mangle = bin("mangle")?;
    let through = |way: &str, kind: &str, offset: &str| -> Result<Vec<u8>> {
        let mut command = Command::new("sh");
        let line = format!("head -c 300000 /dev/zero | {} {way} {kind} {offset} cat", mangle.display());
        Ok(run_limited(command.args(["-c", &line]), process::HANG)?.stdout)
    };
    for way in ["in", "out"] {
        let flipped = through(way, "flip", "70000")?;
        let spoilt: Vec<usize> =
            flipped.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i).collect();
        assert_eq!((flipped.len(), spoilt), (300_000, vec![70_000]));
        assert_eq!(through(way, "cut", "70000")?.len(), 70_000);
        let noise = through(way, "noise", "299000")?;
        assert!(noise[..299_000].iter().all(|b| *b == 0) && noise[299_000..].iter().any(|b| *b != 0));
        assert!(through(way, "repeat", "100")?.len() > 300_000);
        assert_eq!(through(way, "stop", "100")?.len(), 100);
        assert_eq!(through(way, "flip", "900000")?, vec![0; 300_000]);
    }
    Ok(())
}
