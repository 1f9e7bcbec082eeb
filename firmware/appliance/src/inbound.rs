//! What comes across the border into the event loop.

use std::path::PathBuf;
use std::time::Instant;

use mailkeep_board::BoardEvent;
use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{Event, JobId, JobResult};

use crate::command::Asked;
use crate::engine::{Looked, News};

/// Something that happened outside of the loop.
#[derive(Debug)]
pub struct Inbound {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// Hands on the board.
    Board(BoardEvent),
    /// For the controller as it is.
    Event(Event),
    /// A disk was looked at, and is not mounted any more.
    Looked(Insertion, Looked),
    /// A disk is mounted, and the repository is in this folder.
    Mounted(Insertion, PathBuf),
    /// A job has ended; a line for each source that was not backed up well.
    JobEnded(JobId, JobResult, Vec<String>),
    /// Somebody at a desk wants something done.
    Asked(Asked),
    /// A job's news about a source.
    News(JobId, String, News),
}
