//! How long this machine stood still: a thread that wants to run every few milliseconds and counts by how much it came
//! late. A test that has to bound a time allows for what is seen here, and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);
/// What is shorter is the scheduler's daily business.
const NOTED: Duration = Duration::from_millis(100);

/// The watch; ends when dropped.
#[derive(Debug)]
pub struct Stalls {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    micros: AtomicU64,
}

impl Stalls {
    /// Begins to watch.
    pub fn watch() -> Stalls {
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !all.ended.load(Ordering::Relaxed) {
                std::thread::sleep(STEP);
                let now = Instant::now();
                let late = now.duration_since(last).saturating_sub(STEP);
                if late > NOTED {
                    all.micros.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
                }
                last = now;
            }
        });
        Stalls { shared, thread: Some(thread) }
    }

    /// All stalls so far, together.
    pub fn so_far(&self) -> Duration {
        Duration::from_micros(self.shared.micros.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
