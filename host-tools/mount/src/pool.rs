//! A few threads for whatever may wait for the disk, so that a slow disk or a damaged block never holds up a listing.
//!
//! What waits is not bounded here: each task is a request of a program that waits for its answer, or the kernel's reading
//! ahead, which the kernel bounds.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Task = Box<dyn FnOnce() + Send>;

/// Threads of a pool; the work is decryption and decompression, and waiting for the disk.
const THREADS: usize = 4;

#[derive(Clone)]
pub(crate) struct Pool {
    tasks: Sender<Task>,
}

impl Pool {
    /// Starts the threads; they end when the pool and its clones are dropped.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (tasks, queue) = channel::<Task>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&queue))?;
        }
        Ok(Pool { tasks })
    }

    /// Runs `task` on one of the threads. If all are gone it is dropped, which answers the kernel with an error.
    pub(crate) fn run(&self, task: impl FnOnce() + Send + 'static) {
        let _ = self.tasks.send(Box::new(task));
    }
}

fn work(queue: &Mutex<Receiver<Task>>) {
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match task {
            Ok(task) => task(),
            Err(_) => return,
        }
    }
}
