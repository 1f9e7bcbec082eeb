//! The mail of the snapshots that were looked at last. A tree of mailboxes is made by who asks for it first, and only those
//! wait who want the same; nothing here runs on the thread that answers the kernel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use mailkeep_mailview::MailViewError;

use crate::mail::{MailFolders, Opened};
use crate::shown::Held;

/// Mail trees that are kept, a KiB for each of their mailboxes.
const KEPT_TREES: usize = 2;
/// Opened mailboxes that are kept, 70 bytes for each of their messages.
const KEPT_MAILBOXES: usize = 8;

/// What is made once, by the first who asks.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// The last few of something; the newest last.
struct Recent<K, T> {
    slots: Mutex<VecDeque<(K, Slot<T>)>>,
    most: usize,
}

impl<K: PartialEq, T> Recent<K, T> {
    fn new(most: usize) -> Self {
        Recent { slots: Mutex::default(), most }
    }

    fn get<E>(&self, key: K, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let at = slots.iter().position(|(known, _)| *known == key);
            let kept = at.and_then(|at| slots.remove(at)).unwrap_or_else(|| (key, Slot::default()));
            let slot = Arc::clone(&kept.1);
            slots.push_back(kept);
            while slots.len() > self.most {
                slots.pop_front();
            }
            slot
        };
        let mut made = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        // What fails is tried anew by the next who asks.
        let new = Arc::new(make()?);
        *made = Some(Arc::clone(&new));
        Ok(new)
    }
}

pub(crate) struct MailRooms {
    trees: Recent<usize, MailFolders>,
    /// By snapshot and place in its tree.
    opened: Recent<(usize, usize), Opened>,
}

impl MailRooms {
    pub(crate) fn new() -> Self {
        MailRooms { trees: Recent::new(KEPT_TREES), opened: Recent::new(KEPT_MAILBOXES) }
    }

    /// The mail of a snapshot.
    pub(crate) fn tree(&self, snapshot: &Held) -> Result<Arc<MailFolders>, MailViewError> {
        self.trees.get(snapshot.place, || {
            let tree = MailFolders::of((*snapshot.view).clone())?;
            for problem in tree.problems() {
                tracing::error!(snapshot = &*snapshot.id, "{problem}");
            }
            Ok(tree)
        })
    }

    /// What the index of a mailbox says; `None` if there is no such mailbox.
    pub(crate) fn mailbox(
        &self,
        snapshot: &Held,
        tree: &MailFolders,
        number: usize,
    ) -> Result<Option<Arc<Opened>>, MailViewError> {
        let Some(mailbox) = tree.mailbox(number) else { return Ok(None) };
        let opened = self.opened.get((snapshot.place, number), || {
            mailbox.records(&tree.files).map(|records| Opened { records })
        })?;
        Ok(Some(opened))
    }
}
