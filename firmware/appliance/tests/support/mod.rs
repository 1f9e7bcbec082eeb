//! The whole daemon on the bench board: hands that write lines, eyes that read them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mailkeep_appliance::Config;
use mailkeep_appliance::disk_set::DiskSet;
use mailkeep_appliance::engine::Engine;
use mailkeep_board::bench::Bench;
use mailkeep_board::{Board, Layout};

/// Longest wait for a line; only reached when a test fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running box, its hands and its eyes.
pub(crate) struct Box1 {
    hands: UnixStream,
    eyes: mpsc::Receiver<String>,
    daemon: Option<JoinHandle<()>>,
    /// All lines so far.
    pub(crate) seen: Vec<String>,
}

impl Box1 {
    /// Writes a configuration into `folder` for a box with the bench disks `d1` and `d2` and one source `tree`, and starts
    /// the box. `extra` comes after the disks.
    pub(crate) fn start(folder: &Path, extra: &str, engine: impl FnOnce(&Config) -> Arc<dyn Engine>) -> Self {
        std::fs::write(
            folder.join("tree.toml"),
            "name = 'tree'\nsystem = 'generic'\n[transport]\nkind = 'local'\n[generic]\npaths = ['/srv']\n",
        )
        .unwrap();
        std::fs::write(
            folder.join("box.toml"),
            format!(
                "[box]\nstate-dir = 'state'\n[board]\nkind = 'bench'\n[board.bench]\ndisks = ['d1', 'd2']\n{extra}\n\
                 [[source]]\nfile = 'tree.toml'\n"
            ),
        )
        .unwrap();
        let config = Config::load(&folder.join("box.toml")).unwrap();
        let engine = engine(&config);
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let set = Arc::new(DiskSet::open(config.state_dir.clone()));
        let (input, hands) = UnixStream::pair().unwrap();
        let (output, paper) = UnixStream::pair().unwrap();
        let (lines, eyes) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if lines.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        let daemon = std::thread::spawn(move || {
            let Layout::Bench(layout) = config.board.clone() else { panic!("no bench") };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let open = |sink| {
                let board = Bench::lines(&layout, sink, BufReader::new(input), paper)?;
                Ok(Box::new(board) as Box<dyn Board>)
            };
            runtime.block_on(mailkeep_appliance::run(config, engine, set, open)).unwrap();
        });
        Self { hands, eyes, daemon: Some(daemon), seen: Vec::new() }
    }

    pub(crate) fn hand(&mut self, line: &str) {
        writeln!(self.hands, "{line}").unwrap();
    }

    fn look(&mut self, wanted: &str) -> &str {
        match self.eyes.recv_timeout(PATIENCE) {
            Ok(line) => self.seen.push(line),
            Err(error) => panic!("waiting for {wanted} ({error}); seen:\n{}", self.seen.join("\n")),
        }
        self.seen.last().unwrap()
    }

    /// Reads on until this line comes.
    pub(crate) fn until(&mut self, wanted: &str) {
        while self.look(wanted) != wanted {}
    }

    /// Reads on until a line comes that has this in it, and gives it.
    pub(crate) fn until_part(&mut self, wanted: &str) -> String {
        while !self.look(wanted).contains(wanted) {}
        self.seen.last().unwrap().clone()
    }

    /// What each lamp showed last, STATUS DISK FAULT, once these are reached.
    pub(crate) fn until_lamps(&mut self, wanted: [&str; 3]) {
        while self.lamps() != wanted {
            self.look(&format!("{wanted:?}"));
        }
    }

    fn lamps(&self) -> [&str; 3] {
        ["STATUS", "DISK", "FAULT"].map(|lamp| {
            let prefix = format!("lamp {lamp} ");
            self.seen.iter().rev().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("")
        })
    }

    /// The patterns that a lamp went through, from the first to the last.
    pub(crate) fn history(&self, lamp: &str) -> Vec<&str> {
        let prefix = format!("lamp {lamp} ");
        self.seen.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    /// Waits for the daemon to have ended by itself.
    pub(crate) fn ended(&mut self) {
        self.daemon.take().unwrap().join().unwrap();
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn end(mut self) {
        self.hand("q");
        self.ended();
    }
}
