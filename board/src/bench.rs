//! The bench board: the front panel without hardware, for the workbench, for demonstrations and for scripts.
//!
//! **In a terminal** it draws lamps, buttons, slot and messages in place, and takes keys ([`screen`]).
//! **Without a terminal** it takes the same as lines on stdin and prints what changes as lines on stdout, so
//! that a script can drive and watch it:
//!
//! | line in | does |
//! |---|---|
//! | `b`, `r` | short press of BACKUP, RESTORE |
//! | `B3`, `R5` (`B`, `R`) | hold for that many seconds, fractions allowed (without a number: 3, 5) |
//! | `BR` | both together |
//! | `1` to `9` | put bench disk n into the slot |
//! | `0`, `e` | pull the disk out, at once and without asking: a surprise removal if it was in use |
//! | `q` | end the program |
//!
//! | line out | says |
//! |---|---|
//! | `lamp DISK steady` | a lamp changed its pattern: `off steady slow fast double wink test count` |
//! | `button BACKUP down`, `button BACKUP up` | a button moved |
//! | `disk 1 in`, `disk 1 out` | the slot changed |
//! | `note TEXT` | a message for people |
//! | `progress TEXT` | how far the job is; without text: no job |
//! | `error TEXT` | a line was not understood or can't be done |
//!
//! Lines are worked off one after the other: a line that follows a hold takes effect when the hold is over. The
//! end of the input is no command; the board then goes on without hands.

pub mod command;
pub mod panel;
pub mod screen;
pub mod view;

use std::io::{BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::BoardError;
use crate::layout::BenchLayout;
use crate::panel::{Board, BoardEvent, Button, Lamp, Look, Sink, SlotNumber};
use command::Command;
use panel::{Face, Panel};
use view::Change;

/// A finger that presses shortly stays on the button this long.
const TAP: Duration = Duration::from_millis(120);
/// A hold is this much longer than asked for, as a hand's would be: at the very moment nothing is certain.
const HOLD_MARGIN: Duration = Duration::from_millis(200);

/// Do stdin and stdout both belong to a terminal, so that the board will draw on it?
pub fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The bench board.
pub struct Bench {
    panel: Arc<Mutex<Panel>>,
    open: Arc<AtomicBool>,
    keys: Option<JoinHandle<()>>,
}

impl Bench {
    /// Opens the board on this process's terminal, or on its stdin and stdout if there is none.
    ///
    /// # Errors
    /// [`BoardError::Terminal`], [`BoardError::Thread`].
    pub fn open(layout: &BenchLayout, sink: Sink) -> Result<Self, BoardError> {
        if !has_terminal() {
            return Self::lines(layout, sink, std::io::BufReader::new(std::io::stdin()), std::io::stdout());
        }
        let screen = screen::Screen::open()?;
        let panel = shared(Panel::new(&layout.disks, Face::Screen(screen)));
        let open = Arc::new(AtomicBool::new(true));
        let (insert, still) = (layout.insert, Arc::clone(&open));
        let mut hands = Hands { panel: Arc::clone(&panel), sink };
        let keys = spawn(move || {
            hands.insert_first(insert);
            hands.follow_keys(&still);
        })?;
        let board = Self { panel, open, keys: Some(keys) };
        board.lock().change(Change::Redraw)?;
        Ok(board)
    }

    /// Opens the board on any pair of streams, line by line.
    ///
    /// # Errors
    /// [`BoardError::Thread`].
    pub fn lines(
        layout: &BenchLayout,
        sink: Sink,
        input: impl BufRead + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> Result<Self, BoardError> {
        let panel = shared(Panel::new(&layout.disks, Face::Lines(Box::new(output))));
        let insert = layout.insert;
        let mut hands = Hands { panel: Arc::clone(&panel), sink };
        // Not joined: it may wait for a line for ever.
        spawn(move || {
            hands.insert_first(insert);
            hands.follow_lines(input);
        })?;
        Ok(Self { panel, open: Arc::new(AtomicBool::new(true)), keys: None })
    }

    fn lock(&self) -> MutexGuard<'_, Panel> {
        lock(&self.panel)
    }
}

impl Board for Bench {
    fn set_lamp(&mut self, lamp: Lamp, look: Look<'_>) -> Result<(), BoardError> {
        self.lock().change(Change::Lamp(lamp, look))
    }

    fn tell(&mut self, text: &str) -> Result<(), BoardError> {
        self.lock().change(Change::Note(text))
    }

    fn show_progress(&mut self, text: &str) -> Result<(), BoardError> {
        self.lock().change(Change::Progress(text))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Relaxed);
        if let Some(keys) = self.keys.take() {
            if keys.join().is_err() {
                tracing::error!("the thread that reads the keys had died");
            }
        }
        if let Err(error) = self.lock().close() {
            tracing::warn!(%error, "the terminal may need `reset`");
        }
    }
}

fn shared(panel: Panel) -> Arc<Mutex<Panel>> {
    Arc::new(Mutex::new(panel))
}

fn lock(panel: &Mutex<Panel>) -> MutexGuard<'_, Panel> {
    // A drawing that was cut short is drawn anew: nothing in the panel can be half done.
    panel.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(hands: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BoardError> {
    std::thread::Builder::new()
        .name("hands".into())
        .spawn(hands)
        .map_err(|source| BoardError::Thread { what: "keys", source })
}

/// What stands in for a person's hands: turns commands into edges, at a hand's pace.
struct Hands {
    panel: Arc<Mutex<Panel>>,
    sink: Sink,
}

impl Hands {
    fn insert_first(&mut self, insert: Option<usize>) {
        if let Some(index) = insert {
            self.obey(Command::Insert(index));
        }
    }

    fn follow_lines(&mut self, input: impl BufRead) {
        for line in input.lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            match Command::parse(&line) {
                Ok(command) => self.obey(command),
                Err(error) => self.show(Change::Error(&error.to_string())),
            }
        }
    }

    fn follow_keys(&mut self, open: &AtomicBool) {
        while open.load(Ordering::Relaxed) {
            match screen::read_key() {
                Ok(Some(screen::Key::Command(command))) => self.obey(command),
                Ok(Some(screen::Key::Resized)) => self.show(Change::Redraw),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "the terminal is gone");
                    (self.sink)(BoardEvent::Quit);
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Tap(button) => self.tap(&[button], BoardEvent::Tapped(button)),
            Command::Hold(button, time) => self.hold(button, time + HOLD_MARGIN),
            Command::Chord => self.tap(&Button::ALL, BoardEvent::TappedBoth),
            Command::Insert(index) => self.insert(index),
            Command::Pull => self.pull(),
            Command::Quit => (self.sink)(BoardEvent::Quit),
        }
    }

    /// Told as one event: how long it took here, on a busy machine, says nothing of the hand.
    fn tap(&mut self, buttons: &[Button], event: BoardEvent) {
        buttons.iter().for_each(|button| self.show(Change::Button(*button, true)));
        std::thread::sleep(TAP);
        buttons.iter().for_each(|button| self.show(Change::Button(*button, false)));
        (self.sink)(event);
    }

    fn hold(&mut self, button: Button, time: Duration) {
        self.show(Change::Button(button, true));
        (self.sink)(BoardEvent::Pressed(button));
        std::thread::sleep(time);
        self.show(Change::Button(button, false));
        (self.sink)(BoardEvent::Released(button));
    }

    fn insert(&mut self, index: usize) {
        let refused = {
            let panel = lock(&self.panel);
            match panel.inserted() {
                Some(inside) => Some(format!("disk {} is in the slot: pull it first (0)", inside + 1)),
                None if index >= panel.disks() => Some(format!("there is no bench disk {}", index + 1)),
                None => None,
            }
        };
        match refused {
            Some(why) => self.show(Change::Error(&why)),
            None => {
                self.show(Change::Slot(Some(index)));
                (self.sink)(BoardEvent::DiskIn(SlotNumber(index + 1)));
            }
        }
    }

    fn pull(&mut self) {
        let inserted = lock(&self.panel).inserted();
        match inserted {
            None => self.show(Change::Error("the slot is empty")),
            Some(index) => {
                self.show(Change::Slot(None));
                (self.sink)(BoardEvent::DiskOut(SlotNumber(index + 1)));
            }
        }
    }

    fn show(&self, change: Change<'_>) {
        if let Err(error) = lock(&self.panel).change(change) {
            tracing::debug!(%error, "the bench board cannot show this");
        }
    }
}
