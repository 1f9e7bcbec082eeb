//! Less than a listing: what is looked at of a directory of which the box, or the live pass of this run, knows the rest.
//!
//! The box may know a folder from the snapshot before: if it has not changed, only what may change without it is looked at
//! (`unchanged`); if it has, and the journal tells what happened, that as well (`amended`). A final pass that was told to
//! remember the live one speaks only of what is another than that one saw (`recalled`): a tree in which nothing is costs one
//! look at each of its directories and of the files that may change, and not a word on the link.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mailkeep_link::limits::{ENTRIES_BYTES, ENTRIES_NODES};
use mailkeep_link::message::{Amended, FileId, Hint, KnownFolder, ToBox, Unchanged};
use mailkeep_mail::Profile;

use super::super::journal::Journal;
use super::super::known::{KnownFolders, keeps_directory_times};
use super::super::ledger::Aborted;
use super::super::memory::{Entry, Memory};
use super::{Child, Filling, Found, Listing, Part, Walk, Walked, Watched};
use crate::dir::Directory;
use crate::meta::Facts;

impl<'a> Walk<'a> {
    /// Looks at what may have changed in a directory that has not; `None` if it is to be listed.
    pub(super) fn unchanged(
        &self,
        listing: &Listing<'a>,
        walked: &mut Walked,
    ) -> Result<Option<Vec<Child<'a>>>, Aborted> {
        let Some((known, parent)) = self.known_folder(listing, KnownFolders::unchanged).zip(listing.parent)
        else {
            return Ok(None);
        };
        // A message that was written over, perhaps: no listing would tell.
        let more = |journal: &Journal| {
            listing.facts.as_ref().is_some_and(|facts| journal.has_more_than(facts, &known.entries))
        };
        if self.is_final && self.journal.borrow().as_ref().is_some_and(more) {
            return Ok(None);
        }
        let mut filling = Filling::default();
        let mut children = Vec::new();
        for (place, name) in &known.entries {
            // It cannot be gone or left out: whatever this is, a listing will tell.
            let Some(found) = self.look(listing, name)? else { return Ok(None) };
            if found.hint == Hint::Message || filling.bytes > ENTRIES_BYTES {
                return Ok(None);
            }
            self.saw(listing, &found, walked);
            filling.push(listing.id, *place, found, &mut children);
        }
        let Filling { nodes, hints, files, .. } = filling;
        let message = ToBox::Unchanged(Unchanged { directory: listing.id, parent, nodes, hints });
        self.sink.piece(&listing.folder(), message, files)?;
        Ok(Some(children))
    }

    /// What a directory is before anything in it is looked at. From here on the journal of a live pass tells of it, if the
    /// box knows it.
    pub(super) fn first_look(&self, directory: &Directory, path: &Path) -> Option<Facts> {
        let facts = |directory: &Directory| directory.stat_self().ok().map(|stat| Facts::of(&stat));
        let is_known = || self.known.is_some_and(|known| known.has(path.as_os_str().as_bytes()));
        if let (false, Some(journal)) = (self.is_final, self.journal.borrow_mut().as_mut()) {
            if let Some(before) = facts(directory).filter(|_| is_known()) {
                journal.watch(directory, (before.device, before.inode));
            }
            journal.listen();
        }
        facts(directory)
    }

    /// Looks at what has changed in a known directory, as the journal tells; `None` if it is to be listed. In a live pass
    /// it always is: what that says is the base of the next.
    pub(super) fn amended(
        &self,
        listing: &Listing<'a>,
        walked: &mut Walked,
    ) -> Result<Option<Vec<Child<'a>>>, Aborted> {
        let known = self.known_folder(listing, KnownFolders::itself).filter(|_| self.is_final);
        let (Some(known), Some(parent), Some(facts)) = (known, listing.parent, &listing.facts) else {
            return Ok(None);
        };
        let told = |journal: &mut Journal| journal.changed(facts, &listing.path);
        let Some(mut names) = self.journal.borrow_mut().as_mut().and_then(told) else { return Ok(None) };
        names.extend(known.entries.iter().map(|(_, name)| name.clone()));
        self.look_at(listing, parent, names, walked)
    }

    /// Looks at some names of a directory and says of no others; `None` if it is to be listed.
    fn look_at(
        &self,
        listing: &Listing<'a>,
        parent: FileId,
        mut names: Vec<Vec<u8>>,
        walked: &mut Walked,
    ) -> Result<Option<Vec<Child<'a>>>, Aborted> {
        names.sort_unstable();
        names.dedup();
        if names.len() > ENTRIES_NODES {
            return Ok(None);
        }
        let (mut filling, mut children, mut gone) = (Filling::default(), Vec::new(), Vec::new());
        for name in names {
            let Some(found) = self.look(listing, &name)? else {
                gone.push(name);
                continue;
            };
            if filling.bytes > ENTRIES_BYTES {
                return Ok(None);
            }
            self.saw(listing, &found, walked);
            let index = 2 * filling.nodes.len() as u32 + 1;
            filling.push(listing.id, index, found, &mut children);
        }
        let Filling { nodes, hints, files, .. } = filling;
        let message = ToBox::Amended(Amended { directory: listing.id, parent, gone, nodes, hints });
        self.sink.piece(&listing.folder(), message, files)?;
        Ok(Some(children))
    }

    /// What the box knows of a directory, if something less may stand in for a listing.
    fn known_folder(
        &self,
        listing: &Listing<'a>,
        find: fn(&'a KnownFolders, &[u8], &Facts) -> Option<&'a KnownFolder>,
    ) -> Option<&'a KnownFolder> {
        let facts = listing.facts.as_ref()?;
        let folder = find(self.known?, listing.path.as_os_str().as_bytes(), facts)?;
        // Under another path than its own the box may have judged names by other rules.
        let profile_path = listing.profile_path.as_ref()?;
        let is_ours = *profile_path == listing.path || matches!(self.profile, Profile::Cyrus(_));
        let plain = is_ours && self.is_plain(listing, facts);
        (plain && self.profile.may_hold_messages(profile_path)).then_some(folder)
    }

    /// Whether less than a listing may stand for a directory at all.
    fn is_plain(&self, listing: &Listing<'a>, facts: &Facts) -> bool {
        // What is wanted by name below it has to be found.
        let whole = listing.stop.is_none_or(|stop| stop.instead.is_none() && stop.children.is_empty());
        let trusted = || {
            let mut trusted = self.trusted.borrow_mut();
            let keeps = || keeps_directory_times(listing.directory.file_system());
            *trusted.entry(facts.device).or_insert_with(keeps)
        };
        whole && listing.profile_path.is_some() && trusted()
    }

    /// The number by which the live pass of this run knows a directory in one that it knows by `above`.
    pub(super) fn number(&self, above: Option<u32>, name: &[u8], own: u32) -> Option<u32> {
        if self.is_final {
            return self.memory?.child_of(above?, name);
        }
        if let Some(memory) = self.remembers.borrow_mut().as_mut() {
            memory.child(above?, name, own);
        }
        Some(own)
    }

    /// A live pass begins to list a directory, or to look at what stands for that.
    pub(super) fn remember(&self, listing: &Listing<'a>) {
        let mut remembers = self.remembers.borrow_mut();
        let (Some(memory), Some(facts)) = (remembers.as_mut(), &listing.facts) else { return };
        if self.is_plain(listing, facts) {
            memory.enter(listing.id.0, *facts);
        }
    }

    /// Counts what was found, and remembers it.
    pub(super) fn saw(&self, listing: &Listing<'a>, found: &Found<'a>, walked: &mut Walked) {
        walked.saw(found, listing.device(), self.recent_from);
        if let (Some(memory), true) = (self.remembers.borrow_mut().as_mut(), found.hint != Hint::Descend) {
            memory.saw(listing.id.0, &found.node, found.hint == Hint::Message);
        }
    }

    /// Of a directory that the live pass saw, looks only at what may be another than it saw; `None` if it is to be
    /// listed.
    pub(super) fn recalled(
        &self,
        listing: &Listing<'a>,
        watched: Option<u32>,
        walked: &mut Walked,
    ) -> Result<Option<Vec<Child<'a>>>, Aborted> {
        let seen = self.memory.zip(listing.number).filter(|_| self.is_final);
        let (Some((memory, number)), Some(parent), Some(facts)) = (seen, listing.parent, &listing.facts)
        else {
            return Ok(None);
        };
        let Some(folder) = memory.same(number, facts).filter(|_| self.is_plain(listing, facts)) else {
            return Ok(None);
        };
        let told = |journal: &mut Journal| journal.changed(facts, &listing.path);
        let told = self.journal.borrow_mut().as_mut().and_then(told);
        // Without a journal its times tell that no name has come or gone, but not which.
        let Some(mut names) = told.or_else(|| folder.has_its_names(facts).then(Vec::new)) else {
            return Ok(None);
        };
        let is_still = |entry: &&Entry| {
            listing.directory.stat(&entry.name).is_ok_and(|stat| memory.is_still(entry, &stat))
        };
        names.extend(folder.entries.iter().filter(|entry| !is_still(entry)).map(|entry| entry.name.to_vec()));
        let at_rest = AtRest { memory, listing, watched };
        for (name, child) in &folder.children {
            let mut path = name.to_vec();
            if !self.is_at_rest(&at_rest, *child, &mut path, &mut walked.watched) {
                names.push(name.to_vec());
            }
        }
        self.look_at(listing, parent, names, walked)
    }

    /// Whether a directory and all that is below it are as the live pass saw them; `path` leads there from the one that is
    /// listed. No link in it can lead astray: what it leads to would have to be that very inode.
    fn is_at_rest(
        &self,
        of: &AtRest<'_, 'a>,
        number: u32,
        path: &mut Vec<u8>,
        watched: &mut Vec<Watched>,
    ) -> bool {
        if let Some(known) = self.still.borrow().get(&number) {
            return *known;
        }
        let still = self.looks_at_rest(of, number, path, watched);
        self.still.borrow_mut().insert(number, still);
        still
    }

    fn looks_at_rest(
        &self,
        of: &AtRest<'_, 'a>,
        number: u32,
        path: &mut Vec<u8>,
        watched: &mut Vec<Watched>,
    ) -> bool {
        let Ok(stat) = of.listing.directory.stat(path) else { return false };
        let facts = Facts::of(&stat);
        let Some(folder) = of.memory.same(number, &facts).filter(|folder| folder.has_its_names(&facts))
        else {
            return false;
        };
        let whole_path = || of.listing.path.join(OsStr::from_bytes(path));
        let silent =
            self.journal.borrow_mut().as_mut().and_then(|journal| journal.is_silent(&facts, whole_path));
        match silent {
            Some(false) => return false,
            Some(true) => {}
            // Nobody would tell if it moved from now on.
            None if self.part == Part::Now => {
                watched.push(Watched { parent: of.watched, name: path.as_slice().into(), facts });
            }
            None => {}
        }
        let length = path.len();
        let mut below = |name: &[u8], looks: &mut dyn FnMut(&mut Vec<u8>) -> bool| {
            path.push(b'/');
            path.extend_from_slice(name);
            let still = looks(path);
            path.truncate(length);
            still
        };
        let entries = folder.entries.iter().all(|entry| {
            below(&entry.name, &mut |path| {
                of.listing.directory.stat(path).is_ok_and(|stat| of.memory.is_still(entry, &stat))
            })
        });
        entries
            && folder
                .children
                .iter()
                .all(|(name, child)| below(name, &mut |path| self.is_at_rest(of, *child, path, watched)))
    }
}

/// From where directories are looked at whether they are at rest.
struct AtRest<'l, 'a> {
    memory: &'l Memory,
    listing: &'l Listing<'a>,
    watched: Option<u32>,
}
