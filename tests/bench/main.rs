//! `make bench`: first backup, no change, a day's change, restore, verify and size on a generated spool, Mailkeep beside
//! the peers that are installed, in interleaved runs. Prints seconds, and ratios to Mailkeep.
//!
//! `mailkeep-bench [--messages N] [--users N] [--small] [--rounds N] [--work DIR] [--spool DIR]`; the default is a third of PEERS.md's
//! spool S. All works on one folder on one disk; give `--work` a disk that matters. With `--spool` it only
//! writes a spool there.

mod measure;
mod spool;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use measure::Cost;
use spool::{Shape, Spool};
use tools::{Step, Tool};

struct Options {
    shape: Shape,
    rounds: usize,
    work: Option<PathBuf>,
    spool_only: Option<PathBuf>,
}

/// The rows of the table, in the order in which they are run in each round.
const ROWS: [(&str, Step); 5] = [
    ("first", Step::Backup),
    ("no change", Step::Backup),
    ("day", Step::Backup),
    ("restore", Step::Restore),
    ("verify", Step::Verify),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--measure") {
        return measure::measure_self(&args[1..]);
    }
    let options = parse(&args)?;
    if let Some(folder) = &options.spool_only {
        Spool::create(folder, options.shape, 17)?;
        return Ok(());
    }
    let scratch = match &options.work {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("make a work folder")?;
    let mut costs: BTreeMap<(usize, &str), Vec<Cost>> = BTreeMap::new();
    let mut sizes: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let mut names = Vec::new();
    for round in 0..options.rounds {
        let work = scratch.path().join(format!("round{round}"));
        let mut spool = Spool::create(&work.join("spool"), options.shape, 17 + round as u64)?;
        let source = measure::folder_bytes(spool.root())?;
        eprintln!(
            "round {round}: spool of {} messages, {:.0} MB",
            options.shape.messages,
            source as f64 / 1e6
        );
        let tools = Tool::all(&work, spool.root())?;
        names = tools.iter().map(|tool| tool.name).collect();
        for tool in &tools {
            if let Some(init) = tool.init()? {
                measure::run(&init, &tool.env(), &work)?;
            }
        }
        for (row, (label, step)) in ROWS.into_iter().enumerate() {
            if label == "day" {
                let day = spool.day()?;
                eprintln!(
                    "a day: {} new, {} expunged, {:.1} MB of mail",
                    day.added,
                    day.expunged,
                    day.bytes as f64 / 1e6
                );
            }
            for (index, tool) in tools.iter().enumerate() {
                if !tool.has(step) {
                    continue;
                }
                let _ = fs::remove_dir_all(tool.target());
                fs::create_dir_all(tool.target())?;
                let before = measure::folder_bytes(&tool.repository()).unwrap_or(0);
                // Backups are numbered by their row: borg's restore takes the newest of them.
                let (cost, _) = measure::run(&tool.command(step, row), &tool.env(), &tool.target())?;
                costs.entry((row, tool.name)).or_default().push(cost);
                let after = measure::folder_bytes(&tool.repository())?;
                if label == "first" {
                    sizes.entry((0, tool.name)).or_default().push(after as f64 / 1e6);
                } else if label == "day" {
                    sizes
                        .entry((1, tool.name))
                        .or_default()
                        .push((after.saturating_sub(before)) as f64 / 1e6);
                }
                eprintln!("  {label:<10} {:<10} {:7.2} s CPU, tool {index}", tool.name, cost.cpu);
            }
        }
        fs::remove_dir_all(&work)?;
    }
    print_table("CPU s (user + system)", &names, &costs, |cost| cost.cpu);
    print_table("wall s", &names, &costs, |cost| cost.wall);
    print_table("peak MiB of the largest process", &names, &costs, |cost| cost.peak_mib);
    println!("\nrepository MB{:>22}{}", "", header(&names));
    for (row, label) in ["after the first backup", "growth on the day"].into_iter().enumerate() {
        print_row(label, &names, |name| sizes.get(&(row, name)).map(|values| median(values.clone())));
    }
    println!(
        "\n{} round(s); medians; in brackets the ratio of the peer's figure to Mailkeep's",
        options.rounds
    );
    Ok(())
}

fn print_table(
    title: &str,
    names: &[&str],
    costs: &BTreeMap<(usize, &str), Vec<Cost>>,
    of: impl Fn(&Cost) -> f64,
) {
    println!("\n{title:<35}{}", header(names));
    for (row, (label, _)) in ROWS.into_iter().enumerate() {
        print_row(label, names, |name| {
            costs.get(&(row, name)).map(|all| median(all.iter().map(&of).collect()))
        });
    }
}

fn header(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:>20}")).collect()
}

fn print_row<'a>(label: &str, names: &[&'a str], value: impl Fn(&'a str) -> Option<f64>) {
    let ours = names.first().and_then(|name| value(name));
    let cells: String = names
        .iter()
        .map(|name| match (value(name), ours) {
            (Some(value), Some(ours)) => {
                format!("{:>20}", format!("{value:.2} ({:.2})", value / ours.max(1e-9)))
            }
            _ => format!("{:>20}", "–"),
        })
        .collect();
    println!("{label:<35}{cells}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        shape: Shape { messages: 6_600, users: 50, small_only: false },
        rounds: 1,
        work: None,
        spool_only: None,
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut number = || -> Result<usize> {
            let value = args.next().with_context(|| format!("{flag} wants a number"))?;
            value.parse().with_context(|| format!("{flag} wants a number, not `{value}`"))
        };
        match flag.as_str() {
            "--messages" => options.shape.messages = number()?,
            "--users" => options.shape.users = number()?.max(1),
            "--rounds" => options.rounds = number()?.max(1),
            "--small" => options.shape.small_only = true,
            "--work" => options.work = Some(args.next().context("--work wants a folder")?.into()),
            "--spool" => options.spool_only = Some(args.next().context("--spool wants a folder")?.into()),
            other => bail!("unknown option `{other}`; see the head of tests/bench/main.rs"),
        }
    }
    Ok(options)
}
