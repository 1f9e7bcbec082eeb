//! The measuring itself: in every round a fresh spool and fresh repositories, and in every row one tool after the other.
//!
//! The tools take turns in who begins. Before each run the disk has written out what the one before left behind
//! (`sync`), spool and repository lie in the page cache, and free memory has just been touched ([`fetch_memory`]), for
//! everyone alike. What a tool has restored is compared with the spool by count and bytes; a run that fails is told on
//! stderr and has no figure.
//!
//! Nothing is deleted while there is anything left to measure (as long as the disk has room): on ext4 without a journal
//! inodes that were freed in the last minutes are passed over one by one, at the cost of whoever makes files next, which
//! was up to as much again as the restore itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::measure::{self, Cost};
use crate::mounted;
use crate::options::Options;
use crate::results::{Results, Run};
use crate::rows::Row;
use crate::spool::{self, Spool};
use crate::tools::{OURS, Tool};

/// Does all rounds.
pub(crate) fn run(options: &Options) -> Result<Results> {
    let scratch = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .context("make a work folder")?;
    let mut results = Results::default();
    for round in 0..options.rounds {
        let work = scratch.path().join(format!("round{round}"));
        let before = free_bytes(scratch.path())?;
        run_round(options, round, &work, &mut results)?;
        let after = free_bytes(scratch.path())?;
        if after < 2 * before.saturating_sub(after) {
            fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        }
    }
    Ok(results)
}

fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder).with_context(|| format!("free space of {}", folder.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn run_round(options: &Options, round: usize, work: &Path, results: &mut Results) -> Result<()> {
    let mut spool = Spool::create(&work.join("spool"), options.shape, options.seed + round as u64)?;
    let content = spool::content(spool.root())?;
    let (messages, megabytes) = (options.shape.messages, content.bytes as f64 / 1e6);
    eprintln!("round {round}, set {}: {messages} messages, {megabytes:.0} MB", options.shape.name);
    let (tools, missing) = Tool::all(&options.tools, work, spool.root(), &spool.one_folder())?;
    results.tools = tools.iter().map(Tool::name).collect();
    results.missing = missing;
    for tool in &tools {
        fs::create_dir_all(tool.place.target())?;
        for line in tool.init()? {
            measure::run(&line, &tool.env(), &tool.place.target())?;
        }
    }
    let mut broken: Vec<&str> = Vec::new();
    for (number, &row) in options.rows.iter().enumerate() {
        if row == Row::Day {
            let day = spool.day()?;
            let (added, expunged, megabytes) = (day.added, day.expunged, day.bytes as f64 / 1e6);
            eprintln!("a day: {added} new, {expunged} expunged, {megabytes:.1} MB of new mail");
            // A day's mail is not all of the last two seconds; what is, is read twice by whoever is careful.
            std::thread::sleep(Duration::from_secs(3));
        }
        spool::warm(spool.root())?;
        for turn in 0..tools.len() {
            let tool = &tools[(turn + round + number) % tools.len()];
            let lines = tool.steps(row);
            if lines.is_empty() || broken.contains(&tool.name()) {
                continue;
            }
            match measure_row(tool, row, &lines, &spool) {
                Ok((cost, before, after)) => {
                    let Cost { cpu, wall, peak_mib, .. } = cost;
                    eprintln!(
                        "  {:<10} {:<9} {cpu:8.3} s CPU {wall:8.2} s {peak_mib:6.0} MiB {:9.1} MB in all",
                        row.name(),
                        tool.name(),
                        after as f64 / 1e6
                    );
                    let (set, tool) = (options.shape.name, tool.name());
                    results.runs.push(Run { set, round, row, tool, cost, before, after });
                }
                Err(error) => {
                    put_aside(&tool.place.target())?;
                    eprintln!("  {:<10} {:<9} failed: {error:#}", row.name(), tool.name());
                    ensure!(tool.name() != OURS || row != Row::First, "nothing to compare with");
                    // Without its backup there is nothing to restore.
                    if row.is_backup() {
                        broken.push(tool.name());
                    }
                }
            }
        }
    }
    Ok(())
}

/// One tool's run of one row, and the bytes of its repository before and after.
fn measure_row(tool: &Tool, row: Row, lines: &[Vec<String>], spool: &Spool) -> Result<(Cost, u64, u64)> {
    let (target, repository) = (tool.place.target(), tool.place.repository());
    let before = if repository.exists() { spool::content(&repository)?.bytes } else { 0 };
    if !row.is_backup() {
        spool::warm(&repository)?;
    }
    if row == Row::FirstLs {
        rustix::fs::sync();
        mounted::chill(&repository)?;
    }
    rustix::fs::sync();
    fetch_memory();
    let mut cost = Cost::default();
    for line in lines {
        cost = cost.then(measure::run(line, &tool.env(), &target)?);
    }
    let after = spool::content(&repository)?.bytes;
    if row == Row::Mount {
        let (wanted, got) = (spool::content(spool.root())?, fs::read_to_string(tool.place.told())?);
        ensure!(got.trim() == format!("{} {}", wanted.files, wanted.bytes), "read {got} of {wanted:?}");
    }
    if row.is_restore() {
        let wanted = match row {
            Row::Folder => spool::content(&spool.root().join(spool.one_folder()))?,
            _ => spool::content(spool.root())?,
        };
        let got = spool::content(&target)?;
        ensure!(got == wanted, "restored {got:?} instead of {wanted:?}");
        put_aside(&target)?;
    }
    Ok((cost, before, after))
}

/// Bytes of free memory that are taken and given back before a run: the page cache and the processes of the costliest row.
const FETCHED: usize = 1 << 30;

/// Takes free memory and gives it back. A virtual machine that reports its free pages has lost them to its host by the next
/// run, and whoever is the first to touch them pays for each: about a quarter of a second of system time in a first backup of
/// 600 MB after twelve seconds of rest. Who begins a round pays about half a second more than the others; this takes away
/// that part of it whose cause is known, the rest of it stays, which is why the tools take turns.
fn fetch_memory() {
    let mut memory: Vec<u8> = Vec::new();
    // Where there is not so much, the round is what it was.
    if memory.try_reserve_exact(FETCHED).is_ok() {
        memory.resize(FETCHED, 1);
        std::hint::black_box(&memory);
    }
}

/// Leaves an empty folder in the place of what was restored, whether it is complete or what a run that failed has left
/// behind. What was restored stays beside it.
fn put_aside(folder: &Path) -> Result<()> {
    let aside = |number: u32| folder.with_extension(number.to_string());
    let free = (0..).map(aside).find(|path| !path.exists()).context("a free name")?;
    fs::rename(folder, &free).with_context(|| format!("put {} aside", folder.display()))?;
    fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))
}
