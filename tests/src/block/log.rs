//! What happened to a disk, in order, and which disks a power cut may leave.

use std::collections::HashSet;
use std::sync::Arc;

use super::image::Image;
use crate::rng::Rng;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes arrived.
    Write(u64, Arc<[u8]>),
    /// All that had arrived was made durable.
    Flush,
    /// Somebody was told that something is safe.
    Mark(u64),
}

/// A disk and what happened to it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The disk before.
    pub base: Image,
    /// What happened.
    pub events: Vec<Event>,
}

/// A disk as it may be found after a power cut.
#[derive(Clone, Debug)]
pub struct State {
    /// Its bytes.
    pub image: Image,
    /// What had been called safe before power was cut.
    pub marks: Vec<u64>,
    /// Where in the log, and which part of the last writes it has.
    pub context: String,
}

impl Log {
    /// Writes and flushes.
    pub fn counts(&self) -> (usize, usize) {
        let writes = self.events.iter().filter(|event| matches!(event, Event::Write(..))).count();
        let flushes = self.events.iter().filter(|event| matches!(event, Event::Flush)).count();
        (writes, flushes)
    }

    /// Goes through different legal states until `wanted` were shown or there are no more: of the writes between two
    /// flushes every subset where there are few; else every beginning of them, all but one, and draws, in which a write
    /// may also be torn between sectors of `sector` bytes. Gives how many were shown.
    pub fn states(&self, wanted: usize, sector: usize, show: &mut dyn FnMut(State)) -> usize {
        let epochs = self.epochs();
        // The later ones have more to lose; the states that one epoch cannot give are taken by those that follow.
        let (mut shown, mut seen) = (0, HashSet::new());
        for (number, epoch) in epochs.iter().enumerate() {
            let left = (wanted - shown).div_ceil(epochs.len() - number);
            let mut here = 0;
            for (what, parts) in subsets(epoch, left, sector, number as u64) {
                let mut image = epoch.durable.clone();
                for (offset, bytes) in &parts {
                    image.write(*offset, bytes);
                }
                if here < left && seen.insert(image.fingerprint()) {
                    here += 1;
                    let context = format!("epoch {number} with {} writes, {what}", epoch.writes.len());
                    show(State { image, marks: epoch.marks.clone(), context });
                }
            }
            shown += here;
        }
        shown
    }

    /// States that only a disk which lies about flushes can leave: a random half of the last `window` writes before some
    /// moment after the first mark is lost, whatever was flushed.
    pub fn lies(&self, count: usize, window: usize, show: &mut dyn FnMut(State)) {
        let first = self.events.iter().position(|event| matches!(event, Event::Mark(_))).unwrap_or(0);
        for number in 0..count {
            let mut rng = Rng::new(0x11e5 + number as u64);
            let end = first + rng.index(self.events.len() - first) + 1;
            let writes: Vec<usize> =
                (0..end).filter(|at| matches!(self.events[*at], Event::Write(..))).collect();
            let last = &writes[writes.len().saturating_sub(window)..];
            let mut lost: HashSet<usize> = last.iter().copied().collect();
            while lost.len() > last.len() / 2 {
                let back = *rng.pick(last);
                lost.remove(&back);
            }
            let (mut image, mut marks) = (self.base.clone(), Vec::new());
            for (at, event) in self.events[..end].iter().enumerate() {
                match event {
                    Event::Write(offset, bytes) if !lost.contains(&at) => image.write(*offset, bytes),
                    Event::Mark(mark) => marks.push(*mark),
                    _ => {}
                }
            }
            let context = format!("lie {number}, power cut after event {end}, {} writes lost", lost.len());
            show(State { image, marks, context });
        }
    }

    fn epochs(&self) -> Vec<Epoch> {
        let mut epochs = Vec::new();
        let mut epoch = Epoch { durable: self.base.clone(), writes: Vec::new(), marks: Vec::new() };
        for event in &self.events {
            match event {
                Event::Write(offset, bytes) => epoch.writes.push((*offset, bytes.clone())),
                Event::Mark(mark) => epoch.marks.push(*mark),
                Event::Flush if epoch.writes.is_empty() => {}
                Event::Flush => {
                    let mut durable = epoch.durable.clone();
                    for (offset, bytes) in &epoch.writes {
                        durable.write(*offset, bytes);
                    }
                    let next = Epoch { durable, writes: Vec::new(), marks: epoch.marks.clone() };
                    epochs.push(std::mem::replace(&mut epoch, next));
                }
            }
        }
        epochs.push(epoch);
        epochs
    }
}

/// What lies between two flushes.
struct Epoch {
    durable: Image,
    writes: Vec<Part>,
    /// All that was called safe before its end.
    marks: Vec<u64>,
}

type Part = (u64, Arc<[u8]>);

/// Parts of the writes of an epoch that may have reached the medium; a few more than are wanted, for some are equal.
fn subsets(epoch: &Epoch, wanted: usize, sector: usize, seed: u64) -> Vec<(String, Vec<Part>)> {
    let count = epoch.writes.len();
    let all = |keep: &dyn Fn(usize) -> bool| -> Vec<Part> {
        (0..count).filter(|at| keep(*at)).map(|at| epoch.writes[at].clone()).collect()
    };
    let mut parts = Vec::new();
    if count < 16 && 1 << count <= wanted {
        parts.extend(
            (0..1u64 << count).map(|mask| (format!("subset {mask:b}"), all(&|at| mask >> at & 1 == 1))),
        );
    } else {
        // The corners first, then in turn the three kinds, so that a small number has some of each.
        parts.push(("none of them".to_owned(), Vec::new()));
        parts.push(("all of them".to_owned(), all(&|_| true)));
        for step in 0..count.min(wanted) {
            let at = step * count / count.min(wanted);
            parts.push((format!("the first {at}"), all(&|other| other < at)));
            parts.push((format!("all but number {at}"), all(&|other| other != at)));
        }
        let mut rng = Rng::new(seed);
        for draw in 0..wanted {
            let kept: Vec<bool> = (0..count).map(|_| rng.chance(0.5)).collect();
            parts.push((format!("draw {draw}"), all(&|at| kept[at])));
        }
        let (_, rest) = parts.split_at_mut(2);
        for at in (1..rest.len()).rev() {
            rest.swap(at, rng.index(at + 1));
        }
    }
    let mut rng = Rng::new(seed ^ 0x7ea5);
    for draw in 0..wanted / 2 {
        let torn = epoch.writes.iter().flat_map(|(offset, bytes)| tear(*offset, bytes, sector, &mut rng));
        parts.push((format!("torn draw {draw}"), torn.collect()));
    }
    parts
}

/// All of a write, nothing of it, or some of its sectors. The first block is never torn: ext4 has a super block there whose
/// checksum spans two sectors, and takes it for granted that they are written together.
fn tear(offset: u64, bytes: &Arc<[u8]>, sector: usize, rng: &mut Rng) -> Vec<Part> {
    match rng.below(if offset < 4096 { 2 } else { 3 }) {
        0 => Vec::new(),
        1 => vec![(offset, bytes.clone())],
        _ => (0..bytes.len())
            .step_by(sector)
            .filter(|_| rng.chance(0.5))
            .map(|from| (offset + from as u64, bytes[from..(from + sector).min(bytes.len())].into()))
            .collect(),
    }
}
