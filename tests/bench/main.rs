//! `make bench`: Mailkeep beside the peers that are installed, on generated spools, in interleaved runs: first backup, no
//! change, a day's change, restore, one folder, a mount, verify, prune; CPU, wall, memory, size; and what targets that
//! reaches.
//!
//! `mailkeep-bench [--set XS|S|M|L|blast] [--rounds N] [--rows first,day,…] [--tools restic,borg,…] [--folder DIR]
//! [--seed N] [--messages N] [--users N] [--json]`. All works below one folder on one disk (`--folder`, else the system's
//! folder for temporary files): L needs 20 GB. Peers are taken from the folder `MAILKEEP_PEERS` or from PATH.
//!
//! `mailkeep-bench levels [--set …] [--messages N] [--all]` measures zstd levels, block sizes and the length from which a
//! chunk has a block of its own; `mailkeep-bench passes [--up-to MESSAGES]` what the final pass costs on 20,000, 100,000 and
//! 500,000 mails (5 GB for the last); `mailkeep-bench --spool DIR [--messages N] [--users N]` only writes a spool.

mod levels;
mod measure;
mod mounted;
mod options;
mod passes;
mod results;
mod rounds;
mod rows;
mod shape;
mod spool;
mod table;
mod targets;
mod text;
mod tools;

use anyhow::Result;
use options::Options;
use spool::Spool;

/// What `--help` says.
const USAGE: &str = "\
usage: mailkeep-bench [--set XS|S|M|L|blast] [--rounds N] [--rows ROW,…] [--tools TOOL,…]
                      [--folder DIR] [--seed N] [--messages N] [--users N] [--json]
       mailkeep-bench levels [--set …] [--messages N] [--all]
       mailkeep-bench passes [--up-to MESSAGES]
       mailkeep-bench --spool DIR [--set …] [--messages N] [--users N]

Mailkeep beside the backup tools that are installed, on generated mail spools.

rows:  first, no-change, day, restore, folder, first-ls, mount, verify, prune
tools: restic, borg, bupstash, rustic, rsync; from the folder MAILKEEP_PEERS or from PATH
All work is done below one folder on one disk (--folder, else TMPDIR): set L needs 20 GB.
levels   zstd levels, block sizes, and how long a chunk must be for a block of its own
passes   what the final pass costs on 20,000, 100,000 and 500,000 mails
--spool  only writes a spool";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--mounted") => return mounted::look(&args[1..]),
        Some("--measure") => return measure::measure_self(&args[1..]),
        _ if args.iter().any(|arg| arg == "-h" || arg == "--help") => {
            println!("{USAGE}");
            return Ok(());
        }
        Some("passes") => return passes::run(&Options::parse(&args[1..])?),
        Some("levels") => return levels::run(&Options::parse(&args[1..])?),
        _ => {}
    }
    let options = Options::parse(&args)?;
    if let Some(folder) = &options.spool_only {
        Spool::create(folder, options.shape, options.seed)?;
        return Ok(());
    }
    let results = rounds::run(&options)?;
    let verdicts = targets::judge(&results, options.shape.name);
    if !options.json {
        table::print(&options, &results, &verdicts);
        return Ok(());
    }
    for run in &results.runs {
        println!("{}", serde_json::to_string(run)?);
    }
    for verdict in &verdicts {
        println!("{}", serde_json::to_string(verdict)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_help_names_every_row() {
        for row in crate::rows::ROWS {
            assert!(super::USAGE.contains(row.name()), "{}", row.name());
        }
    }
}
