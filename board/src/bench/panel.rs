//! The front panel of the bench: its state, and the face on which changes are shown.

use std::io::Write;
use std::path::PathBuf;

use crate::bench::screen::Screen;
use crate::bench::view::{Change, View};
use crate::error::BoardError;

/// Where the panel is shown.
pub enum Face {
    /// Lines on a stream.
    Lines(Box<dyn Write + Send>),
    /// Drawn in a terminal.
    Screen(Screen),
}

/// State and face together.
pub struct Panel {
    view: View,
    face: Face,
}

impl Panel {
    /// A dark panel with an empty slot.
    pub fn new(disks: &[PathBuf], face: Face) -> Self {
        Self { view: View { disks: disks.to_vec(), ..View::default() }, face }
    }

    /// Index of the disk in the slot.
    pub fn inserted(&self) -> Option<usize> {
        self.view.inserted
    }

    /// How many bench disks there are.
    pub fn disks(&self) -> usize {
        self.view.disks.len()
    }

    /// Takes over a change and shows it.
    ///
    /// # Errors
    /// [`BoardError::Terminal`]; the change is taken over all the same.
    pub fn change(&mut self, change: Change<'_>) -> Result<(), BoardError> {
        let line = self.view.take(change);
        match &mut self.face {
            Face::Screen(screen) => screen.draw(&self.view),
            Face::Lines(out) => match line {
                Some(line) => {
                    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(BoardError::Terminal)
                }
                None => Ok(()),
            },
        }
    }

    /// Leaves the terminal as it was.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    pub fn close(&mut self) -> Result<(), BoardError> {
        match &mut self.face {
            Face::Screen(screen) => screen.close(),
            Face::Lines(_) => Ok(()),
        }
    }
}
