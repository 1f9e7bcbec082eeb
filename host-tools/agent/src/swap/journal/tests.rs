//! The journal on a model of a disk that forgets what was not synced, killed at every call, both ways.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;

type Places = BTreeMap<PathBuf, u64>;

/// What a disk holds, and the renames that it may still forget, one after the other or all but the first.
#[derive(Default)]
struct Disk {
    durable: RefCell<Places>,
    now: RefCell<Places>,
    /// Steps that were flipped and not synced, in order.
    loose: RefCell<Vec<Step>>,
    journal: RefCell<Option<Journal>>,
    /// Calls until the power goes, or for ever.
    left: Cell<Option<u32>>,
    /// Flips of this place fail.
    broken: RefCell<Option<PathBuf>>,
}

impl Disk {
    fn new(journal: &Journal) -> Disk {
        let mut places = Places::new();
        for step in &journal.steps {
            places.extend(step.old.map(|inode| (step.live.clone(), inode)));
            places.extend(step.new.map(|inode| (step.beside.clone(), inode)));
        }
        Disk { durable: RefCell::new(places.clone()), now: RefCell::new(places), ..Disk::default() }
    }

    fn call(&self) -> io::Result<()> {
        match self.left.get() {
            Some(0) => Err(io::Error::other("dead")),
            left => {
                self.left.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    /// The power comes back; of what was not synced the renames in `kept` were written.
    fn boot(&self, kept: impl Fn(usize) -> bool) {
        let mut places = self.durable.borrow().clone();
        for (index, step) in self.loose.borrow_mut().drain(..).enumerate() {
            if kept(index) {
                flip(&mut places, &step);
            }
        }
        *self.durable.borrow_mut() = places.clone();
        *self.now.borrow_mut() = places;
        self.left.set(None);
    }
}

fn flip(places: &mut Places, step: &Step) {
    let (live, beside) = (places.remove(&step.live), places.remove(&step.beside));
    places.extend(live.map(|inode| (step.beside.clone(), inode)));
    places.extend(beside.map(|inode| (step.live.clone(), inode)));
}

impl Ground for Disk {
    fn inode(&self, path: &Path) -> io::Result<Option<u64>> {
        self.call()?;
        Ok(self.now.borrow().get(path).copied())
    }

    fn flip(&self, step: &Step) -> io::Result<()> {
        self.call()?;
        if self.broken.borrow().as_deref() == Some(&step.live) {
            return Err(io::Error::other("broken"));
        }
        flip(&mut self.now.borrow_mut(), step);
        self.loose.borrow_mut().push(step.clone());
        Ok(())
    }

    fn sync(&self, step: &Step) -> io::Result<()> {
        self.call()?;
        let mut loose = self.loose.borrow_mut();
        let mut durable = self.durable.borrow_mut();
        for one in loose.iter().filter(|one| one.live == step.live) {
            flip(&mut durable, one);
        }
        loose.retain(|one| one.live != step.live);
        Ok(())
    }

    fn note(&self, journal: &Journal) -> io::Result<()> {
        self.call()?;
        *self.journal.borrow_mut() = Some(journal.clone());
        Ok(())
    }
}

fn journal() -> Journal {
    let step = |name: &str, old, new| Step {
        live: format!("/srv/{name}").into(),
        beside: format!("/srv/.beside/{name}").into(),
        old,
        new,
    };
    let steps = vec![
        step("conf", Some(1), Some(11)),
        step("spool", Some(2), Some(12)),
        step("sieve", None, Some(13)),
        step("gone", Some(4), None),
    ];
    Journal { version: 1, snapshot: "s".to_owned(), goal: Goal::New, ran: true, stop: None, steps }
}

fn side(disk: &Disk, journal: &Journal) -> Standing {
    journal.standing(disk).unwrap()
}

/// What the next one who comes makes of it. Without a journal nothing moved.
fn recovered(disk: &Disk) -> Standing {
    let found = disk.journal.borrow().clone();
    match found {
        Some(mut found) => {
            found.settle(disk).unwrap();
            // Mail is started now, the journal goes, and the power may go again at once.
            disk.boot(|_| false);
            let standing = side(disk, &found);
            assert_eq!(standing, Standing::All(found.goal));
            standing
        }
        None => side(disk, &journal()),
    }
}

#[test]
fn killed_at_every_call_all_is_old_or_all_is_new() {
    let mut states = 0;
    let mut seen = std::collections::BTreeSet::new();
    for calls in 0..60 {
        for kept in 0..16u32 {
            for again in [None, Some(3), Some(7), Some(11), Some(15)] {
                let mut journal = journal();
                let disk = Disk::new(&journal);
                disk.left.set(Some(calls));
                let ended = journal.begin(&disk);
                disk.boot(|index| kept >> index & 1 == 1);
                if let Some(calls) = again {
                    // The one who puts it right dies too.
                    disk.left.set(Some(calls));
                    if let Some(mut found) = disk.journal.borrow().clone() {
                        let _ = found.settle(&disk);
                    }
                    disk.boot(|index| kept >> (3 - index.min(3)) & 1 == 1);
                }
                let standing = recovered(&disk);
                assert_ne!(standing, Standing::Mixed, "{calls} calls, {kept:b}");
                assert!(ended.is_err() || standing == Standing::All(Goal::New), "done and gone");
                seen.insert(format!("{standing:?}"));
                states += 1;
            }
        }
    }
    assert_eq!((states, seen.len()), (4800, 2));
}

#[test]
fn killed_on_the_way_back_all_is_old() {
    for calls in 0..40 {
        for kept in 0..16u32 {
            let mut journal = journal();
            let disk = Disk::new(&journal);
            journal.begin(&disk).unwrap();
            disk.left.set(Some(calls));
            let ended = journal.turn_back(&disk);
            disk.boot(|index| kept >> index & 1 == 1);
            let standing = recovered(&disk);
            // Before it was noted the new state was the goal.
            let may_be_new = calls == 0 && ended.is_err();
            assert!(
                standing == Standing::All(Goal::Old) || may_be_new && standing == Standing::All(Goal::New)
            );
        }
    }
}

#[test]
fn what_cannot_move_turns_all_of_it_back() {
    for name in ["conf", "spool", "sieve", "gone"] {
        let mut journal = journal();
        let disk = Disk::new(&journal);
        *disk.broken.borrow_mut() = Some(format!("/srv/{name}").into());
        assert!(matches!(journal.begin(&disk), Err(SwapError::Move { .. })));
        assert_eq!(journal.goal, Goal::Old);
        assert_eq!(side(&disk, &journal), Standing::All(Goal::Old), "{name}");
        assert_eq!(disk.journal.borrow().as_ref().unwrap().goal, Goal::Old);
    }
}

#[test]
fn what_is_neither_is_told_and_not_touched() {
    let mut journal = journal();
    let disk = Disk::new(&journal);
    disk.now.borrow_mut().insert("/srv/spool".into(), 99);
    assert!(matches!(journal.begin(&disk), Err(SwapError::Strange { .. })));
    assert_eq!(disk.now.borrow()[Path::new("/srv/spool")], 99);
    assert_eq!(disk.now.borrow()[Path::new("/srv/conf")], 1, "the others are back");
    assert!(journal.settle(&disk).is_err(), "and it is told again");
}

#[test]
fn a_second_time_nothing_moves() {
    let mut journal = journal();
    let disk = Disk::new(&journal);
    journal.begin(&disk).unwrap();
    let before = disk.now.borrow().clone();
    journal.settle(&disk).unwrap();
    assert_eq!(*disk.now.borrow(), before);
}
