//! Takes a pairing back that did not come to its end.

use std::fs;
use std::path::PathBuf;

use crate::authorized;
use crate::server::Server;

/// Each key that was written into a server's file, and the lines that it had there before.
pub(crate) type Before = Vec<(String, Vec<u8>)>;

/// Takes back what was done, in reverse, unless the pairing came to its end.
pub(crate) struct TakeBack<'a> {
    pub(crate) far: &'a Server<'a>,
    /// The server's file, and what was written into it.
    pub(crate) keys: Option<(String, Before)>,
    /// The agent was not there before.
    pub(crate) agent: bool,
    /// New files here.
    pub(crate) files: Vec<PathBuf>,
    /// New folder here.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) armed: bool,
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let tell = |what: &str, error: &dyn std::error::Error| tracing::warn!("{what} stays behind: {error}");
        if let Some((path, before)) = &self.keys {
            let back = self.far.read_keys(path).and_then(|keys| {
                let text = before
                    .iter()
                    .fold(keys.text.clone(), |text, (blob, lines)| authorized::as_before(&text, blob, lines));
                self.far.write_keys(&keys, &text)
            });
            if let Err(error) = back {
                tell("the box's key on the server", &error);
            }
        }
        if self.agent {
            if let Err(error) = self.far.drop_agent() {
                tell("the agent on the server", &error);
            }
        }
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                tell("a new file", &error);
            }
        }
        if let Some(folder) = &self.folder {
            if let Err(error) = fs::remove_dir_all(folder) {
                tell("the pairing's folder", &error);
            }
        }
    }
}
