//! `lab FOLDER [--messages N]`: a real Cyrus on loopback with users, mail and filters in FOLDER/server, and
//! the Mailkeep source file for it in FOLDER/lab.toml. Made at the first call, only started at later ones;
//! stops when standard input ends or `stop` is read. `lab FOLDER --load` adds live load.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mailkeep_tests::cyrus::load::Load;
use mailkeep_tests::cyrus::populate::populate;
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if let Some(why) = cyrus::missing() {
        bail!("{why}");
    }
    let folder = std::path::absolute(&arguments.folder)?;
    let server = open(&folder, arguments.messages)?.kept();
    let source = cyrus_source(&folder.join("lab.toml"), &server, &Options::default())?;
    println!("source {}", source.display());
    println!("imap 127.0.0.1:{}", server.ports().imap);
    println!("ready");
    let load = arguments.load.then(|| Load::start(&server, 2, 1));
    for line in std::io::stdin().lock().lines() {
        if line.context("read standard input")?.trim() == "stop" {
            break;
        }
    }
    if let Some(load) = load {
        println!("load {:?}", load.stop());
    }
    server.stop()
}

/// The server of an earlier call, or a new one with mail.
fn open(folder: &Path, messages: usize) -> Result<Cyrus> {
    let root = folder.join("server");
    let users: Vec<String> = USERS.iter().map(|u| (*u).to_owned()).collect();
    if folder.join("filled").exists() {
        let server = Cyrus::adopt(&root, &root, &users)?;
        server.start()?;
        return Ok(server);
    }
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("remove the half-made {}", root.display()))?;
    }
    let server = Cyrus::create(&root, &USERS, Layout::Uuid)?;
    server.start()?;
    populate(&server, messages, 1)?;
    std::fs::write(folder.join("filled"), messages.to_string())?;
    Ok(server)
}

struct Arguments {
    folder: PathBuf,
    messages: usize,
    load: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut me = Self { folder: PathBuf::new(), messages: 400, load: false };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--messages" => {
                    me.messages = words.next().and_then(|n| n.parse().ok()).context("--messages N")?
                }
                "--load" => me.load = true,
                folder if !folder.starts_with('-') => me.folder = folder.into(),
                other => bail!("unknown option {other}; usage: lab FOLDER [--messages N] [--load]"),
            }
        }
        if me.folder.as_os_str().is_empty() {
            bail!("usage: lab FOLDER [--messages N] [--load]");
        }
        Ok(me)
    }
}
