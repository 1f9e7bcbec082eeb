//! A few threads for reads of contents, so that one slow file does not hold up everybody's `ls`.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that read; the work is decryption and decompression, and waiting for the disk.
const THREADS: usize = 4;
/// Reads that wait. Each holds no bytes yet.
const WAITING: usize = 64;

pub(crate) struct Pool {
    tasks: SyncSender<Task>,
}

impl Pool {
    /// Starts the threads; they end when the pool is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let (tasks, queue) = sync_channel::<Task>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("mount-read-{number}")).spawn(move || work(&queue))?;
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
