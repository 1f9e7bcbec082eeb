//! The border between threads that block and the event loop that must not.
//!
//! Inward: one bounded channel of [`Inbound`], each stamped with the time at which it happened, so that a button
//! is not held longer because the loop was busy. A sender that finds it full waits: nothing is dropped, and a
//! flood of progress slows the job down, not the loop. Outward: a channel of orders to the disk thread, and one
//! thread per job. When the loop has ended, senders find the channel closed and let go.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Instant;

use mailkeep_board::Sink;
use mailkeep_controller::{Event, JobId, JobResult};
use mailkeep_mail::Source;
use tokio::sync::mpsc;

use crate::disks::{self, DiskOrder};
use crate::engine::Engine;
use crate::inbound::{Inbound, What};
use crate::job;

/// Messages that may wait for the loop.
const WAITING: usize = 256;

/// The way in; one for each thread.
#[derive(Clone)]
pub struct Post {
    sender: mpsc::Sender<Inbound>,
}

impl Post {
    /// The way in and its end.
    pub fn new() -> (Self, mpsc::Receiver<Inbound>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Reports something. Only from threads outside of the loop: it may wait.
    pub fn send(&self, what: What) {
        if self.sender.blocking_send(Inbound { at: Instant::now(), what }).is_err() {
            tracing::debug!("the event loop has ended");
        }
    }

    /// Where a board reports to.
    pub fn sink(&self) -> Sink {
        let post = self.clone();
        Arc::new(move |event| post.send(What::Board(event)))
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
            let mut end = End { post: &post, id, result: JobResult::Failed };
            let news = |source: &str, item| post.send(What::News(id, source.to_owned(), item));
            end.result = job::run(&*engine, &sources, &repository, &cancel, &news);
        };
        std::thread::Builder::new().name(format!("job {}", id.0)).spawn(work).map(drop)
    }
}

/// Reports a job's end when it goes, so that even a job that panics is seen to have ended.
struct End<'a> {
    post: &'a Post,
    id: JobId,
    result: JobResult,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.post.send(What::Event(Event::JobEnded(self.id, self.result)));
    }
}

/// Asks a job to end.
pub fn cancel(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}
