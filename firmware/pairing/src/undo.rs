//! Forgetting a server again: its agent and our keys go, and what this machine has for it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::login::Login;
use crate::own_key::OwnKey;
use crate::pair::{Files, Request, trusted};
use crate::server::Server;
use crate::{PairError, Talk, authorized, host_key};

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// Name of the source.
    pub name: String,
    /// The server's file that had the keys.
    pub authorized_keys: String,
    /// The agent stays: another key calls it.
    pub agent_stays: bool,
    /// The source file stays, since somebody has worked on it.
    pub source_stays: Option<PathBuf>,
}

/// Undoes the pairing `name` that [`pair`](crate::pair()) made with the same request. Snapshots are not touched.
///
/// # Errors
/// See [`PairError`]. What could not be undone on the server keeps its files here, so that it can be tried again.
pub fn undo(request: &Request, name: &str, talk: &dyn Talk) -> Result<Undone, PairError> {
    let files = Files::of(request, name);
    if !files.key.exists() {
        return Err(PairError::NotPaired { folder: files.folder });
    }
    let server = &request.server;
    let mut ours = vec![OwnKey::existing(&files.key)?.blob];
    // A pairing of before there were two has no other.
    if files.restore_key.exists() {
        ours.push(OwnKey::existing(&files.restore_key)?.blob);
    }
    talk.step(&format!("logging in as {} on {}", server.user, server.host));
    // Only the machine that was paired is asked to forget.
    trusted(request, &host_key::shown(server)?, Some(&files.known_hosts), talk)?;
    let login = Login::open(server, &files.known_hosts, request.identity.as_deref(), request.asking)?;
    let far = Server::new(&login, &server.user, &request.agent_folder);
    let path = request.authorized_keys.clone().map_or_else(|| far.keys_path(), Ok)?;
    let keys = far.read_keys(&path)?;
    let left = authorized::without_all(&keys.text, &ours);
    let agent_stays = authorized::calls(&left, &far.agent());
    // First, so that a server whose mail may be stopped keeps everything that can start it.
    talk.step("seeing that mail runs there");
    far.rescue(!agent_stays)?;
    talk.step("taking the box's keys out");
    far.write_keys(&keys, &left)?;
    if !agent_stays {
        talk.step("taking the agent away");
        far.drop_agent()?;
    }
    let untouched = same(&files.source, &files.written);
    if untouched {
        fs::remove_file(&files.source).map_err(|error| PairError::file("remove", &files.source, error))?;
    }
    fs::remove_dir_all(&files.folder).map_err(|error| PairError::file("remove", &files.folder, error))?;
    Ok(Undone {
        name: name.to_owned(),
        authorized_keys: path,
        agent_stays,
        source_stays: (!untouched && files.source.exists()).then_some(files.source),
    })
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}
