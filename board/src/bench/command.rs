//! What hands can do at the bench board, and how it is written as a line.

use std::time::Duration;

use crate::error::BoardError;
use crate::panel::Button;

/// Nobody holds a button longer than this; a script that does has mistaken the unit.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// How long `B` holds.
pub const HOLD_BACKUP: Duration = Duration::from_secs(3);
/// How long `R` holds.
pub const HOLD_RESTORE: Duration = Duration::from_secs(5);

/// One deed of a hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Press shortly.
    Tap(Button),
    /// Press and hold for this long.
    Hold(Button, Duration),
    /// Press both together.
    Chord,
    /// Put the disk with this index into the slot.
    Insert(usize),
    /// Pull the disk out of the slot.
    Pull,
    /// End the program.
    Quit,
}

impl Command {
    /// Reads a command line; see the table in [`bench`](crate::bench).
    ///
    /// # Errors
    /// [`BoardError::Command`].
    pub fn parse(line: &str) -> Result<Self, BoardError> {
        let text = line.trim();
        let command = match text {
            "b" => Some(Command::Tap(Button::Backup)),
            "r" => Some(Command::Tap(Button::Restore)),
            "BR" | "RB" => Some(Command::Chord),
            "0" | "e" => Some(Command::Pull),
            "q" => Some(Command::Quit),
            _ => held(text, 'B', Button::Backup, HOLD_BACKUP)
                .or_else(|| held(text, 'R', Button::Restore, HOLD_RESTORE))
                .or_else(|| slot(text)),
        };
        command.ok_or_else(|| BoardError::Command { line: text.chars().take(40).collect() })
    }
}

fn held(text: &str, letter: char, button: Button, default: Duration) -> Option<Command> {
    let seconds = text.strip_prefix(letter)?;
    if seconds.is_empty() {
        return Some(Command::Hold(button, default));
    }
    let time = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    (time <= LONGEST_HOLD).then_some(Command::Hold(button, time))
}

fn slot(text: &str) -> Option<Command> {
    let number: usize = text.parse().ok()?;
    (text.len() == 1).then(|| Command::Insert(number.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        for (line, command) in [
            ("b", Command::Tap(Button::Backup)),
            (" r \r", Command::Tap(Button::Restore)),
            ("B3", Command::Hold(Button::Backup, Duration::from_secs(3))),
            ("B", Command::Hold(Button::Backup, Duration::from_secs(3))),
            ("R5", Command::Hold(Button::Restore, Duration::from_secs(5))),
            ("R", Command::Hold(Button::Restore, Duration::from_secs(5))),
            ("B1.5", Command::Hold(Button::Backup, Duration::from_millis(1500))),
            ("BR", Command::Chord),
            ("1", Command::Insert(0)),
            ("9", Command::Insert(8)),
            ("0", Command::Pull),
            ("e", Command::Pull),
            ("q", Command::Quit),
        ] {
            assert_eq!(Command::parse(line).unwrap(), command, "{line}");
        }
    }

    #[test]
    fn anything_else_is_one_clear_line() {
        let long = "x".repeat(10_000);
        for line in ["", "bb", "B-1", "Binf", "BNaN", "B1e9", "10", "01", "+1", "RBR", "ü", &long] {
            let text = Command::parse(line).unwrap_err().to_string();
            assert!(
                text.contains("is no command") && text.lines().count() == 1 && text.len() < 150,
                "{line}"
            );
        }
    }
}
