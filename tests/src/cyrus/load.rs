//! Live load: threads that append, flag, move, expunge, and create, rename and delete folders all the
//! time, and take a stopped server as a reason to try again, as mail programs do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::imap::{Imap, quoted};
use super::populate::{FOLDERS, SHARED, letter};
use super::server::{ADMIN, Cyrus, PASSWORD};
use crate::mime::imap_date;
use crate::process::HANG;
use crate::rng::Rng;
use crate::words::Words;

/// Pause after each act, so that two cores are left some time for what is tested.
const PAUSE: Duration = Duration::from_millis(4);
/// While it rests, how often it looks whether it is to go on.
const REST: Duration = Duration::from_millis(20);
/// Pause after a lost connection.
const RETRY: Duration = Duration::from_millis(60);

/// Running load; stops when dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    rests: AtomicBool,
    /// Milliseconds after each act.
    pause: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

/// What the load has done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Acts that the server confirmed.
    pub done: u64,
    /// Acts that it answered with NO (a folder that was renamed away…).
    pub refused: u64,
    /// Connections lost or not to be had.
    pub lost: u64,
}

impl Load {
    /// Starts one thread per user, at most `threads`.
    pub fn start(server: &Cyrus, threads: usize, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        shared.pause.store(PAUSE.as_millis() as u64, Ordering::Relaxed);
        let users = server.users().iter().take(threads).enumerate();
        let threads = users
            .map(|(i, user)| {
                let worker = Worker {
                    port: server.ports().imap,
                    user: user.clone(),
                    rng: Rng::new(seed.wrapping_add(i as u64)),
                    words: Words::new(7, 5000),
                    shared: Arc::clone(&shared),
                    folders: 0,
                };
                spawn(move || worker.work())
            })
            .collect();
        Self { shared, threads }
    }

    /// From now on it pauses so long after each act: for tests of many windows, in which the server must not grow from one
    /// to the next.
    pub fn pause(&self, pause: Duration) {
        self.shared.pause.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// From now on it does nothing (but for the act that is under way), or goes on.
    pub fn rest(&self, rests: bool) {
        self.shared.rests.store(rests, Ordering::Relaxed);
    }

    /// What has been done so far.
    pub fn done(&self) -> Done {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Done {
            done: read(&self.shared.done),
            refused: read(&self.shared.refused),
            lost: read(&self.shared.lost),
        }
    }

    /// Waits until `n` more acts have been confirmed; an error when none of them is for [`HANG`].
    pub fn wait_for(&self, n: u64) -> Result<()> {
        let target = self.done().done + n;
        let (mut last, mut since) = (self.done().done, Instant::now());
        while last < target {
            ensure!(since.elapsed() < HANG, "the load does not get {n} acts through: {:?}", self.done());
            sleep(Duration::from_millis(10));
            let now = self.done().done;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Stops and reports.
    pub fn stop(mut self) -> Done {
        self.end();
        self.done()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    port: u16,
    user: String,
    rng: Rng,
    words: Words,
    shared: Arc<Shared>,
    folders: u64,
}

impl Worker {
    fn work(mut self) {
        let mut connection: Option<Imap> = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.shared.rests.load(Ordering::Relaxed) {
                sleep(REST);
                continue;
            }
            let result = match &mut connection {
                Some(imap) => self.act(imap),
                None => match Imap::login_as(self.port, ADMIN, PASSWORD, &self.user) {
                    Ok(imap) => {
                        connection = Some(imap);
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
            };
            match result {
                Ok(()) => sleep(Duration::from_millis(self.shared.pause.load(Ordering::Relaxed))),
                Err(_) => {
                    connection = None;
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    sleep(RETRY);
                }
            }
        }
    }

    /// One act; only a lost connection is an error.
    fn act(&mut self, imap: &mut Imap) -> Result<()> {
        let folder = if self.rng.chance(0.5) { "INBOX" } else { *self.rng.pick(&FOLDERS) };
        let other = *self.rng.pick(&FOLDERS);
        match self.rng.below(100) {
            0..45 => {
                let (message, date) = letter(&self.words, &mut self.rng, &self.user);
                let flags = if self.rng.chance(0.3) { "\\Seen" } else { "" };
                let tag = imap.send_append(folder, flags, &imap_date(date), &message)?;
                self.count(imap.finish(&tag)?.1)
            }
            45..65 => {
                let flag = *self.rng.pick(&["\\Seen", "\\Flagged", "\\Answered", "$Label2", "busy"]);
                let sign = if self.rng.chance(0.7) { "+" } else { "-" };
                self.with_some(imap, folder, |set| format!("STORE {set} {sign}FLAGS ({flag})"))
            }
            65..75 => self.with_some(imap, folder, |set| format!("MOVE {set} {}", quoted(other))),
            75..80 => self.with_some(imap, folder, |set| format!("COPY {set} {}", quoted(other))),
            80..86 => {
                self.with_some(imap, folder, |set| format!("STORE {set} +FLAGS (\\Deleted)"))?;
                self.command(imap, "EXPUNGE")
            }
            86..90 => self.with_some(imap, SHARED, |set| format!("STORE {set} +FLAGS (\\Seen)")),
            90..95 => {
                self.folders += 1;
                let n = self.folders;
                self.command(imap, &format!("CREATE INBOX/made{n}"))?;
                let (message, date) = letter(&self.words, &mut self.rng, &self.user);
                let tag = imap.send_append(&format!("INBOX/made{n}"), "", &imap_date(date), &message)?;
                self.count(imap.finish(&tag)?.1)
            }
            95..98 => {
                let n = 1 + self.rng.below(self.folders);
                self.command(
                    imap,
                    &format!("RENAME INBOX/made{n} INBOX/moved{n}-{}", self.rng.clone().below(1000)),
                )
            }
            _ => {
                let n = 1 + self.rng.below(self.folders);
                self.command(imap, &format!("DELETE INBOX/made{n}"))
            }
        }
    }

    /// Selects a folder and runs a command on a few of its messages.
    fn with_some(&mut self, imap: &mut Imap, folder: &str, command: impl Fn(&str) -> String) -> Result<()> {
        let tag = imap.send(&[b"SELECT ", quoted(folder).as_bytes()])?;
        let (answers, _) = imap.finish(&tag)?;
        let exists = answers.iter().find(|a| a.is("EXISTS")).and_then(|a| a.tokens[0].text().parse().ok());
        let exists: u64 = exists.unwrap_or(0);
        if exists == 0 {
            return Ok(());
        }
        let from = 1 + self.rng.below(exists);
        let to = (from + self.rng.below(3)).min(exists);
        self.command(imap, &command(&format!("{from}:{to}")))
    }

    fn command(&mut self, imap: &mut Imap, command: &str) -> Result<()> {
        let tag = imap.send(&[command.as_bytes()])?;
        let (_, status) = imap.finish(&tag).with_context(|| command.to_owned())?;
        self.count(status)
    }

    fn count(&self, status: String) -> Result<()> {
        let counter = if status.starts_with("OK") { &self.shared.done } else { &self.shared.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
