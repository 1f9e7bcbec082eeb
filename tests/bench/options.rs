//! The command line: raw flags in, checked options out.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::rows::{ROWS, Row};
use crate::shape::Shape;

/// What is to be measured, and where.
pub(crate) struct Options {
    /// The spool.
    pub(crate) shape: Shape,
    /// The first seed; each round takes the next.
    pub(crate) seed: u64,
    /// How often everything is done.
    pub(crate) rounds: usize,
    /// What is measured; the first backup always is.
    pub(crate) rows: Vec<Row>,
    /// Which tools beside ours; all that are installed if empty.
    pub(crate) tools: Vec<String>,
    /// The disk to work on; the system's folder for temporary files if there is none.
    pub(crate) folder: Option<PathBuf>,
    /// Write a spool there and do nothing else.
    pub(crate) spool_only: Option<PathBuf>,
    /// JSON lines instead of tables.
    pub(crate) json: bool,
    /// `levels`: every level with every block size and threshold, not only one at a time.
    pub(crate) all: bool,
    /// `passes`: the largest spool.
    pub(crate) passes_up_to: usize,
}

impl Options {
    /// Reads the flags that stand in the head of `main.rs`.
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            shape: Shape::of_set("S")?,
            seed: 17,
            rounds: 1,
            rows: ROWS.to_vec(),
            tools: Vec::new(),
            folder: None,
            spool_only: None,
            json: false,
            all: false,
            passes_up_to: 500_000,
        };
        let (mut messages, mut users) = (None, None);
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let mut value = || args.next().with_context(|| format!("{flag} wants a value"));
            match flag.as_str() {
                "--set" => options.shape = Shape::of_set(value()?)?,
                "--messages" => messages = Some(number(flag, value()?)?),
                "--users" => users = Some(number(flag, value()?)?),
                "--seed" => options.seed = number(flag, value()?)? as u64,
                "--rounds" => options.rounds = number(flag, value()?)?,
                "--rows" => {
                    options.rows = value()?.split(',').map(Row::of_name).collect::<Result<_>>()?;
                    options.rows.extend(needed(&options.rows));
                    options.rows.sort_unstable();
                    options.rows.dedup();
                }
                "--tools" => options.tools = value()?.split(',').map(str::to_owned).collect(),
                "--folder" => options.folder = Some(value()?.into()),
                "--spool" => options.spool_only = Some(value()?.into()),
                "--json" => options.json = true,
                "--up-to" => options.passes_up_to = number(flag, value()?)?,
                "--all" => options.all = true,
                other => bail!("unknown option `{other}`; `mailkeep-bench --help` names them all"),
            }
        }
        if messages.is_some() || users.is_some() {
            let shape = options.shape;
            options.shape = Shape {
                name: "own",
                messages: messages.unwrap_or(shape.messages),
                users: users.unwrap_or(shape.users),
                mail: shape.mail,
            };
        }
        Ok(options)
    }
}

/// The rows without which those asked for have nothing to work on: the newest snapshot is the day's.
fn needed(rows: &[Row]) -> Vec<Row> {
    let mut needed = vec![Row::First];
    if rows.iter().any(|row| !row.is_backup()) {
        needed.push(Row::Day);
    }
    // What it is compared with.
    if rows.contains(&Row::Mount) {
        needed.push(Row::Restore);
    }
    needed
}

fn number(flag: &str, value: &str) -> Result<usize> {
    let number = value.parse().with_context(|| format!("{flag} wants a number, not `{value}`"))?;
    if number == 0 {
        bail!("{flag} wants a number above 0");
    }
    Ok(number)
}
