//! A link that can be cut, stalled, throttled and measured: a TCP relay on loopback between a client and a server of this machine.
//! A stall is what a pulled cable looks like to both ends: nothing comes, nothing is closed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// A relay; every connection is cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stalled: AtomicBool,
    ended: AtomicBool,
    /// Bits per second in each direction of each connection; 0 is no limit.
    rate: AtomicU64,
    /// Bytes that came from the server so far, and how many may come before everything stalls; 0 is no bound.
    passed: AtomicU64,
    gate: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a relay to this port on 127.0.0.1.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub fn to(server: u16) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if all.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                relay(&all, &client, &server, false);
                relay(&all, &server, &client, true);
                let mut streams = all.streams.lock().unwrap_or_else(PoisonError::into_inner);
                streams.extend([client, server]);
            }
        });
        Ok(Proxy { port, shared })
    }

    /// Where to connect, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes (or everything again).
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Bits per second in each direction; 0 is no limit.
    pub fn throttle(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// Bytes that have come from the server so far, over all connections.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Lets so many more bytes come from the server, then nothing until it is asked again; `None` takes the bound away.
    pub fn pass_only(&self, bytes: Option<u64>) {
        let gate = bytes.map_or(0, |bytes| self.passed() + bytes.max(1));
        self.shared.gate.store(gate, Ordering::Relaxed);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.stall(false);
        self.pass_only(None);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn relay(shared: &Arc<Shared>, from: &TcpStream, to: &TcpStream, is_from_server: bool) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut buffer = vec![0u8; 16 << 10];
        let mut free_at = Instant::now();
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let is_held = || {
                let gate = shared.gate.load(Ordering::Relaxed);
                let shut = is_from_server && gate > 0 && shared.passed.load(Ordering::Relaxed) >= gate;
                shared.stalled.load(Ordering::Relaxed) || shut
            };
            while is_held() && !shared.ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if is_from_server {
                shared.passed.fetch_add(count as u64, Ordering::Relaxed);
            }
            let rate = shared.rate.load(Ordering::Relaxed);
            if rate > 0 {
                let takes = Duration::from_secs_f64(count as f64 * 8.0 / rate as f64);
                free_at = free_at.max(Instant::now()) + takes;
                std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
