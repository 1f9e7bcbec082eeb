//! What a person at a desk may ask of the box, and what it answers.

use tokio::sync::oneshot;

/// Something that a person at a desk wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A backup, now.
    Backup,
    /// Flush and unmount the disk.
    Eject,
    /// End the running job as soon as that is safe.
    Cancel,
    /// This disk of the set is right as it is.
    Trust(String),
    /// This disk does not belong to the set any more.
    Forget(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// It is done or under way.
    pub accepted: bool,
    /// What a person should know.
    pub words: String,
}

/// A command, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub command: Command,
    /// Who waits.
    pub answer: oneshot::Sender<Answer>,
}
