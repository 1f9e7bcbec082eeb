//! What the repository notices, told to whoever watches the run.

use mailkeep_repository::{Monitor, Problem};

use crate::{Progress, text};

/// Hands problems of the repository on.
pub(crate) struct Forward<'a> {
    progress: &'a dyn Progress,
}

impl<'a> Forward<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Self {
        Forward { progress }
    }
}

impl Monitor for Forward<'_> {
    fn problem(&self, problem: &Problem) {
        self.progress.problem(&text::line(&problem.what), &problem.path);
    }
}
