//! The tree of mailboxes of one snapshot: found by walking, named by list, header or path.
//!
//! Three things are looked for in one walk: folders with a cyrus.header, an imapd.conf, and users' seen databases.
//! imapd.conf says which folders belong together where headers, indexes or archived messages lie apart; without one a
//! mailbox is its one folder. Names come from the exported list by unique id, else from the header (3.6 and later), else
//! from the path, which is the name in the older layouts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mailkeep_mail::check::names_of;
use mailkeep_mail::cyrus::header::CyrusHeader;
use mailkeep_mail::cyrus::mailbox_list::{self, MailboxName};
use mailkeep_mail::cyrus::profile::{CyrusProfile, Partition};
use mailkeep_mail::cyrus::utf7;
use mailkeep_mail::limits::{CYRUS_HEADER_BYTES, MAILBOX_LIST_BYTES};
use mailkeep_mail::source::CyrusOptions;
use mailkeep_restorer::format::Node;
use mailkeep_restorer::format::limits::DEPTH_MAX;
use mailkeep_restorer::path::{join, show};

use crate::{Files, MailViewError, Mailbox, limits};

/// Where the exported list lies in a snapshot.
pub(crate) const MAILBOX_LIST: &[u8] = b"/.mailkeep/mailboxlist";

/// All mailboxes of a snapshot, in the order of their shown names.
#[derive(Debug, Default)]
pub struct MailTree {
    mailboxes: Vec<Mailbox>,
    /// Seen databases of users, by their paths.
    pub(crate) seen: Vec<Vec<u8>>,
    problems: Vec<String>,
    /// What the imapd.conf says under whose folders most headers lie.
    profile: Option<CyrusProfile>,
}

impl MailTree {
    /// Reads the tree. What could not be read is in [`MailTree::problems`].
    ///
    /// # Errors
    /// The snapshot's root cannot be read.
    pub fn of(files: &Files) -> Result<MailTree, MailViewError> {
        let mut walk = Walk { files, headers: Vec::new(), configs: Vec::new(), tree: MailTree::default() };
        walk.folder(b"/", &files.view().root().clone(), 0)?;
        let Walk { headers, configs, mut tree, .. } = walk;
        if headers.is_empty() {
            return Ok(tree);
        }
        tree.profile = profile(files, &headers, &configs);
        let partitions = tree.profile.as_ref().map_or_else(Vec::new, |profile| profile.partitions().to_vec());
        let list = tree.list(files)?;
        for (path, header) in headers {
            tree.add(path, header, &partitions, &list);
        }
        tree.settle();
        Ok(tree)
    }

    /// The mailboxes.
    pub fn mailboxes(&self) -> &[Mailbox] {
        &self.mailboxes
    }

    /// What the snapshot's own imapd.conf says; `None` without one that fits.
    pub fn profile(&self) -> Option<&CyrusProfile> {
        self.profile.as_ref()
    }

    /// What could not be read on the way, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// A mailbox by its name: as shown, as Cyrus writes it inside or outside, case aside if that is unambiguous.
    ///
    /// # Errors
    /// There is none; says which are like it.
    pub fn find(&self, name: &str) -> Result<&Mailbox, MailViewError> {
        if self.mailboxes.is_empty() {
            return Err(MailViewError::NoMail);
        }
        let name = name.trim_end_matches('/');
        let exact = self.mailboxes.iter().find(|mailbox| {
            mailbox.shown == name
                || mailbox.name.as_str() == name
                || mailbox.name.external(true) == name
                || mailbox.unique_id.as_ref().is_some_and(|id| id.as_str() == name)
        });
        if let Some(found) = exact {
            return Ok(found);
        }
        let folded = name.to_lowercase();
        let mut alike = self.mailboxes.iter().filter(|mailbox| mailbox.shown.to_lowercase() == folded);
        if let (Some(found), None) = (alike.next(), alike.next()) {
            return Ok(found);
        }
        let mut nearest: Vec<(usize, &str)> = self
            .mailboxes
            .iter()
            .map(|mailbox| (distance(&mailbox.shown, &folded), mailbox.shown.as_str()))
            .filter(|(distance, _)| *distance <= folded.chars().count().max(3) / 2 + 1)
            .collect();
        nearest.sort_unstable();
        nearest.truncate(limits::NEAREST);
        let nearest = nearest.into_iter().map(|(_, name)| show(name.as_bytes())).collect();
        Err(MailViewError::NoMailbox { name: show(name.as_bytes()), nearest })
    }

    /// A mailbox and all mail below it, in order, each with its levels below the name that was asked for; also where that
    /// is a level of names and no mailbox itself.
    ///
    /// # Errors
    /// There is nothing of that name; says what is like it.
    pub fn below(&self, name: &str) -> Result<Vec<(&Mailbox, Vec<String>)>, MailViewError> {
        let found = self.find(name);
        let top = match &found {
            Ok(top) => top.name.clone(),
            Err(_) => {
                let levels: Vec<String> = name.trim_end_matches('/').split('/').map(utf7::encode).collect();
                MailboxName::from_external(&levels.join("/"), true)
            }
        };
        let mut all: Vec<(&Mailbox, Vec<String>)> = found.iter().map(|top| (*top, Vec::new())).collect();
        for mailbox in self.mailboxes.iter().filter(|mailbox| mailbox.is_mail) {
            let rest = mailbox.name.as_str().strip_prefix(top.as_str());
            if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('.')) {
                let levels = rest.split('.').map(|level| utf7::decode(&level.replace('^', ".")));
                all.push((mailbox, levels.collect()));
            }
        }
        match found {
            Err(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    fn list(&mut self, files: &Files) -> Result<List, MailViewError> {
        let mut list = List::default();
        let Some(bytes) = files.read(MAILBOX_LIST, MAILBOX_LIST_BYTES)? else { return Ok(list) };
        match mailbox_list::parse(&bytes) {
            Ok(entries) => {
                for entry in entries.into_iter().filter(|entry| entry.mailbox_type.has_folder()) {
                    match entry.unique_id {
                        Some(id) => drop(list.by_id.insert(id.as_str().to_owned(), entry.name)),
                        None => drop(list.names.insert(entry.name.as_str().to_owned())),
                    }
                }
            }
            Err(error) => self.problems.push(error.to_string()),
        }
        Ok(list)
    }

    fn add(&mut self, path: Vec<u8>, header: CyrusHeader, partitions: &[Partition], list: &List) {
        let at = Path::new(OsStr::from_bytes(&path));
        let home = partitions
            .iter()
            .filter_map(|partition| Some((partition, at.strip_prefix(partition.header_folder()).ok()?)))
            .min_by_key(|(_, below)| below.components().count());
        let in_list = header.unique_id.as_ref().and_then(|id| list.by_id.get(id.as_str()));
        let is_listed = in_list.is_some();
        let name = in_list.cloned().or_else(|| header.name.clone());
        let mut is_named_by_list = is_listed;
        let name = name.unwrap_or_else(|| {
            let readings = match home {
                Some((_, below)) => names_of(below),
                None => readings(at),
            };
            let listed = readings.iter().find(|name| list.names.contains(*name));
            is_named_by_list = listed.is_some();
            MailboxName::new(listed.or(readings.first()).cloned().unwrap_or_default())
        });
        let beside = |folder: &Path, below: &Path| folder.join(below).into_os_string().into_encoded_bytes();
        let (index_folder, folders) = match home {
            Some((partition, below)) => (
                beside(partition.index_folder(), below),
                partition.message_folders().into_iter().map(|folder| beside(folder, below)).collect(),
            ),
            None => (path.clone(), vec![path.clone()]),
        };
        let is_mail = header
            .mailbox_type
            .as_ref()
            .is_none_or(|letters| !letters.contains(['n', 'c', 'a', 'b', 's', 'p', 'f']));
        let is_named_by_list = is_named_by_list || list.names.contains(name.as_str());
        self.mailboxes.push(Mailbox {
            shown: shown(&name),
            name,
            unique_id: header.unique_id,
            is_mail,
            is_listed: is_named_by_list,
            keywords: header.keywords,
            acl: header.acl,
            header_folder: path,
            index_folder,
            folders,
        });
    }

    /// Puts mailboxes in order; of two with one name each gets its id to be told by.
    fn settle(&mut self) {
        self.mailboxes.sort_by(|one, other| one.shown.cmp(&other.shown));
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for mailbox in &self.mailboxes {
            *count.entry(mailbox.shown.clone()).or_default() += 1;
        }
        for mailbox in &mut self.mailboxes {
            if count.get(&mailbox.shown).is_some_and(|count| *count > 1) {
                let id = match &mailbox.unique_id {
                    Some(id) => id.as_str().to_owned(),
                    None => show(&mailbox.index_folder),
                };
                mailbox.shown = format!("{} ({id})", mailbox.shown);
            }
        }
    }
}

#[derive(Default)]
struct List {
    by_id: HashMap<String, MailboxName>,
    /// Names of a list without ids.
    names: HashSet<String>,
}

struct Walk<'a> {
    files: &'a Files,
    headers: Vec<(Vec<u8>, CyrusHeader)>,
    configs: Vec<Vec<u8>>,
    tree: MailTree,
}

impl Walk<'_> {
    fn folder(&mut self, path: &[u8], node: &Node, depth: usize) -> Result<(), MailViewError> {
        let folder = self.files.folder(path, node)?;
        if let Some(header) = folder.file(b"cyrus.header") {
            self.header(path, header);
        }
        for node in &folder.nodes {
            let at = || join(path, &node.name);
            if node.is_directory() && depth < DEPTH_MAX && self.headers.len() < limits::MAILBOXES {
                if let Err(error) = self.folder(&at(), node, depth + 1) {
                    self.tree.problems.push(told(&error));
                }
            } else if !node.is_file() {
            } else if node.name == b"imapd.conf" {
                self.configs.push(at());
            } else if node.name == b"seen.db" || node.name.ends_with(b".seen") {
                self.tree.seen.push(at());
            }
        }
        Ok(())
    }

    fn header(&mut self, path: &[u8], node: &Node) {
        let at = join(path, b"cyrus.header");
        if node.size() > CYRUS_HEADER_BYTES as u64 {
            self.tree.problems.push(format!("{}: the file is too large", show(&at)));
            return;
        }
        let header = match self.files.bytes(&at, node) {
            Ok(bytes) => CyrusHeader::parse(&bytes).map_err(|error| format!("{}: {error}", show(&at))),
            Err(error) => Err(told(&error)),
        };
        match header {
            Ok(header) => self.headers.push((path.to_vec(), header)),
            // Its messages are still there: it is named by its path.
            Err(problem) => {
                self.tree.problems.push(problem);
                self.headers.push((path.to_vec(), CyrusHeader::default()));
            }
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// The imapd.conf under whose folders most headers lie, if one fits.
fn profile(files: &Files, headers: &[(Vec<u8>, CyrusHeader)], configs: &[Vec<u8>]) -> Option<CyrusProfile> {
    let mut best = (0, None);
    for config in configs.iter().take(limits::NEAREST * 16) {
        let options = CyrusOptions {
            imapd_conf: PathBuf::from(OsStr::from_bytes(config)),
            cyrus_user: "cyrus".to_owned(),
            also: Vec::new(),
            bin_dir: None,
        };
        let profile = CyrusProfile::new(&options, &mut |path| match files
            .read(path.as_os_str().as_bytes(), limits::SMALL_FILE)
        {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(io::Error::other(told(&error))),
        });
        let Ok(profile) = profile else { continue };
        let lies_below = |path: &[u8]| {
            let path = Path::new(OsStr::from_bytes(path));
            profile.partitions().iter().any(|partition| path.starts_with(partition.header_folder()))
        };
        let fitting = headers.iter().filter(|(path, _)| lies_below(path)).count();
        if fitting > best.0 || best.1.is_none() {
            best = (fitting, Some(profile));
        }
    }
    best.1
}

/// The names that a folder may stand for where nothing says where its partition begins.
fn readings(path: &Path) -> Vec<String> {
    let below: PathBuf = path.strip_prefix("/").unwrap_or(path).to_owned();
    let parts: Vec<_> = below.components().collect();
    let start =
        parts.iter().position(|part| matches!(part.as_os_str().as_bytes(), b"domain" | b"user" | b"DELETED"));
    let tails = (0..parts.len()).map(|from| parts[from..].iter().collect::<PathBuf>());
    let first = start.map(|from| parts[from..].iter().collect::<PathBuf>());
    first.into_iter().chain(tails).flat_map(|tail| names_of(&tail)).collect()
}

/// How far a name is from one that was asked for (in small letters): by its whole or by its last levels.
fn distance(shown: &str, wanted: &str) -> usize {
    let shown = shown.to_lowercase();
    let whole = strsim::damerau_levenshtein(&shown, wanted);
    let levels = wanted.split('/').count();
    let tail: Vec<&str> = shown.rsplit('/').take(levels).collect();
    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("/");
    whole.min(strsim::damerau_levenshtein(&tail, wanted) + 1)
}

/// A name for people: levels by `/`, each decoded, a domain last.
fn shown(name: &MailboxName) -> String {
    name.external(true).split('/').map(utf7::decode).collect::<Vec<_>>().join("/")
}
