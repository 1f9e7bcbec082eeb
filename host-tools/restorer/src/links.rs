//! Hard links: which names of a snapshot are one file, and whether its first name is there yet.
//!
//! Keeps an entry only while names of a file are still to come, so memory follows the links that are open at a time.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use mailkeep_format::Node;

/// Device and inode on the server: the identity of a file with several names.
pub(crate) type Identity = (u64, u64);

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
    entries: Mutex<HashMap<Identity, Entry>>,
    changed: Condvar,
}

impl LinkTable {
    /// Notes that `path` is being written as the first name of a file.
    pub(crate) fn begin(&self, identity: Identity, path: &[u8], names: u32) {
        let entry = Entry { first: path.to_vec(), ready: false, left: names.saturating_sub(1) };
        self.lock().insert(identity, entry);
    }

    /// The first name is complete (or has failed: then the next name begins anew).
    pub(crate) fn finish(&self, identity: Identity, complete: bool) {
        let mut entries = self.lock();
        if complete {
            if let Some(entry) = entries.get_mut(&identity) {
                entry.ready = true;
            }
        } else {
            entries.remove(&identity);
        }
        self.changed.notify_all();
    }

    /// Whether a name of this file has been begun and further ones are expected.
    pub(crate) fn is_begun(&self, identity: Identity) -> bool {
        self.lock().contains_key(&identity)
    }

    /// The first name of a file, as soon as it is complete; `None` if this is the first name.
    pub(crate) fn first(&self, identity: Identity) -> Option<Vec<u8>> {
        let mut entries = self.lock();
        loop {
            let entry = entries.get_mut(&identity)?;
            if entry.ready {
                entry.left = entry.left.saturating_sub(1);
                let first = entry.first.clone();
                if entry.left == 0 {
                    entries.remove(&identity);
                }
                return Some(first);
            }
            entries = self.changed.wait(entries).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        assert!(table.lock().is_empty());
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
}
