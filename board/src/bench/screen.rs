//! The bench board in a terminal: what is drawn ([`picture`], pure), and the drawing and keys through
//! `crossterm`.
//!
//! Lit and dark differ in shape as well as in colour, and every lamp carries its pattern and its meaning in
//! words: nothing is told by hue alone.

use std::io::{Stdout, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::{cursor, queue, terminal};

use crate::bench::command::{Command, HOLD_BACKUP, HOLD_RESTORE};
use crate::bench::view::{LampView, View};
use crate::error::BoardError;
use crate::panel::{Button, Lamp};

/// Width of one lamp's box, inside.
const CELL: usize = 24;
/// Room before the text of a message, for its time.
const NOTE_INDENT: usize = 13;
/// How long a wait for keys lasts before the end of the program is looked for.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ink {
    /// As the terminal's text.
    #[default]
    Plain,
    /// Stepped back.
    Faint,
    /// Stressed.
    Strong,
    /// In the colour of a lamp.
    Lamp(Lamp),
}

/// A line of the picture: pieces of text with their ink.
pub type Line = Vec<(Ink, String)>;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Hands do something.
    Command(Command),
    /// The terminal has another size.
    Resized,
}

/// The terminal while the board is drawn on it.
pub struct Screen {
    out: Stdout,
    open: bool,
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    pub fn open() -> Result<Self, BoardError> {
        terminal::enable_raw_mode().map_err(BoardError::Terminal)?;
        let mut screen = Self { out: std::io::stdout(), open: true };
        queue!(screen.out, terminal::EnterAlternateScreen, cursor::Hide).map_err(BoardError::Terminal)?;
        Ok(screen)
    }

    /// Draws the panel over what was drawn before.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    pub fn draw(&mut self, view: &View) -> Result<(), BoardError> {
        if !self.open {
            return Ok(());
        }
        let (width, height) = terminal::size().map_err(BoardError::Terminal)?;
        self.paint(&picture(view, width.into(), height.into()), height).map_err(BoardError::Terminal)
    }

    fn paint(&mut self, lines: &[Line], height: u16) -> std::io::Result<()> {
        queue!(self.out, terminal::BeginSynchronizedUpdate)?;
        for row in 0..height {
            queue!(self.out, cursor::MoveTo(0, row))?;
            for (ink, text) in lines.get(usize::from(row)).into_iter().flatten() {
                match ink {
                    Ink::Plain => {}
                    Ink::Faint => queue!(self.out, SetForegroundColor(Color::DarkGrey))?,
                    Ink::Strong => queue!(self.out, SetAttribute(Attribute::Bold))?,
                    Ink::Lamp(lamp) => {
                        queue!(self.out, SetForegroundColor(colour(*lamp)), SetAttribute(Attribute::Bold))?;
                    }
                }
                queue!(self.out, Print(text), ResetColor, SetAttribute(Attribute::Reset))?;
            }
            queue!(self.out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        queue!(self.out, terminal::EndSynchronizedUpdate)?;
        self.out.flush()
    }

    /// Gives the terminal back as it was.
    ///
    /// # Errors
    /// [`BoardError::Terminal`].
    pub fn close(&mut self) -> Result<(), BoardError> {
        if !std::mem::replace(&mut self.open, false) {
            return Ok(());
        }
        queue!(self.out, cursor::Show, terminal::LeaveAlternateScreen)
            .and_then(|()| self.out.flush())
            .and_then(|()| terminal::disable_raw_mode())
            .map_err(BoardError::Terminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Errors have no one left to go to: the terminal itself is what failed.
        drop(self.close());
    }
}

/// Waits a little for a key.
///
/// # Errors
/// [`BoardError::Terminal`]: the terminal is gone.
pub fn read_key() -> Result<Option<Key>, BoardError> {
    if !event::poll(KEY_WAIT).map_err(BoardError::Terminal)? {
        return Ok(None);
    }
    Ok(match event::read().map_err(BoardError::Terminal)? {
        Event::Resize(..) => Some(Key::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Key::Command(Command::Quit))
            }
            KeyCode::Char(letter) => command(letter).map(Key::Command),
            _ => None,
        },
        _ => None,
    })
}

/// A key as a deed: a terminal tells of no release, so holds are keys of their own.
fn command(letter: char) -> Option<Command> {
    match letter {
        'b' => Some(Command::Tap(Button::Backup)),
        'r' => Some(Command::Tap(Button::Restore)),
        'B' => Some(Command::Hold(Button::Backup, HOLD_BACKUP)),
        'R' => Some(Command::Hold(Button::Restore, HOLD_RESTORE)),
        'c' => Some(Command::Chord),
        '0' | 'e' => Some(Command::Pull),
        'q' => Some(Command::Quit),
        '1'..='9' => Some(Command::Insert(letter as usize - '1' as usize)),
        _ => None,
    }
}

fn colour(lamp: Lamp) -> Color {
    match lamp {
        Lamp::Status => Color::Green,
        Lamp::Disk => Color::Blue,
        Lamp::Fault => Color::Red,
    }
}

fn hue(lamp: Lamp) -> &'static str {
    match lamp {
        Lamp::Status => "green",
        Lamp::Disk => "blue",
        Lamp::Fault => "red",
    }
}

fn pattern_words(pattern: &str) -> &str {
    match pattern {
        "slow" => "slow blink",
        "fast" => "fast blink",
        "double" => "double flash",
        "count" => "counted flashes",
        "wink" => "short wink",
        "test" => "self-test",
        other => other,
    }
}

/// The whole picture for a terminal of this size; lines and columns beyond it are cut.
pub fn picture(view: &View, width: usize, height: usize) -> Vec<Line> {
    let mut lines = vec![
        vec![],
        vec![
            (Ink::Plain, "  ".into()),
            (Ink::Strong, "Mailkeep".into()),
            (Ink::Faint, "  front panel, on the bench".into()),
        ],
        frame('┌', '┬', '┐'),
    ];
    let cell = |text: &str| center(text, CELL);
    lines.push(row(view, |lamp, _| vec![(Ink::Strong, cell(lamp.label()))]));
    lines.push(row(view, |lamp, _| vec![(Ink::Faint, cell(hue(lamp)))]));
    for part in 0..3 {
        lines.push(row(view, |lamp, look| vec![bulb(lamp, look.lit, part)]));
    }
    lines.push(row(view, |_, look| vec![(Ink::Plain, cell(pattern_words(&look.pattern)))]));
    lines.push(row(view, |_, look| vec![(Ink::Strong, cell(&look.meaning))]));
    lines.push(row(view, |_, look| vec![(Ink::Faint, cell(&before(look)))]));
    lines.push(frame('├', '┴', '┤'));
    lines.push(controls(view));
    lines.push(frame('└', '─', '┘'));
    lines.push(vec![(Ink::Plain, format!("  {}", view.progress))]);
    lines.push(vec![]);

    let help = help(view.disks.len(), width);
    let room = height.saturating_sub(lines.len() + help.len() + 1);
    lines.extend(notes(view, room, width));
    while lines.len() + help.len() < height {
        lines.push(vec![]);
    }
    lines.extend(help);
    lines.truncate(height);
    lines.into_iter().map(|line| cut(line, width)).collect()
}

fn row(view: &View, cell: impl Fn(Lamp, &LampView) -> Line) -> Line {
    let bar = || (Ink::Faint, "│".to_owned());
    let mut line = vec![(Ink::Plain, "  ".to_owned()), bar()];
    for (lamp, look) in Lamp::ALL.into_iter().zip(&view.lamps) {
        line.extend(cell(lamp, look));
        line.push(bar());
    }
    line
}

/// What the lamp showed before, so that a phase that was too short to see is not missed.
fn before(look: &LampView) -> String {
    if look.before.is_empty() {
        return String::new();
    }
    let words: Vec<&str> = look.before.iter().map(String::as_str).collect();
    format!("({})", words.join(" "))
}

fn frame(left: char, middle: char, right: char) -> Line {
    let run = "─".repeat(CELL);
    vec![(Ink::Faint, format!("  {left}{run}{middle}{run}{middle}{run}{right}"))]
}

fn bulb(lamp: Lamp, lit: bool, part: usize) -> (Ink, String) {
    if lit {
        (Ink::Lamp(lamp), center(["▄█████▄", "███████", "▀█████▀"][part], CELL))
    } else {
        (Ink::Faint, center(["╭─────╮", "│     │", "╰─────╯"][part], CELL))
    }
}

fn controls(view: &View) -> Line {
    let mut line = vec![(Ink::Plain, "  ".to_owned()), (Ink::Faint, "│".into()), (Ink::Plain, "  ".into())];
    let mut used = 2;
    for (button, down) in Button::ALL.into_iter().zip(view.buttons) {
        let (ink, text) = if down {
            (Ink::Strong, format!("▐{}▌ ", button.label()))
        } else {
            (Ink::Plain, format!("[{}] ", button.label()))
        };
        used += text.chars().count();
        line.push((ink, text));
    }
    let inside = 3 * CELL + 2;
    let slot: String = view.slot_text().chars().take(inside.saturating_sub(used + 4)).collect();
    let gap = inside.saturating_sub(used + slot.chars().count() + 2);
    line.push((Ink::Plain, " ".repeat(gap)));
    line.push((if view.inserted.is_some() { Ink::Plain } else { Ink::Faint }, slot));
    line.push((Ink::Faint, "  │".into()));
    line
}

/// The newest messages that fit, each with its time, long ones over several lines.
fn notes(view: &View, room: usize, width: usize) -> Vec<Line> {
    let newest = view.notes.len().saturating_sub(1);
    let mut lines: Vec<Line> = Vec::new();
    for (place, note) in view.notes.iter().enumerate().skip(view.notes.len().saturating_sub(room)) {
        let ink = if place == newest { Ink::Plain } else { Ink::Faint };
        for (part, text) in wrap(&note.text, width.saturating_sub(NOTE_INDENT)).into_iter().enumerate() {
            let time = if part == 0 { note.time.as_str() } else { "" };
            lines.push(vec![(Ink::Faint, format!("  {time:8}  ")), (ink, text)]);
        }
    }
    lines.split_off(lines.len().saturating_sub(room))
}

/// Words in lines of at most `width` letters; a word that is longer has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn help(disks: usize, width: usize) -> Vec<Line> {
    let insert = if disks > 1 { format!("1-{disks}") } else { "1".to_owned() };
    let mut keys = vec![
        ("b", "backup, acknowledge"),
        ("B", "hold 3 s: eject"),
        ("r", "age of last backup"),
        ("R", "hold 5 s: arm restore"),
        ("c", "both together"),
    ];
    if disks > 0 {
        keys.extend([(insert.as_str(), "insert disk"), ("0", "pull it out")]);
    }
    keys.push(("q", "quit"));
    let mut lines: Vec<Line> = vec![vec![(Ink::Plain, " ".to_owned())]];
    let mut used = 1;
    for (key, what) in keys {
        let length = key.chars().count() + what.chars().count() + 4;
        if used + length > width && used > 1 {
            lines.push(vec![(Ink::Plain, " ".to_owned())]);
            used = 1;
        }
        used += length;
        if let Some(line) = lines.last_mut() {
            line.extend([(Ink::Strong, format!(" {key} ")), (Ink::Faint, format!("{what} "))]);
        }
    }
    lines
}

fn center(text: &str, width: usize) -> String {
    let text: String = text.chars().take(width).collect();
    format!("{text:^width$}")
}

fn cut(line: Line, width: usize) -> Line {
    let mut left = width;
    line.into_iter()
        .map(|(ink, text)| {
            let text: String = text.chars().take(left).collect();
            left -= text.chars().count();
            (ink, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bench::view::Note;

    fn view() -> View {
        let look = |lit, pattern: &str, meaning: &str| LampView {
            lit,
            pattern: pattern.into(),
            meaning: meaning.into(),
            before: ["fast", "double"].map(String::from).into(),
        };
        View {
            lamps: [
                look(true, "slow", "backup runs"),
                look(true, "slow", "in use, do not remove"),
                look(false, "off", "fine"),
            ],
            disks: vec![PathBuf::from("/x/monday.img")],
            inserted: Some(0),
            progress: "live pass".into(),
            notes: (0..100).map(|n| Note { time: "12:00:00".into(), text: format!("note {n}") }).collect(),
            ..View::default()
        }
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.iter().map(|(_, text)| text.as_str()).collect()).collect()
    }

    #[test]
    fn everything_is_also_said_in_words() {
        let all = text(&picture(&view(), 100, 30)).join("\n");
        for words in [
            "STATUS",
            "slow blink",
            "backup runs",
            "in use, do not remove",
            "off",
            "fine",
            "monday.img",
            "live pass",
            "note 99",
        ] {
            assert!(all.contains(words), "{words} is missing in\n{all}");
        }
    }

    #[test]
    fn a_long_message_is_read_in_full() {
        let mut view = view();
        view.notes.push_back(Note { time: "12:34:56".into(), text: "word ".repeat(40) });
        let lines = text(&picture(&view, 80, 30));
        assert_eq!(lines.join(" ").matches("word").count(), 40);
        assert_eq!(lines.iter().filter(|line| line.contains("12:34:56")).count(), 1);
        let all = lines.join("\n");
        for key in [" b backup", " B hold", " c both", " q quit"] {
            assert!(all.contains(key), "{key} is missing in\n{all}");
        }
    }

    #[test]
    fn lit_and_dark_differ_in_shape() {
        let shape = |lit| text(&[vec![bulb(Lamp::Fault, lit, 1)]]);
        assert_ne!(shape(true), shape(false));
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(0, 0), (1, 1), (20, 5), (80, 24), (300, 100)] {
            let lines = text(&picture(&view(), width, height));
            assert!(lines.len() <= height);
            assert!(lines.iter().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn frames_are_straight() {
        let lines = text(&picture(&view(), 200, 40));
        let widths: Vec<usize> = lines[2..=13].iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}\n{}", lines.join("\n"));
    }

    #[test]
    fn keys_and_lines_agree() {
        for letter in "brBRe0q19".chars() {
            assert_eq!(command(letter), Command::parse(&letter.to_string()).ok(), "{letter}");
        }
    }
}
