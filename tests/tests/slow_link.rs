//! Links that are slow, that break, and that belong to others too: what crossed once and is on the disk never crosses
//! again, limits are kept while mail runs, a slow link carries compressed mail, and reading goes behind everything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process::{self, Output, Running, descendants};
use mailkeep_tests::proxy::Proxy;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::ssh::{self, Sshd};
use mailkeep_tests::tree;
use serde_json::Value;

/// A pack is closed when it has reached this length.
const PACK: u64 = 32 << 20;

/// A tree behind a real sshd, by way of a relay.
struct Lab {
    proxy: Proxy,
    _sshd: Sshd,
    rig: Rig,
    folder: PathBuf,
    source: PathBuf,
    home: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Option<Lab>> {
        if let Some(why) = ssh::missing() {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let folder = home.path().join("tree");
        fs::create_dir(&folder)?;
        let sshd = Sshd::start(&home.path().join("ssh"))?;
        let proxy = Proxy::to(sshd.port())?;
        let key = fs::read_to_string(sshd.known_hosts())?;
        fs::write(
            sshd.known_hosts(),
            key.replace(&format!("]:{} ", sshd.port()), &format!("]:{} ", proxy.port())),
        )?;
        let source = generic_source(&home.path().join("tree.toml"), "tree", &folder, "")?;
        let way = format!(
            "kind = \"ssh\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\nidentity-file = \"{}\"\nknown-hosts-file = \"{}\"",
            proxy.port(),
            sshd.identity().display(),
            sshd.known_hosts().display()
        );
        let text = fs::read_to_string(&source)?;
        ensure!(text.contains("kind = \"local\""), "{text}");
        fs::write(&source, text.replace("kind = \"local\"", &way))?;
        Ok(Some(Lab { proxy, _sshd: sshd, rig, folder, source, home }))
    }

    /// Bytes of complete packs on the disk.
    fn durable(&self) -> Result<u64> {
        let mut sum = 0;
        for folder in fs::read_dir(self.rig.repository().join("packs"))? {
            for pack in fs::read_dir(folder?.path())? {
                sum += pack?.metadata()?.len();
            }
        }
        Ok(sum)
    }

    /// Lets so many bytes cross, waits until so many of them are durable and none moves any more, and strikes.
    fn break_off(&self, bytes: u64, durable: u64, strike: impl FnOnce(&mut Running)) -> Result<Output> {
        self.proxy.pass_only(Some(bytes));
        let mut backup = Running::spawn(&mut self.rig.backup_command(&self.source))?;
        let mut naps = 0;
        while self.durable()? < durable {
            std::thread::sleep(Duration::from_millis(20));
            naps += 1;
            if backup.ended()? || naps > 10_000 {
                let said = backup.wait(process::HANG)?;
                bail!("the backup ended before it was struck: {}", said.err());
            }
        }
        strike(&mut backup);
        let output = backup.wait(process::HANG)?;
        self.proxy.pass_only(None);
        Ok(output)
    }

    /// Backs up to the end; gives the summary and the bytes that crossed the link.
    fn finish(&self) -> Result<(Value, u64)> {
        let before = self.proxy.passed();
        // The run before may still be ending: its lock goes with its process, which is awaited; its agent needs nothing.
        let summary = self.rig.good_backup(&self.source)?;
        Ok((summary, self.proxy.passed() - before))
    }

    fn restores_equal(&self, summary: &Value) -> Result<()> {
        let target = self.home.path().join("restored");
        let restored = self.rig.restore(&id(summary)?, &target, &self.folder)?;
        let difference = tree::difference(&tree::facts(&self.folder)?, &tree::facts(&restored)?);
        fs::remove_dir_all(&target)?;
        difference.map_or(Ok(()), |difference| bail!("source (left), restored (right): {difference}"))
    }
}

/// Files of noise, which nothing compresses.
fn noise(folder: &Path, files: usize, length: usize, rng: &mut Rng) -> Result<u64> {
    for number in 0..files {
        let folder = folder.join(format!("{}", number % 7));
        fs::create_dir_all(&folder)?;
        let mut data = vec![0; length];
        rng.fill(&mut data);
        fs::write(folder.join(format!("{number}.")), data)?;
    }
    Ok((files * length) as u64)
}

/// Hazard 26: what was durable when box, link or agent went never crosses the link again.
#[test]
fn what_is_on_the_disk_never_crosses_the_link_again() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let (mut rng, seed) = Rng::of_run();
    let total = noise(&lab.folder, 230, 500_000, &mut rng)?;

    // The box dies with one pack named; what it was filling is lost.
    let killed = lab.break_off(PACK + (6 << 20), PACK, Running::kill_alone)?;
    ensure!(killed.code == 137, "exit {} of a box that was killed, seed {seed}", killed.code);
    let first = lab.durable()?;
    ensure!((PACK..2 * PACK).contains(&first), "{first} bytes are durable");

    // The link is cut with one more; what had come of the next is kept.
    let cut = lab.break_off(PACK + (12 << 20), first + PACK, |_| lab.proxy.cut())?;
    ensure!(cut.code == 75, "exit {} of a link that was cut, seed {seed}: {}", cut.code, cut.err());
    let second = lab.durable()?;
    ensure!(second > first + PACK, "of {second} bytes {first} were there before");

    let (summary, crossed) = lab.finish()?;
    let sent = summary["passes"][0]["bytes_sent"].as_u64().context("bytes_sent")?;
    let lacking = total - second.min(total);
    let context = format!(
        "total {total}, durable {first} and {second}, then sent {sent}, crossed {crossed}, seed {seed}"
    );
    eprintln!("{context}");
    // Names, hashes and encryption come on top of the contents.
    ensure!(sent <= lacking + (1 << 20), "{context}");
    ensure!(crossed <= lacking + total / 50 + (2 << 20), "{context}");
    ensure!(summary["bytes"] == total, "{context}: {summary}");
    lab.restores_equal(&summary)?;
    lab.rig.verify_all()
}

/// A slow link carries compressed mail, and what comes out is the same.
#[test]
fn a_slow_link_carries_less_than_was_said() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let (mut rng, _) = Rng::of_run();
    for number in 0..2400 {
        let words: Vec<String> = (0..600).map(|_| format!("word{}", rng.below(5_000))).collect();
        fs::write(lab.folder.join(format!("{number}.")), words.join(" "))?;
    }
    lab.proxy.throttle(40_000_000);
    let (summary, crossed) = lab.finish()?;
    let bytes = summary["bytes"].as_u64().context("bytes")?;
    eprintln!("{bytes} bytes of files crossed as {crossed}");
    ensure!(crossed < bytes * 7 / 10, "{crossed} bytes crossed the link for {bytes} bytes of text");
    lab.restores_equal(&summary)?;
    lab.rig.verify_all()
}

/// No clock but the run's own, and only from below: a machine that stands still makes a run longer, never shorter.
#[test]
fn limits_are_kept_while_mail_runs() -> Result<()> {
    let home = tempfile::tempdir()?;
    let folder = home.path().join("tree");
    let (mut rng, _) = Rng::of_run();
    let bytes = noise(&folder, 200, 50_000, &mut rng)?;
    let expected = bytes as f64 / 8_000_000.0 - 0.3;
    let plain = generic_source(&home.path().join("tree.toml"), "tree", &folder, "")?;
    let text = fs::read_to_string(&plain)?;
    let read = home.path().join("read.toml");
    fs::write(&read, format!("{text}\n[limits]\nread = \"8 MB/s\"\n"))?;
    let link = home.path().join("link.toml");
    fs::write(&link, format!("{text}\n[limits]\nbandwidth = \"64 Mbit/s\"\n"))?;
    for (name, source, flag) in
        [("read", &read, None), ("bandwidth", &link, None), ("flag", &link, Some("16 Mbit/s"))]
    {
        let home = home.path().join(name);
        fs::create_dir(&home)?;
        let rig = Rig::new(&home)?;
        let mut command = rig.backup_command(source);
        flag.into_iter().for_each(|rate| {
            command.args(["--limit-download", rate]);
        });
        let output = process::run(&mut command)?.expect_code("mailkeep backup", 0)?;
        let summary = mailkeep_tests::programs::json_line(&output.out(), "summary")?;
        let seconds = summary["passes"][0]["seconds"].as_f64().context("seconds")?;
        // The flag goes before the file, and is a quarter of it.
        let expected = if flag.is_some() { expected * 4.0 } else { expected };
        ensure!(seconds >= expected, "{name}: {bytes} bytes in {seconds} s instead of at least {expected} s");
    }
    Ok(())
}

/// The threads that read while mail runs let everything else go first, on processor and disk.
#[test]
fn reading_goes_behind_everything_else() -> Result<()> {
    if !process::have("ionice") {
        return process::skip("ionice is missing: install util-linux");
    }
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let folder = home.path().join("tree");
    noise(&folder, 40, 500_000, &mut Rng::of_run().0)?;
    let source = generic_source(&home.path().join("tree.toml"), "tree", &folder, "")?;
    let mut command = rig.backup_command(&source);
    // So slow that the pass does not end before it was looked at.
    let mut backup = Running::spawn(command.args(["--limit-download", "64 kbit/s"]))?;
    let mut naps = 0;
    let readers = loop {
        let threads =
            descendants(backup.pid()).iter().flat_map(|process| threads(process.pid)).collect::<Vec<_>>();
        let readers: Vec<_> = threads.into_iter().filter(|(_, name)| name.starts_with("read-")).collect();
        if readers.len() >= 2 {
            break readers;
        }
        naps += 1;
        ensure!(!backup.ended()? && naps < 10_000, "no threads that read were seen");
        std::thread::sleep(Duration::from_millis(20));
    };
    for (thread, name) in &readers {
        let stat = fs::read_to_string(format!("/proc/{thread}/stat"))?;
        // Field 19, behind the name in brackets.
        let nice = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16));
        ensure!(nice == Some("19"), "{name} has nice {nice:?}");
        let class = process::run(std::process::Command::new("ionice").args(["-p", &thread.to_string()]))?;
        ensure!(class.out().trim() == "idle", "{name} reads with I/O class {}", class.out());
    }
    backup.kill_group();
    backup.wait(process::HANG).map(drop)
}

/// Threads of a process with their names.
fn threads(pid: u32) -> Vec<(u32, String)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let named = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((id, name.trim().to_owned()))
    };
    tasks.filter_map(named).collect()
}
