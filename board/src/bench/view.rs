//! What the bench board shows, apart from how: the state of the panel, and each change of it as a line.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::panel::{Button, Lamp, Look};

/// Messages that are kept for the screen.
const NOTES: usize = 200;
/// Patterns before the present one that are kept: a phase of a small backup is over before anyone has looked.
const BEFORE: usize = 3;

/// A lamp as it looks now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LampView {
    /// Lit or dark.
    pub lit: bool,
    /// The pattern, in one word.
    pub pattern: String,
    /// What it tells.
    pub meaning: String,
    /// The patterns before, oldest first.
    pub before: VecDeque<String>,
}

/// Something that is to be shown.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A lamp.
    Lamp(Lamp, Look<'a>),
    /// A button went down (true) or up.
    Button(Button, bool),
    /// The disk with this index is in the slot, or none.
    Slot(Option<usize>),
    /// A message.
    Note(&'a str),
    /// A line was not understood, or can't be done.
    Error(&'a str),
    /// How far the job is.
    Progress(&'a str),
    /// Nothing, but the terminal has changed.
    Redraw,
}

/// The panel's state.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// STATUS, DISK, FAULT.
    pub lamps: [LampView; 3],
    /// BACKUP, RESTORE: is it down?
    pub buttons: [bool; 2],
    /// The bench disks.
    pub disks: Vec<PathBuf>,
    /// The one in the slot.
    pub inserted: Option<usize>,
    /// How far the job is.
    pub progress: String,
    /// Messages, oldest first.
    pub notes: VecDeque<Note>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Time of day, as `HH:MM:SS`.
    pub time: String,
    /// One line.
    pub text: String,
}

impl View {
    /// Takes over a change; returns it as a line if anything did change.
    pub fn take(&mut self, change: Change<'_>) -> Option<String> {
        match change {
            Change::Lamp(lamp, look) => {
                let view = &mut self.lamps[lamp as usize];
                let new = view.pattern != look.pattern;
                let was = std::mem::replace(&mut view.pattern, look.pattern.to_owned());
                if new && !was.is_empty() {
                    view.before.push_back(was);
                    view.before.drain(..view.before.len().saturating_sub(BEFORE));
                }
                view.lit = look.lit;
                look.meaning.clone_into(&mut view.meaning);
                new.then(|| format!("lamp {lamp} {}", look.pattern))
            }
            Change::Button(button, down) => {
                self.buttons[button as usize] = down;
                Some(format!("button {} {}", button.label(), if down { "down" } else { "up" }))
            }
            Change::Slot(slot) => {
                let was = std::mem::replace(&mut self.inserted, slot);
                let word = if slot.is_some() { "in" } else { "out" };
                slot.or(was).map(|index| format!("disk {} {word}", index + 1))
            }
            Change::Note(text) => {
                self.note(text);
                Some(format!("note {}", one_line(text)))
            }
            Change::Error(text) => {
                self.note(text);
                Some(format!("error {}", one_line(text)))
            }
            Change::Progress(text) => {
                let new = self.progress != text;
                text.clone_into(&mut self.progress);
                new.then(|| format!("progress {}", one_line(text)).trim_end().to_owned())
            }
            Change::Redraw => None,
        }
    }

    fn note(&mut self, text: &str) {
        if self.notes.len() >= NOTES {
            self.notes.pop_front();
        }
        let time = chrono::Local::now().format("%H:%M:%S").to_string();
        self.notes.push_back(Note { time, text: one_line(text) });
    }

    /// The disk in the slot, in words.
    pub fn slot_text(&self) -> String {
        match self.inserted.and_then(|index| Some((index, self.disks.get(index)?))) {
            None => "slot empty".to_owned(),
            Some((index, path)) => format!("slot: disk {}  {}", index + 1, short(path)),
        }
    }
}

/// What is shown comes in part from disks and servers: it must not break lines or steer a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn short(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(lit: bool, pattern: &str) -> Look<'_> {
        Look { lit, pattern, meaning: "" }
    }

    #[test]
    fn a_lamp_is_printed_when_its_pattern_changes_not_when_it_blinks() {
        let mut view = View::default();
        let mut lines = Vec::new();
        for change in [
            Change::Lamp(Lamp::Disk, look(true, "slow")),
            Change::Lamp(Lamp::Disk, look(false, "slow")),
            Change::Lamp(Lamp::Fault, look(false, "off")),
            Change::Lamp(Lamp::Disk, look(true, "steady")),
        ] {
            lines.extend(view.take(change));
        }
        assert_eq!(lines, ["lamp DISK slow", "lamp FAULT off", "lamp DISK steady"]);
    }

    #[test]
    fn a_message_is_one_line_and_harmless() {
        let line = View::default().take(Change::Note("a\nb\x1b[2Jc")).unwrap();
        assert_eq!(line, "note a b [2Jc");
    }

    #[test]
    fn progress_is_printed_when_it_changes() {
        let mut view = View::default();
        assert_eq!(view.take(Change::Progress("live pass")).as_deref(), Some("progress live pass"));
        assert_eq!(view.take(Change::Progress("live pass")), None);
        assert_eq!(view.take(Change::Progress("")).as_deref(), Some("progress"));
    }
}
