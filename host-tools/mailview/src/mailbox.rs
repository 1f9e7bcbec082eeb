//! One mailbox of a snapshot: where its folders are, and what its cyrus.index says beside the message files.

use mailkeep_mail::cyrus::index::{IndexHeader, IndexRecord, IndexStream, SystemFlags};
use mailkeep_mail::cyrus::mailbox_list::{MailboxName, UniqueId};
use mailkeep_mail::cyrus::message_uid;
use mailkeep_restorer::format::Node;
use mailkeep_restorer::path::{join, show};
use mailkeep_restorer::{Nodes, RestoreError};

use crate::merge::Merge;
use crate::message::{Message, Summary};
use crate::{Files, MailViewError};

/// A mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// The internal name, as Cyrus writes it.
    pub name: MailboxName,
    /// The name as people read it: levels parted by `/`, decoded.
    pub shown: String,
    /// Its id for life.
    pub unique_id: Option<UniqueId>,
    /// Mail proper, no calendar, address book or filter.
    pub is_mail: bool,
    /// The exported list of the snapshot names it.
    pub is_listed: bool,
    /// Keywords by their number.
    pub keywords: Vec<Option<String>>,
    /// Identifiers with their rights.
    pub acl: Vec<(String, String)>,
    /// The folder of its cyrus.header.
    pub(crate) header_folder: Vec<u8>,
    /// The folder of its cyrus.index.
    pub(crate) index_folder: Vec<u8>,
    /// The folders of its message files: data first, then archive.
    pub(crate) folders: Vec<Vec<u8>>,
}

/// Takes a message, and its file where there is one.
pub type Each<'a, E> = &'a mut dyn FnMut(&Message, Option<&Node>) -> Result<(), E>;

/// The messages of a mailbox as its index says, held in memory: some 70 bytes each.
#[derive(Debug, Clone)]
pub struct Records {
    known: Result<Vec<Known>, String>,
}

/// What is kept of a record.
#[derive(Debug, Clone, Copy)]
struct Known {
    uid: u32,
    flags: SystemFlags,
    user_flags: [u32; 4],
    date: i64,
    size: u64,
    guid: Option<[u8; 20]>,
}

impl Mailbox {
    /// The folders that it lies in: data, archive, and where header and index lie apart those too. One may stand twice, and
    /// one of a part that it does not have is not there.
    pub fn places(&self) -> impl Iterator<Item = &[u8]> {
        [&self.header_folder, &self.index_folder].into_iter().chain(&self.folders).map(Vec::as_slice)
    }

    /// Counts and what the index' header says. Reads the index only; the files where that is damaged.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    pub fn summary(&self, files: &Files) -> Result<Summary, MailViewError> {
        let mut summary = Summary::default();
        let mut keywords = [0u32; 4];
        let read = self.index(files, &mut |record| {
            if record.flags.is_expunged() {
                summary.expunged += 1;
                return;
            }
            summary.messages += 1;
            summary.bytes = summary.bytes.saturating_add(record.size);
            let flags = record.flags.0;
            summary.unseen += u64::from(flags & 1 << 4 == 0);
            summary.flagged += u64::from(flags & 1 << 1 != 0);
            summary.answered += u64::from(flags & 1 != 0);
            summary.deleted += u64::from(flags & 1 << 2 != 0);
            for (all, word) in keywords.iter_mut().zip(record.user_flags) {
                *all |= word;
            }
        })?;
        match read {
            Ok(header) => {
                summary.uid_validity = Some(header.uid_validity);
                summary.last_uid = Some(header.last_uid);
                summary.keywords = self.keyword_names(&keywords);
                Ok(summary)
            }
            Err(problem) => {
                let mut summary = Summary { problem: Some(problem), ..Summary::default() };
                for path in &self.folders {
                    if let Some(node) = files.find(path)?.filter(Node::is_directory) {
                        let folder = files.folder(path, &node)?;
                        summary.messages += folder.messages;
                        summary.bytes = summary.bytes.saturating_add(folder.bytes);
                    }
                }
                Ok(summary)
            }
        }
    }

    /// Hands out the sound records of the index in their order; what is wrong with the index as a whole is in the result,
    /// and what was handed out before means nothing then.
    pub(crate) fn index(
        &self,
        files: &Files,
        each: &mut dyn FnMut(IndexRecord),
    ) -> Result<Result<IndexHeader, String>, RestoreError> {
        let path = join(&self.index_folder, b"cyrus.index");
        let Some(node) = files.find(&path)?.filter(Node::is_file) else {
            return Ok(Err("there is no cyrus.index".to_owned()));
        };
        let mut broken = 0u64;
        let mut take = |record: Result<IndexRecord, _>| match record {
            Ok(record) => each(record),
            Err(_) => broken += 1,
        };
        let mut stream = Ok(IndexStream::new());
        files.pieces(&path, &node, &mut |bytes| {
            if let Ok(reading) = &mut stream {
                if let Err(error) = reading.push(bytes, &mut take) {
                    stream = Err(error);
                }
            }
            stream.is_ok()
        })?;
        let header = stream.and_then(|stream| stream.finish(&mut take));
        Ok(match header {
            Ok(_) if broken > 0 => Err(format!("{broken} records of cyrus.index are damaged")),
            Ok(header) => Ok(header),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Goes through the messages that IMAP would show, ascending by UID: the message, and its file where there is one.
    /// Says what is wrong with the index, if anything: then every message file is a message, without flags.
    ///
    /// # Errors
    /// The snapshot cannot be read, or whatever `each` says.
    pub fn each<E: From<MailViewError>>(
        &self,
        files: &Files,
        each: Each<'_, E>,
    ) -> Result<Option<String>, E> {
        let (known, problem) = match self.records(files)?.known {
            Ok(known) => (Some(known), None),
            Err(problem) => (None, Some(problem)),
        };
        let mut next = 0;
        // Files are stored in the order of their names as bytes: among those with equally many digits that is the order
        // of UIDs.
        let mut lengths = 0u32;
        let mut digits = 1;
        loop {
            let streams: Result<Vec<Nodes<'_>>, RestoreError> =
                self.folders.iter().map(|folder| files.nodes(folder)).collect();
            let mut merge = Merge::new(streams.map_err(MailViewError::from)?);
            while let Some(found) = merge.next() {
                let (uid, nodes) = found.map_err(|(number, source)| self.unreadable(number, source))?;
                let length = uid.ilog10() + 1;
                lengths |= 1 << length;
                if length != digits {
                    continue;
                }
                let Some(known) = &known else {
                    let Some((_, node)) = nodes.first() else { continue };
                    each(&Message::of_file(uid, node), Some(node))?;
                    continue;
                };
                while let Some(missing) = known.get(next).filter(|known| known.uid < uid) {
                    each(&self.message(missing), None)?;
                    next += 1;
                }
                if let Some(record) = known.get(next).filter(|known| known.uid == uid) {
                    next += 1;
                    // While Cyrus moves a message to the archive it stands in both folders.
                    let right = nodes.iter().find(|(_, node)| node.size() == record.size).or(nodes.first());
                    each(&self.message(record), right.map(|(_, node)| node))?;
                }
            }
            match (digits + 1..=10).find(|length| lengths & 1 << length != 0) {
                Some(length) => digits = length,
                None => break,
            }
        }
        for missing in known.iter().flat_map(|known| known.iter().skip(next)) {
            each(&self.message(missing), None)?;
        }
        Ok(problem)
    }

    /// One message with its file.
    ///
    /// # Errors
    /// Not there, or the snapshot cannot be read.
    pub fn message_with_uid(&self, files: &Files, uid: u32) -> Result<(Message, Node), MailViewError> {
        let mut found = None;
        let read = self.index(files, &mut |record| {
            if record.uid == uid && !record.flags.is_expunged() {
                found = Some(self.message(&Known::of(&record)));
            }
        })?;
        let mut nodes = Vec::new();
        for folder in &self.folders {
            nodes.extend(files.find(&join(folder, format!("{uid}.").as_bytes()))?.filter(Node::is_file));
        }
        let mailbox = || self.shown.clone();
        match (found, read) {
            (Some(message), Ok(_)) => {
                let right = nodes.iter().position(|node| node.size() == message.size).unwrap_or(0);
                let node = (right < nodes.len()).then(|| nodes.swap_remove(right));
                node.map(|node| (message, node))
                    .ok_or_else(|| MailViewError::NoFile { mailbox: mailbox(), uid })
            }
            (None, Ok(_)) => Err(MailViewError::NoMessage { mailbox: mailbox(), uid }),
            (_, Err(_)) => {
                let node = nodes.into_iter().next();
                let node = node.ok_or_else(|| MailViewError::NoMessage { mailbox: mailbox(), uid })?;
                Ok((Message::of_file(uid, &node), node))
            }
        }
    }

    /// The bytes of a message's file, in pieces, until `take` has seen enough.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(
        &self,
        files: &Files,
        node: &Node,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), MailViewError> {
        let folder = self.folders.first().map_or(&b"/"[..], Vec::as_slice);
        Ok(files.pieces(&join(folder, &node.name), node, take)?)
    }

    /// What the index says of the messages that IMAP would show.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    pub fn records(&self, files: &Files) -> Result<Records, MailViewError> {
        let mut known = Vec::new();
        let read = self.index(files, &mut |record| {
            if !record.flags.is_expunged() && record.uid > 0 {
                known.push(Known::of(&record));
            }
        })?;
        // Ascending in a sound index; in another one this view still has to hold.
        known.sort_by_key(|known| known.uid);
        known.dedup_by_key(|known| known.uid);
        Ok(Records { known: read.map(|_| known) })
    }

    /// The UIDs of the messages that `records` (of this mailbox) tells of, ascending; those of the files where the index
    /// tells nothing.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    pub fn uids(&self, files: &Files, records: &Records) -> Result<Vec<u32>, MailViewError> {
        if let Ok(known) = &records.known {
            return Ok(known.iter().map(|known| known.uid).collect());
        }
        let mut uids = Vec::new();
        for path in &self.folders {
            for node in files.nodes(path)? {
                let node = node.map_err(|source| RestoreError::Unreadable { path: show(path), source })?;
                uids.extend(message_uid(&node.name).filter(|_| node.is_file()));
            }
        }
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// A message and its file with the path of that, for who asks for one after the other: the folder's listing is kept by
    /// the view.
    ///
    /// # Errors
    /// The snapshot cannot be read; a message that is not there is `Ok(None)`.
    pub fn file(
        &self,
        files: &Files,
        records: &Records,
        uid: u32,
    ) -> Result<Option<(Message, Vec<u8>, Node)>, MailViewError> {
        let known = match &records.known {
            Ok(known) => match known.binary_search_by_key(&uid, |known| known.uid) {
                Ok(index) => known.get(index),
                Err(_) => return Ok(None),
            },
            Err(_) => None,
        };
        let name = format!("{uid}.").into_bytes();
        let mut found: Option<(Vec<u8>, Node)> = None;
        for path in &self.folders {
            let Some(folder) = files.find(path)?.filter(Node::is_directory) else { continue };
            let Some(node) = files.view().child(path, &folder, &name)?.filter(Node::is_file) else {
                continue;
            };
            let fits = known.is_none_or(|known| known.size == node.size());
            if found.is_none() || fits {
                found = Some((join(path, &name), node));
            }
            if fits {
                break;
            }
        }
        Ok(found.map(|(path, node)| {
            let message = known.map_or_else(|| Message::of_file(uid, &node), |known| self.message(known));
            (message, path, node)
        }))
    }

    fn message(&self, known: &Known) -> Message {
        Message {
            uid: known.uid,
            internal_date: known.date,
            size: known.size,
            flags: Some(known.flags),
            keywords: self.keyword_names(&known.user_flags),
            guid: known.guid,
        }
    }

    fn keyword_names(&self, set: &[u32; 4]) -> Vec<String> {
        let is_set = |number: &usize| set.get(number / 32).is_some_and(|word| word & 1 << (number % 32) != 0);
        (0..self.keywords.len()).filter(is_set).filter_map(|number| self.keywords[number].clone()).collect()
    }

    fn unreadable(&self, number: usize, source: mailkeep_restorer::ContentsError) -> MailViewError {
        let path = self.folders.get(number).map_or_else(String::new, |folder| show(folder));
        RestoreError::Unreadable { path, source }.into()
    }
}

impl Known {
    fn of(record: &IndexRecord) -> Known {
        Known {
            uid: record.uid,
            flags: record.flags,
            user_flags: record.user_flags,
            date: record.internal_date.seconds,
            size: record.size,
            guid: record.guid,
        }
    }
}
