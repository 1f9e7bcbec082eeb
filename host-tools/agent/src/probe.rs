//! Asks a mail service for its greeting, the only proof that it is back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use mailkeep_mail::quiesce::greeting_ok;
use mailkeep_mail::source::{Probe, ProbeProtocol};

use crate::limits;

/// The first line that a service says, if it says one.
pub fn greeting(probe: &Probe) -> Option<String> {
    let addresses = (probe.host.as_str(), probe.port).to_socket_addrs().ok()?;
    for address in addresses {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, limits::PROBE_BOUND) else { continue };
        let bounded = stream
            .set_read_timeout(Some(limits::PROBE_BOUND))
            .and_then(|()| stream.set_write_timeout(Some(limits::PROBE_BOUND)));
        if bounded.is_err() {
            continue;
        }
        let mut line = Vec::new();
        // A service that trickles bytes for ever ends at the length.
        let read = BufReader::new((&stream).take(1024)).read_until(b'\n', &mut line);
        if read.is_err() || line.is_empty() {
            continue;
        }
        let bye: &[u8] = if probe.protocol == ProbeProtocol::Imap { b"a LOGOUT\r\n" } else { b"QUIT\r\n" };
        let _ = stream.write_all(bye);
        return Some(String::from_utf8_lossy(&line).into_owned());
    }
    None
}

/// Whether the service greets as a working one does.
pub fn greets(probe: &Probe) -> bool {
    greeting(probe).is_some_and(|line| greeting_ok(probe.protocol, &line))
}
