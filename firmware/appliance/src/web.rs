//! The LAN side: a page, a JSON API, server-sent events and metrics, on a thread and an event loop of their own, so that
//! whatever comes from the network can neither hold up a lamp nor a job.
//!
//! Two doors. A socket in a folder that only root can enter (`control/box.sock` below the state folder): who can open it may
//! do all that the API offers. And, where `[web] listen` names an address, the network: there reading is open, and whatever
//! does something needs the token in `web.token` as `Authorization: Bearer …`. Request bodies are never read.
//!
//! | module | owns |
//! |---|---|
//! | [`api`] | the paths, and who may do what |
//! | [`doors`] | sockets, limits and time limits of connections |
//! | [`page`] | the status page |
//! | [`metrics`] | the status as Prometheus reads it |
//! | [`token`] | the token's file |

pub mod api;
pub mod doors;
pub mod metrics;
pub mod page;
pub mod token;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::border::Post;
use crate::status::Status;

/// Below the state folder: what is only root's.
const CONTROL: &str = "control";
/// In there: the socket, and the address that is listened on.
const SOCKET: &str = "box.sock";
const ADDRESS: &str = "address";

/// Opens the doors; they stay open for as long as the program runs. `listen`: the address on the network, if any.
///
/// # Errors
/// The socket or the token can't be made, or the system has no thread to give.
pub fn start(
    state_dir: &Path,
    listen: Option<&str>,
    post: Post,
    status: watch::Receiver<Arc<Status>>,
) -> io::Result<()> {
    let control = state_dir.join(CONTROL);
    doors::private_folder(&control)?;
    let socket = doors::open_socket(&control.join(SOCKET))?;
    let token = match listen {
        Some(_) => Some(token::load_or_make(state_dir)?),
        None => None,
    };
    let listen = listen.map(str::to_owned);
    let address = control.join(ADDRESS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async {
            let trusted = api::routes(api::Rights::All, post.clone(), status.clone());
            let network = token.map(|token| api::routes(api::Rights::WithToken(token), post, status));
            let local = doors::serve_socket(socket, trusted);
            match (listen, network) {
                (Some(listen), Some(network)) => {
                    tokio::join!(local, doors::serve_network(&listen, &address, network));
                }
                _ => local.await,
            }
        });
    };
    std::thread::Builder::new().name("web".into()).spawn(serve).map(drop)
}
