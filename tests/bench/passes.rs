//! `mailkeep-bench passes`: what the final pass costs when the same few mails came on spools of different sizes.
//!
//! For each size a spool of tiny mails is made, backed up, and backed up again, with 500 new mails and 150 expunged
//! between the live and the final pass: the stop command waits while they are made, so that making them is not measured.
//! The final pass is that run less one that makes a live pass alone, of both the cheapest of several. `rsync -a` onto a full copy
//! is measured beside it, on the same disk and without the cost of ssh. `window s` is how long mail was away in that run,
//! without what its stop and start commands took; the run is held to 10 Mbit/s. `peak MiB` is what box and agent held
//! together, `agent MiB` the agent alone, which keeps the final pass while mail is stopped.
//!
//! Then all of it once more over a real sshd on this machine (`final ssh s`, `rsync ssh s`), with as large a change: of both
//! tools both ends count, ssh and sshd among them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mailkeep_tests::process::{have, run as run_quietly, write_script};
use mailkeep_tests::programs;
use mailkeep_tests::ssh::{self, Sshd};

use crate::measure::{self, Cost};
use crate::options::Options;

/// Messages of the spools.
const SIZES: [usize; 3] = [20_000, 100_000, 500_000];
/// Folders that the new mail goes to; the expunged come from the same.
const TOUCHED: usize = 25;
const NEW: usize = 500;
const EXPUNGED: usize = 150;
/// Messages of a folder where there are as many folders as messages ask for.
const IN_A_FOLDER: usize = 500;
/// Folders where there is the same number of them at every size.
const FIXED_FOLDERS: usize = 100;
/// Live passes of which the cheapest is the baseline: what else the machine does can only make one dearer.
const BASELINES: usize = 3;
/// Runs with the change, of which the cheapest counts as well.
const FINALS: usize = 3;
/// Older than what the clock of a file system could hide.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a stop command may take to be heard.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the link carries in the run with the window.
const LINK: &str = "10 Mbit/s";

/// Measures and prints a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let work = options.folder.clone().unwrap_or_else(std::env::temp_dir).join("mailkeep-passes");
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size <= options.passes_up_to).collect();
    measure::adopt()?;
    println!(
        "folders       messages  live s  final s  final to first  rsync s  final to rsync  peak MiB  agent MiB  window s  \
         final ssh s  rsync ssh s  final to rsync"
    );
    for fixed in [false, true] {
        let mut first = None;
        for &size in &sizes {
            let folders = if fixed { FIXED_FOLDERS } else { size / IN_A_FOLDER };
            let done = one(&work, size, folders);
            let removed = fs::remove_dir_all(&work);
            let Measured { live, last, rsync, window, over_ssh } = done?;
            removed.with_context(|| format!("remove {}", work.display()))?;
            let first = *first.get_or_insert(last.cpu);
            let text =
                |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.3}"));
            let ratio = |last: f64, rsync: Option<f64>| {
                rsync.map_or("-".into(), |rsync| format!("{:.3}", last / rsync))
            };
            let (last_ssh, rsync_ssh) = over_ssh.map_or((None, None), |(last, rsync)| (Some(last), rsync));
            println!(
                "{folders:>7} {} {size:>8}  {live:6.3}  {:7.3}  {:14.2}  {:>7}  {:>14}  {:8.0}  {:9.1}  {window:8.3}  \
                 {:>11}  {:>11}  {:>14}",
                if fixed { "same" } else { "    " },
                last.cpu,
                last.cpu / first,
                text(rsync),
                ratio(last.cpu, rsync),
                last.peak_mib,
                last.agent_mib,
                text(last_ssh),
                text(rsync_ssh),
                last_ssh.map_or("-".into(), |last| ratio(last, rsync_ssh)),
            );
        }
    }
    Ok(())
}

struct Measured {
    live: f64,
    last: Cost,
    rsync: Option<f64>,
    /// Seconds that mail was away, without its own stop and start.
    window: f64,
    /// Over ssh: the final pass, and rsync.
    over_ssh: Option<(f64, Option<f64>)>,
}

fn one(work: &Path, messages: usize, folders: usize) -> Result<Measured> {
    let spool = work.join("spool");
    make(&spool, messages, folders)?;
    let at = |name: &str| work.join(name);
    write_script(
        &at("stop"),
        &format!(
            "#!/bin/sh\nrm {running}\n: > {asked}\nread word < {changed}\n",
            running = at("running").display(),
            asked = at("asked").display(),
            changed = at("changed").display()
        ),
    )?;
    write_script(&at("start"), &format!("#!/bin/sh\n: > {}\n", at("running").display()))?;
    write_script(&at("runs"), &format!("#!/bin/sh\ntest -e {}\n", at("running").display()))?;
    fs::write(at("running"), "")?;
    // The stop command waits at a pipe: one that looked again and again would be measured too, the longer the machine is busy.
    run_quietly(Command::new("mkfifo").arg(at("changed")))?.expect_code("mkfifo", 0)?;
    let source = |transport: &str| {
        format!(
            "name = \"passes\"\nsystem = \"generic\"\noutage-budget = \"10m\"\n[transport]\n{transport}\n\
             [generic]\npaths = [{spool:?}]\nwrite-once = [\"[1-9]*.\"]\n\
             [quiesce]\nmode = \"command\"\nstop = [{:?}]\nstart = [{:?}]\nrunning = [{:?}]\n",
            at("stop"),
            at("start"),
            at("runs")
        )
    };
    fs::write(at("source.toml"), source("kind = \"local\""))?;
    let text = |path: PathBuf| path.display().to_string();
    let env = [
        ("MAILKEEP_REPO", text(at("repo"))),
        ("MAILKEEP_KEY_FILE", text(at("box.key"))),
        ("MAILKEEP_AGENT_STATE", text(at("agent"))),
        ("XDG_CONFIG_HOME", text(at("config"))),
        ("HOME", text(work.to_owned())),
    ];
    let program = text(programs::bin("mailkeep")?);
    let line = |words: &[&str]| {
        std::iter::once(program.clone())
            .chain(words.iter().map(|word| (*word).to_owned()))
            .collect::<Vec<_>>()
    };
    let (source_file, recovery) = (text(at("source.toml")), text(at("recovery")));
    measure::run(&line(&["init", "--recovery-out", &recovery]), &env, work)?;
    std::thread::sleep(SETTLE);
    let live_only = line(&["backup", "-q", "--live-only", "--source", &source_file]);
    measure::run(&live_only, &env, work)?;
    let copy = at("copy");
    let sync = |from: &str, more: &[String]| {
        let from = format!("{from}{}/", spool.display());
        let mut line = vec!["rsync".to_owned(), "-a".into(), "--delete".into()];
        line.extend_from_slice(more);
        line.extend([from, format!("{}/", copy.display())]);
        line
    };
    let has_rsync = have("rsync");
    if has_rsync {
        measure::run(&sync("", &[]), &[], work)?;
    }
    let mut live = f64::INFINITY;
    for _ in 0..BASELINES {
        live = live.min(measure::run(&live_only, &env, work)?.cpu);
    }
    let backup = |source: &str| line(&["backup", "-q", "--limit-download", LINK, "--source", source]);
    // Its live pass is as cheap as the one before; its final pass finds the change.
    let mut last: Option<Cost> = None;
    let mut rsync: Option<f64> = None;
    for round in 0..FINALS {
        if round > 0 {
            // What the round before has touched is at rest, and found to be.
            std::thread::sleep(SETTLE);
            measure::run(&live_only, &env, work)?;
        }
        let run = || measure::run(&backup(&source_file), &env, work);
        let with_window = changed_meanwhile(work, &spool, round, run)?;
        let this = Cost { cpu: with_window.cpu - live, ..with_window };
        last = Some(match last {
            Some(before) => Cost {
                cpu: before.cpu.min(this.cpu),
                peak_mib: before.peak_mib.max(this.peak_mib),
                agent_mib: before.agent_mib.max(this.agent_mib),
                ..this
            },
            None => this,
        });
        if has_rsync {
            let this = measure::run(&sync("", &[]), &[], work)?.cpu;
            rsync = Some(rsync.unwrap_or(f64::INFINITY).min(this));
        }
    }
    let last = last.context("no run with a window")?;
    let window = window(&line(&["show", "latest", "--json"]), &env)?;
    if let Some(why) = ssh::missing() {
        eprintln!("nothing over ssh: {why}");
        return Ok(Measured { live, last, rsync, window, over_ssh: None });
    }

    let sshd =
        Sshd::start_with(&at("sshd"), &format!("SetEnv MAILKEEP_AGENT_STATE={}\n", at("agent").display()))?;
    let agent = programs::bin("mailkeep-agent")?;
    let transport = format!(
        "kind = \"ssh\"\nhost = \"127.0.0.1\"\nuser = \"root\"\nport = {}\nidentity-file = {:?}\n\
         known-hosts-file = {:?}\nagent-path = {agent:?}",
        sshd.port(),
        sshd.identity(),
        sshd.known_hosts(),
    );
    let source_file = text(at("ssh.toml"));
    fs::write(&source_file, source(&transport))?;
    let live_only = line(&["backup", "-q", "--live-only", "--source", &source_file]);
    // What the agent goes by is in the source file, which is another one: everything is listed once.
    std::thread::sleep(SETTLE);
    measure::run(&live_only, &env, work)?;
    let mut live_ssh = f64::INFINITY;
    for _ in 0..BASELINES {
        let run = || measure::run(&live_only, &env, work);
        live_ssh = live_ssh.min(measure::with_far_end(sshd.pid(), run)?.cpu);
    }
    let mut last_ssh = f64::INFINITY;
    let mut rsync_ssh: Option<f64> = None;
    for round in FINALS..2 * FINALS {
        if round > FINALS {
            std::thread::sleep(SETTLE);
            measure::run(&live_only, &env, work)?;
        }
        let with_window = measure::with_far_end(sshd.pid(), || {
            changed_meanwhile(work, &spool, round, || measure::run(&backup(&source_file), &env, work))
        })?;
        last_ssh = last_ssh.min(with_window.cpu - live_ssh);
        if !has_rsync {
            continue;
        }
        let shell = format!(
            "ssh -F none -p {} -i {} -o UserKnownHostsFile={} -o BatchMode=yes",
            sshd.port(),
            sshd.identity().display(),
            sshd.known_hosts().display()
        );
        let rsync = sync("root@127.0.0.1:", &["-e".into(), shell]);
        let this = measure::with_far_end(sshd.pid(), || measure::run(&rsync, &[], work))?.cpu;
        rsync_ssh = Some(rsync_ssh.unwrap_or(f64::INFINITY).min(this));
    }
    Ok(Measured { live, last, rsync, window, over_ssh: Some((last_ssh, rsync_ssh)) })
}

/// Runs a backup, and changes the spool when mail is stopped in it.
fn changed_meanwhile(
    work: &Path,
    spool: &Path,
    round: usize,
    backup: impl FnOnce() -> Result<Cost>,
) -> Result<Cost> {
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| -> Result<()> {
            let (begun, asked) = (Instant::now(), work.join("asked"));
            while !asked.exists() {
                ensure!(begun.elapsed() < PATIENCE, "mail was never stopped");
                std::thread::sleep(Duration::from_millis(20));
            }
            let changed = change(spool, round);
            fs::remove_file(asked)?;
            fs::write(work.join("changed"), "changed\n")?;
            changed
        });
        let cost = backup();
        let changed =
            changer.join().unwrap_or_else(|_| anyhow::bail!("the thread that changes the spool died"));
        changed.and(cost)
    })
}

/// Of the newest snapshot: the window less the stop and the start, in seconds.
fn window(show: &[String], env: &[(&str, String)]) -> Result<f64> {
    let mut command = Command::new(&show[0]);
    command.args(&show[1..]).envs(env.iter().map(|(name, value)| (name, value)));
    let shown = run_quietly(&mut command)?.expect_code("mailkeep show", 0)?.out();
    let shown: serde_json::Value = serde_json::from_str(&shown).context("what `mailkeep show` said")?;
    let millis = |name: &str| shown["window"][name].as_u64().with_context(|| format!("no {name}: {shown}"));
    Ok((millis("total_ms")? - millis("stop_ms")? - millis("start_ms")?) as f64 / 1e3)
}

fn folder(spool: &Path, number: usize) -> PathBuf {
    spool.join(format!("user{:04}", number / 3)).join(["INBOX", "Sent", "Archive"][number % 3])
}

fn make(spool: &Path, messages: usize, folders: usize) -> Result<()> {
    let each = messages / folders;
    for number in 0..folders {
        let folder = folder(spool, number);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        for uid in 1..=each {
            let mail = format!("From: a@b\r\nSubject: {number} {uid}\r\n\r\n{}\r\n", uid * 7919);
            fs::write(folder.join(format!("{uid}.")), mail)?;
        }
        for name in ["cyrus.header", "cyrus.index", "cyrus.cache"] {
            fs::write(folder.join(name), format!("{name} {number}"))?;
        }
    }
    Ok(())
}

/// The same change whatever there is, once for each round.
fn change(spool: &Path, round: usize) -> Result<()> {
    let (first_new, first_expunged) = (900_000 + round * NEW, 1 + round * EXPUNGED / TOUCHED);
    for number in 0..NEW {
        let folder = folder(spool, number % TOUCHED);
        let mail = format!("From: a@b\r\nSubject: new {round} {number}\r\n\r\n{}\r\n", "day ".repeat(200));
        fs::write(folder.join(format!("{}.", first_new + number)), mail)?;
    }
    for number in 0..EXPUNGED {
        let uid = first_expunged + number / TOUCHED;
        fs::remove_file(folder(spool, number % TOUCHED).join(format!("{uid}.")))?;
    }
    for number in 0..TOUCHED {
        let text = format!("cyrus.index {number} changed {round}");
        fs::write(folder(spool, number).join("cyrus.index"), text)?;
    }
    Ok(())
}
