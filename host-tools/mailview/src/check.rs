//! The mail check over a snapshot that was sealed long ago: the very code that proves a backup, with the view in the place of
//! the copy that is about to be sealed.

use std::path::Path;

use mailkeep_mail::check::{EntryKind, MailCheck, MailTree as Copied, TreeEntry, check_mail};
use mailkeep_mail::cyrus::mailbox_list;
use mailkeep_mail::limits::MAILBOX_LIST_BYTES;
use mailkeep_restorer::RestoreError;
use mailkeep_restorer::format::{Node, NodeKind};
use mailkeep_restorer::path::show;

use crate::tree::MAILBOX_LIST;
use crate::{Files, MailTree, MailViewError, limits};

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// It was made; whatever is wrong with the mail is in it.
    Mail(MailCheck),
    /// There is nothing to hold the files against, and why.
    Not(String),
}

/// Holds the files of a snapshot against its exported list of mailboxes and their indexes.
///
/// # Errors
/// The snapshot cannot be read.
pub fn check(files: &Files, tree: &MailTree) -> Result<Checked, MailViewError> {
    let Some(list) = files.read(MAILBOX_LIST, MAILBOX_LIST_BYTES)? else {
        return Ok(Checked::Not("it has no exported list of mailboxes".to_owned()));
    };
    let list = match mailbox_list::parse(&list) {
        Ok(list) => list,
        Err(error) => return Ok(Checked::Not(error.to_string())),
    };
    let Some(profile) = tree.profile() else {
        // What lists nothing that has a folder (a frontend, an empty server) lacks nothing.
        return Ok(match list.iter().any(|entry| entry.mailbox_type.has_folder()) {
            true => Checked::Not("no imapd.conf in it says where the mailboxes lie".to_owned()),
            false => Checked::Mail(MailCheck { ok: true, ..MailCheck::default() }),
        });
    };
    Ok(Checked::Mail(check_mail(&list, profile.partitions(), &mut Copy(files))?))
}

/// A snapshot as the check looks at it.
struct Copy<'a>(&'a Files);

impl Copy<'_> {
    fn file(&self, path: &Path) -> Result<Option<Node>, RestoreError> {
        Ok(self.0.find(path.as_os_str().as_encoded_bytes())?.filter(Node::is_file))
    }
}

impl Copied for Copy<'_> {
    type Error = RestoreError;

    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, RestoreError> {
        self.0.read(path.as_os_str().as_encoded_bytes(), limits::SMALL_FILE)
    }

    fn stream(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, RestoreError> {
        let Some(node) = self.file(path)? else { return Ok(false) };
        self.0.pieces(path.as_os_str().as_encoded_bytes(), &node, take)?;
        Ok(true)
    }

    fn list(&mut self, folder: &Path, each: &mut dyn FnMut(TreeEntry<'_>)) -> Result<bool, RestoreError> {
        let path = folder.as_os_str().as_encoded_bytes();
        let Some(node) = self.0.find(path)?.filter(Node::is_directory) else { return Ok(false) };
        for node in self.0.view().nodes(path, &node)? {
            let node = node.map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
            let kind = match &node.kind {
                NodeKind::File { .. } => EntryKind::File,
                NodeKind::Directory { .. } => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            each(TreeEntry { name: &node.name, kind, size: node.size() });
        }
        Ok(true)
    }

    // That a message has the bytes it was delivered with was looked at when it was new; that it has those it was backed up
    // with is what reading all data shows.
    fn list_with_digests(
        &mut self,
        folder: &Path,
        each: &mut dyn FnMut(TreeEntry<'_>, Option<[u8; 20]>),
    ) -> Result<bool, RestoreError> {
        self.list(folder, &mut |entry| each(entry, None))
    }
}
