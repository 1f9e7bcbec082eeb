//! Files of which there are two copies: which of them are good, and how the good one comes to stand in for the other.
//! Follows COMMIT.md, "Repair", step 2.

use std::collections::{BTreeMap, BTreeSet};

use mailkeep_format::sweep::SweepRecord;
use mailkeep_format::{FormatError, Identity, KeyError, Label, Manifest, keys, limits};

use super::{RepairReport, quarantine};
use crate::error::{RepositoryError, is_newer};
use crate::keyring::KeySource;
use crate::repository::Repository;
use crate::storage::{Storage, read_whole};
use crate::{durable, layout};

/// A file and its second copy, not both of them good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twin {
    pub(super) kind: Kind,
    /// Where the two lie.
    pub(super) paths: [String; 2],
    pub(super) mending: Mending,
}

/// What the twins are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Label,
    Key,
    Manifest,
    Sweep,
}

/// What is to be done about two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mending {
    /// This copy is good; the other one is missing.
    Missing { good: usize },
    /// This copy is good; the other one is damaged.
    Damaged { good: usize },
    /// No copy is good; these are there.
    Lost { there: [bool; 2] },
    /// They differ, and which is good cannot be told.
    Undecided,
}

impl Twin {
    /// The copy that is written anew.
    pub(super) fn restored(&self) -> Option<usize> {
        match self.mending {
            Mending::Missing { good } | Mending::Damaged { good } => Some(1 - good),
            _ => None,
        }
    }

    /// The copies that are moved away.
    pub(super) fn moved(&self) -> impl Iterator<Item = usize> + use<> {
        let moved = match self.mending {
            Mending::Damaged { good } => [good == 1, good == 0],
            Mending::Lost { there } => there,
            _ => [false, false],
        };
        (0..2).filter(move |copy| moved[*copy])
    }
}

/// What can be said of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    Good,
    Missing,
    Damaged,
    /// The disk does not give it; it may do so another time.
    Unreadable,
    /// Not for the key that was given; as far as can be told it is in order.
    Unknown,
    /// A newer program wrote it; it is none of ours to judge.
    Newer,
    /// It has a version to come, but nothing vouches for that beside a copy that says the same.
    SeemsNewer,
}

/// Looks at all copies.
pub(super) fn examine(repository: &Repository, key: &KeySource) -> Result<Vec<Twin>, RepositoryError> {
    let judge = Judge { repository, identity: key.identity()? };
    let mut twins = Vec::new();
    let label = layout::LABELS.map(str::to_owned);
    twins.extend(judge.twin(Kind::Label, label)?);
    for (kind, folders) in
        [(Kind::Key, layout::KEYS), (Kind::Manifest, layout::MANIFESTS), (Kind::Sweep, layout::SWEPT)]
    {
        for name in names(&**repository.storage(), kind, folders)? {
            let paths = folders.map(|folder| format!("{folder}/{name}"));
            twins.extend(judge.twin(kind, paths)?);
        }
    }
    Ok(twins)
}

/// The names of this kind in either folder; strangers' files are none of ours.
fn names(storage: &dyn Storage, kind: Kind, folders: [&str; 2]) -> Result<BTreeSet<String>, RepositoryError> {
    let mut names = BTreeSet::new();
    for folder in folders {
        let entries = match storage.list(folder) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        names.extend(entries.into_iter().filter(|entry| !entry.directory).map(|entry| entry.name));
    }
    names.retain(|name| match kind {
        Kind::Label => true,
        Kind::Key => name == layout::PLAIN_KEY || name.ends_with(".age"),
        Kind::Manifest | Kind::Sweep => layout::parse_numbered(name).is_some(),
    });
    Ok(names)
}

struct Judge<'a> {
    repository: &'a Repository,
    identity: Option<Identity>,
}

impl Judge<'_> {
    fn twin(&self, kind: Kind, paths: [String; 2]) -> Result<Option<Twin>, RepositoryError> {
        let mut bytes: [Option<Vec<u8>>; 2] = [None, None];
        let mut copies = [Copy::Missing; 2];
        for (copy, path) in paths.iter().enumerate() {
            match read_whole(&**self.repository.storage(), path, limit(kind)) {
                Ok(found) => {
                    copies[copy] = self.judge(kind, path, &found);
                    bytes[copy] = Some(found);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) if error.source.kind() == std::io::ErrorKind::FileTooLarge => {
                    copies[copy] = Copy::Damaged;
                }
                Err(_) => copies[copy] = Copy::Unreadable,
            }
        }
        let alike = bytes[0] == bytes[1];
        let seeming = if alike { Copy::Newer } else { Copy::Damaged };
        let copies = copies.map(|copy| if copy == Copy::SeemsNewer { seeming } else { copy });
        let mending = match copies {
            [Copy::Good, Copy::Good] => None,
            // Both were written alike: beside a good copy, one that seems to be newer has a damaged version.
            [Copy::Good, Copy::Newer] => Some(Mending::Damaged { good: 0 }),
            [Copy::Newer, Copy::Good] => Some(Mending::Damaged { good: 1 }),
            [Copy::Newer, _] | [_, Copy::Newer] => None,
            [Copy::Good, Copy::Missing] => Some(Mending::Missing { good: 0 }),
            [Copy::Missing, Copy::Good] => Some(Mending::Missing { good: 1 }),
            // One that is good stands in for whatever the other one is; without one, what may be good stays where it is.
            [Copy::Good, _] => Some(Mending::Damaged { good: 0 }),
            [_, Copy::Good] => Some(Mending::Damaged { good: 1 }),
            [Copy::Unknown, Copy::Unknown] if alike => None,
            [Copy::Unknown, Copy::Unknown] => Some(Mending::Undecided),
            [Copy::Unknown, Copy::Missing] => Some(Mending::Missing { good: 0 }),
            [Copy::Missing, Copy::Unknown] => Some(Mending::Missing { good: 1 }),
            [Copy::Unknown, Copy::Damaged] => Some(Mending::Damaged { good: 0 }),
            [Copy::Damaged, Copy::Unknown] => Some(Mending::Damaged { good: 1 }),
            [Copy::Unreadable, _] | [_, Copy::Unreadable] => Some(Mending::Undecided),
            [Copy::Missing, Copy::Missing] => None,
            [one, two] => Some(Mending::Lost { there: [one == Copy::Damaged, two == Copy::Damaged] }),
        };
        Ok(mending.map(|mending| Twin { kind, paths, mending }))
    }

    fn judge(&self, kind: Kind, path: &str, bytes: &[u8]) -> Copy {
        let keys = self.repository.keys();
        match kind {
            Kind::Label => match Label::verify(bytes, keys) {
                Ok(label) if label.repository == self.repository.id() => Copy::Good,
                Ok(_) => Copy::Damaged,
                Err(error) => of_error(&error),
            },
            Kind::Manifest => match Manifest::decode(keys, &self.repository.id(), bytes) {
                Ok(manifest) => {
                    let name = layout::manifest_name(manifest.generation, &Manifest::id_of(bytes));
                    if path.ends_with(&name) { Copy::Good } else { Copy::Damaged }
                }
                Err(error) => of_named(&error, path, bytes),
            },
            Kind::Sweep => match SweepRecord::decode(keys, &self.repository.id(), bytes) {
                Ok(record) => {
                    let hash = blake3::hash(bytes);
                    let name = layout::numbered_name(record.sequence, hash.as_bytes());
                    if path.ends_with(&name) { Copy::Good } else { Copy::Damaged }
                }
                Err(error) => of_named(&error, path, bytes),
            },
            Kind::Key => self.judge_key(path, bytes),
        }
    }

    fn judge_key(&self, path: &str, bytes: &[u8]) -> Copy {
        let id = self.repository.id();
        if path.ends_with(layout::PLAIN_KEY) {
            let text = std::str::from_utf8(bytes).ok();
            return match text.and_then(|text| keys::unwrap_plain(text, &id).ok()) {
                Some(_) => Copy::Good,
                None => Copy::Damaged,
            };
        }
        // With any key at all it shows whether the file is one; its own key also proves it.
        let identity = self.identity.clone().unwrap_or_else(Identity::generate);
        match keys::unwrap(bytes, &identity, &id) {
            Ok(_) => Copy::Good,
            Err(KeyError::WrongKey) => Copy::Unknown,
            Err(_) => Copy::Damaged,
        }
    }
}

fn of_error(error: &FormatError) -> Copy {
    if is_newer(error) { Copy::Newer } else { Copy::Damaged }
}

/// A name that is a hash tells a version to come from a flipped bit.
fn of_named(error: &FormatError, path: &str, bytes: &[u8]) -> Copy {
    match of_error(error) {
        Copy::Newer if !layout::is_named_after(path.rsplit('/').next().unwrap_or_default(), bytes) => {
            Copy::SeemsNewer
        }
        copy => copy,
    }
}

fn limit(kind: Kind) -> u64 {
    let limit = match kind {
        Kind::Label => limits::LABEL_FILE_MAX,
        Kind::Key => limits::KEY_FILE_MAX,
        Kind::Manifest => limits::MANIFEST_FILE_MAX,
        Kind::Sweep => limits::SWEEP_FILE_MAX,
    };
    limit as u64
}

/// Carries out what the plan says of copies and other small files.
pub(super) fn mend(
    repository: &Repository,
    storage: &dyn Storage,
    report: &mut RepairReport,
) -> Result<(), RepositoryError> {
    let folders = [layout::KEYS, layout::MANIFESTS];
    for folder in folders.into_iter().flatten() {
        durable::make_dir(storage, folder)?;
    }
    if report.plan.twins.iter().any(|twin| twin.kind == Kind::Sweep) {
        layout::SWEPT.iter().try_for_each(|folder| durable::make_dir(storage, folder))?;
    }
    let judge = Judge { repository, identity: None };
    let mut bytes_of: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for twin in &report.plan.twins {
        // Read before anything is moved, and never a copy of something that is no longer good.
        if let Some(copy) = twin.restored() {
            let good = &twin.paths[1 - copy];
            let bytes = read_whole(storage, good, limit(twin.kind))?;
            if twin.kind != Kind::Key && judge.judge(twin.kind, good, &bytes) != Copy::Good {
                let what = FormatError::NotAuthentic { what: "the good copy, a moment later," };
                return Err(RepositoryError::decoding(good.clone(), what));
            }
            bytes_of.insert(twin.paths[copy].clone(), bytes);
        }
        for copy in twin.moved() {
            report.quarantined.push(quarantine::put(storage, &twin.paths[copy])?);
        }
        if let Some(copy) = twin.restored() {
            let path = &twin.paths[copy];
            if let Some(bytes) = bytes_of.remove(path) {
                durable::write_once(storage, path, &bytes)?;
                report.restored.push(path.clone());
            }
        }
    }
    let mut there = BTreeSet::new();
    for folder in [layout::VERIFIED, layout::DRILLS] {
        match storage.list(folder) {
            Ok(entries) => there.extend(entries.into_iter().map(|entry| format!("{folder}/{}", entry.name))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A record that the one of this repair has superseded is gone already.
    for path in report.plan.singles.iter().filter(|path| there.contains(*path)) {
        report.quarantined.push(quarantine::put(storage, path)?);
    }
    Ok(())
}
