//! Reading must not be felt while mail runs. On Linux the priority belongs to a thread and to those it starts, so commands
//! that are run elsewhere, the start of mail above all, keep theirs.

use std::process::{Command, Stdio};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::limits;

/// Lets everything else go before this thread and those it starts from now on, on the processor and on the disks. Best
/// effort: it is a courtesy.
pub(crate) fn lower_this_thread() {
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
