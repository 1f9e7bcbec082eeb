//! The log of a process that has no terminal any more goes to the system's log (syslog(3), RFC 3164 framing).

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use tracing_subscriber::fmt::MakeWriter;

/// Facility "daemon", severity "error": all that is logged there by default.
const PRIORITY: u32 = (3 << 3) | 3;
/// Longer lines are cut; system logs take 1 to 8 KiB.
const LINE_MAX: usize = 2000;

/// Writes each event to stderr, or to the system's log once that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTo {
    pub(crate) system: bool,
}

impl<'a> MakeWriter<'a> for LogTo {
    type Writer = Box<dyn Write>;

    fn make_writer(&'a self) -> Self::Writer {
        if self.system { Box::new(Line::default()) } else { Box::new(io::stderr()) }
    }
}

/// One event; sent when it is complete.
#[derive(Default)]
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let line: String = text.trim_end().chars().take(LINE_MAX).collect();
        let framed = format!("<{PRIORITY}>mailkeep[{}]: {line}", std::process::id());
        // A machine without a system log has nowhere to tell it.
        let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(framed.as_bytes(), "/dev/log"));
    }
}
