//! The doors: sockets that are listened on, how many connections each takes at a time, and how long one may take.
//!
//! Each door has its own limit, so that a crowd on the network keeps nobody out who comes by the socket. One connection
//! serves one request.

use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Connections at a time, each door.
const CONNECTIONS: usize = 64;
/// In this time a request has to have come.
const REQUEST_IN: Duration = Duration::from_secs(10);
/// Longest life of a connection. A browser that follows events simply comes again.
const LIFE: Duration = Duration::from_secs(60);
/// Longest request line with headers.
const MOST_HEAD: usize = 16 << 10;
/// When there is nothing to accept for a while, or no address to listen on yet.
const AGAIN: Duration = Duration::from_secs(5);

/// A folder that only its owner can enter.
///
/// # Errors
/// It can't be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Also where it was there.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Listens on a socket in the place of one that an earlier run has left.
///
/// # Errors
/// It can't be made.
pub fn open_socket(path: &Path) -> io::Result<StdUnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = StdUnixListener::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Serves the socket for ever.
pub async fn serve_socket(socket: StdUnixListener, routes: Router) {
    let socket = match UnixListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("the box's socket can't be served: {error}"),
    };
    let accept = || async { socket.accept().await.map(|(stream, _)| stream) };
    crowd(accept, routes).await;
}

/// Serves an address on the network for ever; one that can't be had yet is tried again. Where it listens stands in the
/// file `told`.
pub async fn serve_network(listen: &str, told: &Path, routes: Router) {
    let mut complained = false;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::error!(
                        listen,
                        "cannot listen on the network: {error}; it is tried again and again"
                    );
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "the status page is at http://{address}/");
        if let Err(error) = std::fs::write(told, format!("{address}\n")) {
            tracing::warn!("the address can't be written down: {error}");
        }
    }
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    crowd(accept, routes).await;
}

/// Takes connections as long as there is room.
async fn crowd<S, F>(accept: impl Fn() -> F, routes: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match accept().await {
            Ok(stream) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    one(stream, routes).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a peer that has gone: others will come.
            Err(error) => {
                tracing::debug!("a connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn one<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_IN)
        .keep_alive(false)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
        tracing::debug!("a request that was none: {error}");
    }
}
