//! Which snapshots are shown. News are asked for when somebody looks, at most every few seconds; a snapshot keeps its place
//! for the life of the mount, since the kernel may know files of one that is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailkeep_restorer::View;

use crate::snapshot::{News, Snapshot};

/// How often news are asked for at most: it lists a folder of the repository's disk.
const EVERY: Duration = Duration::from_secs(2);
/// Shortest beginning of an id that is looked up; shorter ones are more likely a program's probing.
const PREFIX_MIN: usize = 4;

/// A snapshot as it is handed around.
#[derive(Clone)]
pub(crate) struct Held {
    /// Its place.
    pub(crate) place: usize,
    pub(crate) id: Arc<str>,
    pub(crate) time: i64,
    pub(crate) has_mail: bool,
    pub(crate) view: Arc<View>,
}

pub(crate) struct Shown {
    list: Mutex<List>,
    /// Apart from the list, so that nobody waits for a disk who only wants to know what there is.
    news: Mutex<(Option<News>, Option<Instant>)>,
}

struct List {
    /// All that ever were shown.
    all: Vec<Held>,
    /// Those that are there, oldest first.
    now: Vec<usize>,
}

impl Shown {
    pub(crate) fn new(snapshots: Vec<Snapshot>, news: Option<News>) -> Self {
        let mut list = List { all: Vec::new(), now: Vec::new() };
        list.set(snapshots);
        Shown { list: Mutex::new(list), news: Mutex::new((news, None)) }
    }

    /// Asks for news, unless that was done a moment ago. Looks at the disk.
    pub(crate) fn refresh(&self) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(ask), asked) = &mut *news else { return };
        if asked.is_some_and(|asked| asked.elapsed() < EVERY) {
            return;
        }
        let came = ask();
        *asked = Some(Instant::now());
        if let Some(came) = came {
            self.list().set(came);
        }
    }

    /// How long there is nothing to ask for: `None` if it is time to, or if that is being done.
    pub(crate) fn fresh_for(&self) -> Option<Duration> {
        let news = self.news.try_lock().ok()?;
        match &*news {
            (None, _) => Some(Duration::MAX),
            (_, asked) => EVERY.checked_sub(asked.as_ref()?.elapsed()).filter(|left| !left.is_zero()),
        }
    }

    /// A snapshot by its place, also one that is gone.
    pub(crate) fn get(&self, place: usize) -> Option<Held> {
        self.list().all.get(place).cloned()
    }

    pub(crate) fn newest(&self) -> Option<Held> {
        let list = self.list();
        list.all.get(*list.now.last()?).cloned()
    }

    /// Those that are there, oldest first.
    pub(crate) fn all(&self) -> Vec<Held> {
        let list = self.list();
        list.now.iter().filter_map(|place| list.all.get(*place).cloned()).collect()
    }

    /// One by its id, or by a beginning that only one has.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Held> {
        if name.len() < PREFIX_MIN {
            return None;
        }
        let list = self.list();
        let held = list.now.iter().filter_map(|place| list.all.get(*place));
        let mut fitting = held.filter(|held| held.id.as_bytes().starts_with(name));
        let found = fitting.next()?;
        fitting.next().is_none().then(|| found.clone())
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn set(&mut self, snapshots: Vec<Snapshot>) {
        self.now.clear();
        for snapshot in snapshots {
            let known = self.all.iter().position(|known| *known.id == *snapshot.id);
            let place = known.unwrap_or(self.all.len());
            let Snapshot { id, time, has_mail, view } = snapshot;
            let held = Held { place, id: id.into(), time, has_mail, view: Arc::new(view) };
            match self.all.get_mut(place) {
                // What reads the new ones reads the old ones too: the reader of before can go.
                Some(known) => *known = held,
                None => self.all.push(held),
            }
            self.now.push(place);
        }
    }
}
