//! The bench board driven as a script drives it: lines in, events and lines out.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::io::{BufReader, Cursor, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mailkeep_board::bench::Bench;
use mailkeep_board::layout::BenchLayout;
use mailkeep_board::{Board, BoardEvent, Button, Lamp, Look, SlotNumber};

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Feeds the script and collects events until `q` arrives.
fn play(script: &'static str, insert: Option<usize>) -> (Vec<BoardEvent>, Paper) {
    let layout = BenchLayout { disks: vec![PathBuf::from("a"), PathBuf::from("b")], insert };
    let (sender, events) = mpsc::channel();
    let sink = Arc::new(move |event| sender.send(event).unwrap_or_default());
    let paper = Paper::default();
    let board = Bench::lines(&layout, sink, BufReader::new(Cursor::new(script)), paper.clone()).unwrap();
    let mut seen = Vec::new();
    loop {
        match events.recv_timeout(Duration::from_secs(300)).unwrap() {
            BoardEvent::Quit => break,
            event => seen.push(event),
        }
    }
    drop(board);
    (seen, paper)
}

#[test]
fn buttons_move_and_are_printed() {
    let (events, paper) = play("b\nr\nBR\nB0.1\nq\n", None);
    use BoardEvent::{Pressed, Released, Tapped, TappedBoth};
    use Button::{Backup, Restore};
    assert_eq!(events, [Tapped(Backup), Tapped(Restore), TappedBoth, Pressed(Backup), Released(Backup)]);
    assert_eq!(paper.lines()[..2], ["button BACKUP down", "button BACKUP up"]);
}

#[test]
fn disks_come_and_go_one_at_a_time() {
    let (events, paper) = play("2\n0\n0\n2\n7\ne\n7\nq\n", Some(0));
    use BoardEvent::{DiskIn, DiskOut};
    assert_eq!(
        events,
        [DiskIn(SlotNumber(1)), DiskOut(SlotNumber(1)), DiskIn(SlotNumber(2)), DiskOut(SlotNumber(2)),]
    );
    assert_eq!(
        paper.lines(),
        [
            "disk 1 in",
            "error disk 1 is in the slot: pull it first (0)",
            "disk 1 out",
            "error the slot is empty",
            "disk 2 in",
            "error disk 2 is in the slot: pull it first (0)",
            "disk 2 out",
            "error there is no bench disk 7",
        ]
    );
}

#[test]
fn nonsense_is_answered_and_survived() {
    let (events, paper) = play("\nhello\nB999\nb\nq\n", None);
    assert_eq!(events, [BoardEvent::Tapped(Button::Backup)]);
    assert_eq!(paper.lines().iter().filter(|line| line.starts_with("error ")).count(), 2);
}

#[test]
fn what_is_shown_is_printed_as_lines() {
    let layout = BenchLayout { disks: vec![], insert: None };
    let paper = Paper::default();
    let input = BufReader::new(Cursor::new(""));
    let mut board = Bench::lines(&layout, Arc::new(|_| {}), input, paper.clone()).unwrap();
    let look = |lit| Look { lit, pattern: "fast", meaning: "mail is stopped" };
    board.set_lamp(Lamp::Status, look(true)).unwrap();
    board.set_lamp(Lamp::Status, look(false)).unwrap();
    board.tell("Backup started.").unwrap();
    board.show_progress("window").unwrap();
    board.show_progress("").unwrap();
    assert_eq!(paper.lines(), ["lamp STATUS fast", "note Backup started.", "progress window", "progress"]);
}
