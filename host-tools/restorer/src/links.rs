//! Hard links: which names of a snapshot are one file, and whether its first name is there yet.
//!
//! Keeps an entry only while names of a file are still to come, and no more than [`limits::LINKS_HELD`] of them (and those
//! that are being written) in memory: on a spool where every mail has a second name in a folder that comes last, all of
//! them are open at once. The rest goes to a table on the machine's own disk (`link_spill.rs`).

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use mailkeep_format::Node;

use crate::limits;
use crate::link_spill::{Slot, Spill};

pub(crate) use crate::link_spill::Identity;

/// The identity of `node`, if it has other names.
pub(crate) fn identity(node: &Node) -> Option<Identity> {
    (node.meta.links > 1 && !node.is_directory()).then_some((node.meta.device, node.meta.inode))
}

#[derive(Debug)]
struct Entry {
    first: Vec<u8>,
    ready: bool,
    /// Names that may still come.
    left: u32,
}

/// The files with several names that a restore has begun.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    held: HashMap<Identity, Entry>,
    spilled: Spilled,
}

/// Where the first names are that memory has no room for.
#[derive(Debug, Default)]
enum Spilled {
    #[default]
    NotYet,
    There(Spill),
    /// The machine has no room for it: memory has to do.
    Refused,
}

impl LinkTable {
    /// Notes that `path` is being written as the first name of a file.
    pub(crate) fn begin(&self, identity: Identity, path: &[u8], names: u32) {
        let entry = Entry { first: path.to_vec(), ready: false, left: names.saturating_sub(1) };
        self.lock().held.insert(identity, entry);
    }

    /// The first name is complete (or has failed: then the next name begins anew).
    pub(crate) fn finish(&self, identity: Identity, complete: bool) {
        let mut table = self.lock();
        if complete {
            if let Some(entry) = table.held.get_mut(&identity) {
                entry.ready = true;
            }
            if table.held.len() > limits::LINKS_HELD {
                table.spill(identity);
            }
        } else {
            table.held.remove(&identity);
        }
        self.changed.notify_all();
    }

    /// Whether a name of this file has been begun and further ones are expected.
    pub(crate) fn is_begun(&self, identity: Identity) -> bool {
        let table = self.lock();
        table.held.contains_key(&identity) || table.find_spilled(identity).is_some()
    }

    /// The first name of a file, as soon as it is complete; `None` if this is the first name.
    pub(crate) fn first(&self, identity: Identity) -> Option<Vec<u8>> {
        let mut table = self.lock();
        loop {
            let Some(entry) = table.held.get_mut(&identity) else { return table.take_spilled(identity) };
            if entry.ready {
                entry.left = entry.left.saturating_sub(1);
                let first = entry.first.clone();
                if entry.left == 0 {
                    table.held.remove(&identity);
                }
                return Some(first);
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Moves a first name that is complete out of memory.
    fn spill(&mut self, identity: Identity) {
        if matches!(self.spilled, Spilled::NotYet) {
            self.spilled = Spill::make().map_or_else(refused, Spilled::There);
        }
        let Spilled::There(spill) = &mut self.spilled else { return };
        let Some(entry) = self.held.get(&identity) else { return };
        match spill.put(identity, &entry.first, entry.left) {
            Ok(()) => drop(self.held.remove(&identity)),
            // What was spilled before is still there to be read: only nothing is added any more.
            Err(error) => tracing::warn!(%error, "a first name of a file stays in memory"),
        }
    }

    fn find_spilled(&self, identity: Identity) -> Option<Slot> {
        let Spilled::There(spill) = &self.spilled else { return None };
        // What cannot be read is not known: the name becomes a file of its own.
        spill.get(identity).ok().flatten()
    }

    fn take_spilled(&mut self, identity: Identity) -> Option<Vec<u8>> {
        let slot = self.find_spilled(identity)?;
        let Spilled::There(spill) = &self.spilled else { return None };
        let first = spill.path(&slot).ok()?;
        spill.set_left(&slot, slot.left - 1).ok()?;
        Some(first)
    }
}

fn refused(error: std::io::Error) -> Spilled {
    tracing::warn!(%error, "first names of files are kept in memory");
    Spilled::Refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_names_find_the_first_and_nothing_is_kept_after_the_last() {
        let table = LinkTable::default();
        assert_eq!(table.first((1, 2)), None);
        table.begin((1, 2), b"/a", 3);
        table.finish((1, 2), true);
        assert_eq!(table.first((1, 2)), Some(b"/a".to_vec()));
        assert_eq!(table.first((1, 2)), Some(b"/a".to_vec()));
        assert!(table.lock().held.is_empty());
    }

    #[test]
    fn a_first_name_that_failed_is_forgotten_by_those_that_wait() {
        let table = LinkTable::default();
        table.begin((1, 2), b"/a", 2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| table.first((1, 2)));
            table.finish((1, 2), false);
            assert_eq!(waiting.join().unwrap(), None);
        });
    }

    #[test]
    fn more_than_memory_is_given_to_are_found_all_the_same() {
        let table = LinkTable::default();
        let files = 3 * limits::LINKS_HELD as u64;
        let path = |file: u64| format!("/a/{file}").into_bytes();
        for file in 0..files {
            assert_eq!(table.first((1, file)), None);
            table.begin((1, file), &path(file), 3);
            table.finish((1, file), true);
            assert!(table.is_begun((1, file)));
        }
        assert!(table.lock().held.len() <= limits::LINKS_HELD);
        for _ in 1..3 {
            for file in 0..files {
                assert_eq!(table.first((1, file)), Some(path(file)));
            }
        }
        assert!((0..files).all(|file| !table.is_begun((1, file))));
        assert_eq!((table.first((1, 5)), table.first((1, files - 1))), (None, None));
    }
}
