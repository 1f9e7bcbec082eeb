//! The border between threads that block and the event loop that must not.
//!
//! Inward: one channel of [`Inbound`], each stamped with the time at which it happened, so that a button is not
//! held longer because the loop was busy. A sender never waits: a job whose progress nobody reads (a terminal that
//! is stopped, a pipe that is full) must not stand still while mail is stopped. Counts of progress are left out
//! when too many messages wait; all else is kept, and is little: edges of buttons, disks, phases, ends. Outward: a
//! channel of orders to the disk thread, and one thread per job. When the loop has ended, senders find the channel
//! closed and let go.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Instant;

use mailkeep_board::Sink;
use mailkeep_controller::{JobId, JobResult};
use mailkeep_mail::Source;
use tokio::sync::mpsc;

use crate::disks::{self, DiskOrder};
use crate::engine::{Engine, News};
use crate::inbound::{Inbound, What};
use crate::job;

/// When this many messages wait for the loop, counts of progress are left out.
const WAITING: usize = 64;

/// The way in; one for each thread.
#[derive(Clone)]
pub struct Post {
    sender: mpsc::UnboundedSender<Inbound>,
    waiting: Arc<AtomicUsize>,
}

/// The end of the way in, in the loop.
pub struct Inbox {
    receiver: mpsc::UnboundedReceiver<Inbound>,
    waiting: Arc<AtomicUsize>,
}

impl Post {
    /// The way in and its end.
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        (Self { sender, waiting: Arc::clone(&waiting) }, Inbox { receiver, waiting })
    }

    /// Reports something; never waits.
    pub fn send(&self, what: What) {
        let optional = matches!(what, What::News(_, _, News::Count { .. }));
        if optional && self.waiting.load(Ordering::Relaxed) >= WAITING {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(Inbound { at: Instant::now(), what }).is_err() {
            tracing::debug!("the event loop has ended");
        }
    }

    /// Where a board reports to.
    pub fn sink(&self) -> Sink {
        let post = self.clone();
        Arc::new(move |event| post.send(What::Board(event)))
    }
}

impl Inbox {
    /// Waits for the next message; `None` when nobody can send any more.
    pub async fn next(&mut self) -> Option<Inbound> {
        let inbound = self.receiver.recv().await;
        if inbound.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        inbound
    }
}

/// The threads that work for the loop.
pub struct Workers {
    engine: Arc<dyn Engine>,
    post: Post,
    disks: std_mpsc::Sender<DiskOrder>,
}

impl Workers {
    /// Starts the disk thread. Disks are mounted below `mount_dir`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(engine: Arc<dyn Engine>, post: Post, mount_dir: PathBuf) -> std::io::Result<Self> {
        let (disks, orders) = std_mpsc::channel();
        let (disk_engine, disk_post) = (Arc::clone(&engine), post.clone());
        std::thread::Builder::new()
            .name("disks".into())
            .spawn(move || disks::serve(&*disk_engine, &mount_dir, &orders, &|what| disk_post.send(what)))?;
        Ok(Self { engine, post, disks })
    }

    /// Gives an order to the disk thread, which works them off one after the other.
    pub fn order(&self, order: DiskOrder) {
        if self.disks.send(order).is_err() {
            tracing::error!("the disk thread has died: restart mailkeepd");
        }
    }

    /// Starts a backup on a thread of its own. The end is reported, whatever becomes of the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn backup(
        &self,
        id: JobId,
        sources: Vec<Source>,
        repository: PathBuf,
        cancel: Arc<AtomicBool>,
    ) -> std::io::Result<()> {
        let (engine, post) = (Arc::clone(&self.engine), self.post.clone());
        let work = move || {
            let mut end = End { post: &post, id, result: JobResult::Failed, reasons: Vec::new() };
            let news = |source: &str, item| post.send(What::News(id, source.to_owned(), item));
            let outcome = job::run(&*engine, &sources, &repository, &cancel, &news);
            (end.result, end.reasons) = (outcome.result, outcome.reasons);
            // The result stands from here on, even if this panics.
            job::afterwards(&*engine, &outcome.proven, &repository, &cancel, &news);
            job::prune(&*engine, &outcome.proven, &repository, &cancel, &news);
        };
        std::thread::Builder::new().name(format!("job {}", id.0)).spawn(work).map(drop)
    }
}

/// Reports a job's end when it goes, so that even a job that panics is seen to have ended.
struct End<'a> {
    post: &'a Post,
    id: JobId,
    result: JobResult,
    reasons: Vec<String>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let reasons = std::mem::take(&mut self.reasons);
        self.post.send(What::JobEnded(self.id, self.result, reasons));
    }
}

/// Asks a job to end.
pub fn cancel(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use mailkeep_controller::Phase;

    use super::*;

    #[test]
    fn a_loop_that_stands_still_keeps_no_job_waiting_and_loses_no_phase() {
        let (post, mut inbox) = Post::new();
        let count = || News::Count { files: (1, None), bytes: (1, None) };
        for _ in 0..10_000 {
            post.send(What::News(JobId(1), "mail1".into(), count()));
        }
        post.send(What::News(JobId(1), "mail1".into(), News::Phase(Phase::Window)));
        post.send(What::JobEnded(JobId(1), JobResult::Proven, Vec::new()));
        drop(post);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut kept = Vec::new();
        runtime.block_on(async {
            while let Some(inbound) = inbox.next().await {
                kept.push(inbound.what);
            }
        });
        assert_eq!(kept.len(), WAITING + 2);
        assert!(matches!(kept[WAITING], What::News(_, _, News::Phase(Phase::Window))));
        assert!(matches!(kept[WAITING + 1], What::JobEnded(..)));
    }
}
