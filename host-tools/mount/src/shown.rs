//! Which snapshots are shown. News are asked for when somebody looks, at most every few seconds; a snapshot keeps its place
//! for the life of the mount, since the kernel may know files of one that is gone.

use std::time::{Duration, Instant};

use crate::snapshot::{News, Snapshot};

/// How often news are asked for at most: it lists a folder of the repository's disk.
const EVERY: Duration = Duration::from_secs(2);
/// Shortest beginning of an id that is looked up; shorter ones are more likely a program's probing.
const PREFIX_MIN: usize = 4;

pub(crate) struct Shown {
    /// All that ever were shown.
    all: Vec<Snapshot>,
    /// Those that are there, oldest first.
    now: Vec<usize>,
    news: Option<News>,
    asked: Option<Instant>,
}

impl Shown {
    pub(crate) fn new(all: Vec<Snapshot>, news: Option<News>) -> Self {
        let now = (0..all.len()).collect();
        Shown { all, now, news, asked: None }
    }

    /// Asks for news, unless that was done a moment ago.
    pub(crate) fn refresh(&mut self) {
        let Some(news) = &mut self.news else { return };
        if self.asked.is_some_and(|asked| asked.elapsed() < EVERY) {
            return;
        }
        let came = news();
        self.asked = Some(Instant::now());
        let Some(came) = came else { return };
        self.now.clear();
        for snapshot in came {
            let known = self.all.iter().position(|known| known.id == snapshot.id);
            let place = known.unwrap_or(self.all.len());
            match self.all.get_mut(place) {
                // What reads the new ones reads the old ones too: the reader of before can go.
                Some(known) => *known = snapshot,
                None => self.all.push(snapshot),
            }
            self.now.push(place);
        }
    }

    /// A snapshot by its place, also one that is gone.
    pub(crate) fn get(&self, place: usize) -> Option<&Snapshot> {
        self.all.get(place)
    }

    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.all.get(*self.now.last()?)
    }

    /// Those that are there, oldest first, with their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Snapshot)> {
        self.now.iter().filter_map(|place| Some((*place, self.all.get(*place)?)))
    }

    /// One by its id, or by a beginning that only one has.
    pub(crate) fn find(&self, name: &[u8]) -> Option<(usize, &Snapshot)> {
        let mut fitting = self.iter().filter(|(_, snapshot)| snapshot.id.as_bytes().starts_with(name));
        let found = fitting.next()?;
        (name.len() >= PREFIX_MIN && fitting.next().is_none()).then_some(found)
    }
}
