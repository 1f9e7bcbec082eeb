//! Reading must not be felt while mail runs. On Linux the priority belongs to a thread and to those it starts, so commands
//! that are run elsewhere, the start of mail above all, keep theirs.

use std::io;
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::limits;

type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` in a thread that lets everything else go first, and waits for it; the threads that it starts take after
/// that one.
///
/// There is one such thread, which stays: to make one humble takes a process, which costs more than a walk of a thousand
/// mails, and for a moment has all of our memory once more.
///
/// # Errors
/// There are no threads, or `work` panicked.
pub(crate) fn humbly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static HUMBLE: Mutex<Option<Sender<Work>>> = Mutex::new(None);
    let (done, outcome) = mpsc::sync_channel(1);
    let died = || io::Error::other("a thread died");
    let mut humble = HUMBLE.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = match &mut *humble {
        Some(thread) => thread,
        none => none.insert(start()?),
    };
    // Whoever asked waits below.
    let sent = thread.send(Box::new(move || drop(done.send(work()))));
    drop(humble);
    sent.map_err(|_| died())?;
    outcome.recv().map_err(|_| died())
}

fn start() -> io::Result<Sender<Work>> {
    let (thread, works) = mpsc::channel::<Work>();
    std::thread::Builder::new().name("humble".into()).spawn(move || {
        lower_this_thread();
        for work in works {
            // Whoever waits for it hears that nothing will come; the next one's work is done.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(work));
        }
    })?;
    Ok(thread)
}

/// Lets everything else go before this thread and those it starts from now on, on the processor and on the disks. Best
/// effort: it is a courtesy.
fn lower_this_thread() {
    let _ = setpriority_process(None, limits::NICE);
    // There is no safe call for the I/O class; util-linux is on every server that has mail.
    let thread = gettid().as_raw_nonzero().to_string();
    let _ = Command::new("ionice")
        .args(["-c", "3", "-p", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    #[test]
    fn work_and_the_threads_that_it_starts_are_humble_and_nobody_else_is() {
        let before = niceness();
        let here = || (gettid(), niceness());
        let (first, nice) = humbly(here).unwrap();
        assert_eq!(nice, limits::NICE);
        let (second, below) =
            humbly(move || (gettid(), std::thread::spawn(niceness).join().unwrap())).unwrap();
        assert_eq!((first, below), (second, limits::NICE), "one thread does it all");
        assert_eq!(niceness(), before);
    }

    #[test]
    fn the_disks_too_serve_everything_else_first() {
        let class = || {
            let asked = Command::new("ionice").args(["-p", &gettid().as_raw_nonzero().to_string()]).output();
            asked.ok().map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
        };
        let before = class();
        let Some(humble) = humbly(move || std::thread::spawn(class).join().unwrap()).unwrap() else {
            return eprintln!("there is no ionice here");
        };
        assert_eq!(humble, "idle");
        assert_eq!(class(), before);
    }

    #[test]
    fn work_that_panics_is_an_error_and_the_next_work_is_done() {
        assert!(humbly::<()>(|| panic!("as a test")).is_err());
        assert_eq!(humbly(|| 7).unwrap(), 7);
    }
}
