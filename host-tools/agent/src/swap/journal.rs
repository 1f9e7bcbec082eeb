//! The swap journal: several trees change places with those built beside them, and whoever dies on the way, all of them are
//! old or all of them are new before mail is started.
//!
//! The order is the promise. 1. The journal is durable before the first tree moves. 2. Each tree moves by one rename, and
//! by the inode numbers in the journal anybody can tell on which side it stands. 3. What has moved is durable before the
//! journal goes. 4. Whoever finds a journal brings all trees to its [`Goal`] before mail is started; where that fails on
//! the way to the new state the goal is turned, durably, and all go back.
//!
//! What touches a disk is behind [`Ground`], so that a model of a disk that forgets what was not synced can stand in.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file in the state folder of the service.
pub const JOURNAL: &str = "swap.json";

/// Which state is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// What was there.
    Old,
    /// What was built beside it.
    New,
}

/// One name that changes places, by one rename: two that are there are exchanged, one that is there moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Where mail looks for it. Real and absolute.
    pub live: PathBuf,
    /// Its place beside, on the same file system.
    pub beside: PathBuf,
    /// Inode number of what stood there before; nothing did if `None`.
    pub old: Option<u64>,
    /// Inode number of what was built; nothing was if `None`.
    pub new: Option<u64>,
}

impl Step {
    /// Whether one can tell on which side it stands.
    pub fn is_plain(&self) -> bool {
        self.old != self.new && self.live.file_name().is_some() && self.beside.file_name().is_some()
    }
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Form of this file; 1.
    pub version: u32,
    /// The snapshot that was built, for people.
    pub snapshot: String,
    /// Where it goes.
    pub goal: Goal,
    /// Mail ran before: where it does not come up on the new state it is to have the old one.
    pub ran: bool,
    /// Stops mail, for whoever finds it running on a half of each.
    pub stop: Option<Vec<String>>,
    /// What moves.
    pub steps: Vec<Step>,
}

/// Where the trees stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All on one side.
    All(Goal),
    /// Some here, some there.
    Mixed,
}

/// What the journal stands on.
pub trait Ground {
    /// The inode number at a path, if there is something.
    fn inode(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Lets what is at the two places of a step change sides by one rename.
    fn flip(&self, step: &Step) -> io::Result<()>;
    /// What was renamed in the two folders of a step is durable when this returns.
    fn sync(&self, step: &Step) -> io::Result<()>;
    /// The journal is durable when this returns.
    fn note(&self, journal: &Journal) -> io::Result<()>;
}

/// Why trees cannot be brought to one side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// Something else stands in the place of a tree.
    #[error(
        "{} is neither the old tree nor the restored one, so mail is not started; put the one from {} back",
        live.display(), beside.display()
    )]
    Strange {
        /// The place.
        live: PathBuf,
        /// Where the other tree is.
        beside: PathBuf,
    },
    /// A rename, or what makes it durable, failed.
    #[error("cannot exchange {}", live.display())]
    Move {
        /// The place.
        live: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The journal cannot be written.
    #[error("cannot note the exchange of the trees")]
    Note(#[source] io::Error),
}

impl Journal {
    /// On which side a step stands.
    fn side(ground: &dyn Ground, step: &Step) -> Result<Goal, SwapError> {
        let look =
            |path| ground.inode(path).map_err(|source| SwapError::Move { live: step.live.clone(), source });
        match (look(&step.live)?, look(&step.beside)?) {
            (live, beside) if (live, beside) == (step.old, step.new) => Ok(Goal::Old),
            (live, beside) if (live, beside) == (step.new, step.old) => Ok(Goal::New),
            _ => Err(SwapError::Strange { live: step.live.clone(), beside: step.beside.clone() }),
        }
    }

    /// Where the trees stand.
    ///
    /// # Errors
    /// [`SwapError`]: that cannot be told.
    pub fn standing(&self, ground: &dyn Ground) -> Result<Standing, SwapError> {
        let mut standing = None;
        for step in &self.steps {
            let side = Journal::side(ground, step)?;
            if standing.replace(side).is_some_and(|other| other != side) {
                return Ok(Standing::Mixed);
            }
        }
        Ok(Standing::All(standing.unwrap_or(self.goal)))
    }

    /// Notes the journal durably and moves all trees to the new side. Whatever the error, they are on one side or the
    /// journal is there for whoever comes next.
    ///
    /// # Errors
    /// [`SwapError`].
    pub fn begin(&mut self, ground: &dyn Ground) -> Result<(), SwapError> {
        ground.note(self).map_err(SwapError::Note)?;
        self.settle(ground)
    }

    /// Brings all trees to the goal, durably. If that does not work on the way to the new state, they go back.
    ///
    /// # Errors
    /// [`SwapError`]; with the goal turned and all trees back if it can be.
    pub fn settle(&mut self, ground: &dyn Ground) -> Result<(), SwapError> {
        match self.roll(ground) {
            Err(why) if self.goal == Goal::New => {
                self.turn_back(ground)?;
                Err(why)
            }
            rolled => rolled,
        }
    }

    /// From now on the old state is to be served: noted durably, then all trees go back.
    ///
    /// # Errors
    /// [`SwapError`]; the journal is there for whoever comes next.
    pub fn turn_back(&mut self, ground: &dyn Ground) -> Result<(), SwapError> {
        self.goal = Goal::Old;
        ground.note(self).map_err(SwapError::Note)?;
        self.roll(ground)
    }

    fn roll(&self, ground: &dyn Ground) -> Result<(), SwapError> {
        let mut strange = None;
        for step in &self.steps {
            let failed = |source| SwapError::Move { live: step.live.clone(), source };
            match Journal::side(ground, step) {
                Ok(side) if side == self.goal => {}
                Ok(_) => ground.flip(step).map_err(failed)?,
                // The others go on: as little as possible is left between the two.
                Err(why) => {
                    strange.get_or_insert(why);
                }
            }
        }
        // All of them: who moved them before may have died before they were durable.
        for step in &self.steps {
            ground.sync(step).map_err(|source| SwapError::Move { live: step.live.clone(), source })?;
        }
        strange.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
