//! The note that this server is a standby: mail is down here on purpose, and neither guard nor rescue starts it.
//!
//! It is durable before mail is stopped for it, and goes only after a promotion has seen mail greet.

use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::window::state::StateFolder;

/// Name of the file.
const STANDBY: &str = "standby.json";

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standby {
    /// Form of this file; 1.
    pub version: u32,
    /// Name of the source that it stands by for.
    pub source: String,
    /// The snapshot that it holds, or that was being brought here.
    pub snapshot: String,
}

impl Standby {
    /// The note that is there. One that cannot be read counts as one: mail that is down on purpose stays down.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn load(folder: &StateFolder) -> Result<Option<Standby>, AgentError> {
        folder.note(STANDBY, "remove it if mail is to run on this server")
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// It cannot be written; then nothing may be stopped.
    pub fn write(&self, folder: &StateFolder) -> Result<(), AgentError> {
        folder.write_note(STANDBY, self)
    }

    /// Mail runs here from now on.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear(folder: &StateFolder) -> Result<(), AgentError> {
        folder.remove_durably(STANDBY)
    }

    /// Refuses where this server is a standby.
    ///
    /// # Errors
    /// [`AgentError::Standby`].
    pub fn refuse(folder: &StateFolder) -> Result<(), AgentError> {
        match Standby::load(folder)? {
            Some(Standby { snapshot, .. }) => Err(AgentError::Standby { snapshot }),
            None => Ok(()),
        }
    }
}
