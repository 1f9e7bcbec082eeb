//! Ctrl-C and its kin. Reading verbs end at once; verbs that write are asked to stop, and end at once when asked again.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::console::Console;
use crate::exit::{self, Failure};
use crate::text;

/// Ends the process with 130 upon a signal. Fit for whatever only reads.
pub(crate) fn end_at_once(console: &Arc<Console>) -> Result<(), Failure> {
    let console = Arc::clone(console);
    listen(move || {
        console.interrupted();
        process::exit(exit::INTERRUPTED.into())
    })
}

/// Sets a flag upon the first signal and ends the process upon the second.
pub(crate) fn cancel_first(console: &Arc<Console>) -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let (console, cancel) = (Arc::clone(console), Arc::clone(&flag));
    listen(move || {
        if cancel.swap(true, Ordering::SeqCst) {
            console.interrupted();
            process::exit(exit::INTERRUPTED.into());
        }
        console.note(text::STOPPING);
    })?;
    Ok(flag)
}

/// Calls `each` upon every signal, on a thread of its own.
pub(crate) fn listen(mut each: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::new(exit::FAILED, format!("cannot listen for signals: {error}"));
    let mut wanted = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).map_err(failed)?;
    let listener = std::thread::Builder::new().name("signals".to_owned());
    listener.spawn(move || signals.forever().for_each(|_| each())).map_err(failed)?;
    Ok(())
}

/// Whether we were started by `nohup`: then losing the terminal is no reason to stop.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGHUP - 1)) != 0
}
