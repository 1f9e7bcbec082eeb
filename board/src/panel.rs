//! The front panel as a trait: three lamps, two buttons, slots for disks, and a line for words.

use std::fmt;
use std::sync::Arc;

use crate::error::BoardError;

/// A lamp of the front panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lamp {
    /// Green.
    Status,
    /// Blue.
    Disk,
    /// Red.
    Fault,
}

impl Lamp {
    /// All lamps, from left to right.
    pub const ALL: [Lamp; 3] = [Lamp::Status, Lamp::Disk, Lamp::Fault];

    /// What is printed beside it.
    pub const fn label(self) -> &'static str {
        match self {
            Lamp::Status => "STATUS",
            Lamp::Disk => "DISK",
            Lamp::Fault => "FAULT",
        }
    }
}

impl fmt::Display for Lamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A button of the front panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Button {
    /// BACKUP.
    Backup,
    /// RESTORE.
    Restore,
}

impl Button {
    /// All buttons, from left to right.
    pub const ALL: [Button; 2] = [Button::Backup, Button::Restore];

    /// What is printed on it.
    pub const fn label(self) -> &'static str {
        match self {
            Button::Backup => "BACKUP",
            Button::Restore => "RESTORE",
        }
    }
}

/// Which of the board's disks; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotNumber(pub usize);

/// Something that hands did to the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardEvent {
    /// A button went down, debounced.
    Pressed(Button),
    /// A button came up, debounced.
    Released(Button),
    /// A button was pressed for a moment, at a board that knows no more: the keys of a terminal do not come up. However late
    /// this is told, it was short.
    Tapped(Button),
    /// Both buttons were pressed together for a moment, likewise.
    TappedBoth,
    /// A disk was put in.
    DiskIn(SlotNumber),
    /// A disk was taken out.
    DiskOut(SlotNumber),
    /// A person at a board with a keyboard wants the program to end.
    Quit,
}

/// Where a board's events go. Called from the board's own threads; must not block.
pub type Sink = Arc<dyn Fn(BoardEvent) + Send + Sync>;

/// How a lamp looks at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// Lit or dark, now.
    pub lit: bool,
    /// The pattern it is part of, in one word.
    pub pattern: &'a str,
    /// What that tells, in plain words.
    pub meaning: &'a str,
}

/// A front panel. Its events go to the [`Sink`] that it was opened with. Dropping it leaves all lamps dark and
/// the terminal, if it used one, as it was.
pub trait Board: Send {
    /// Lights or darkens a lamp. Boards that can show words show them too; others heed `lit` alone.
    ///
    /// # Errors
    /// [`BoardError::Pin`] or [`BoardError::Terminal`]. Another lamp may still be set.
    fn set_lamp(&mut self, lamp: Lamp, look: Look<'_>) -> Result<(), BoardError>;

    /// Shows a line of text for people, on boards that can.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    fn tell(&mut self, text: &str) -> Result<(), BoardError>;

    /// Shows how far a job has come, on boards that can; empty: no job.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    fn show_progress(&mut self, text: &str) -> Result<(), BoardError>;
}
