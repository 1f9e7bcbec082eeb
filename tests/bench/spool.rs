//! Generates mail spools like the ones that the peers were measured on: sizes, attachments, repeats, newsletters, index
//! files that grow, and a day's change. The same seed gives the same spool.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mailkeep_tests::rng::Rng;

use crate::shape::{Mail, Shape};
use crate::text::{Attachment, Author, log_normal};

/// Share of mails with an attachment.
const WITH_ATTACHMENT: f64 = 0.12;
/// Share of attachments that repeat an earlier one.
const REPEATED: f64 = 0.33;
/// Share of mails that are newsletters: one body for everybody, headers of their own.
const NEWSLETTER: f64 = 0.05;
/// Median bytes of text in a mail, and the sigma of its log-normal distribution.
const TEXT: (f64, f64) = (5_200.0, 1.05);
/// Shortest and longest message file of the sets with small mail, and what headers take of it.
const SMALL: (usize, usize, usize) = (2_048, 8_192, 1_150);
/// Length of the attachment that everybody gets, bytes before base64.
const BLAST: usize = 1_000_000;
/// Bytes of a cyrus.index record and roughly of a cyrus.cache record of Cyrus 3.6.
const INDEX_RECORD: usize = 112;
const CACHE_RECORD: usize = 640;
/// Names of a user's folders; mail is spread evenly.
const FOLDERS: [&str; 3] = ["INBOX", "Sent", "Archive"];

/// A spool on disk that can live through days.
pub(crate) struct Spool {
    root: PathBuf,
    shape: Shape,
    folders: Vec<Folder>,
    author: Author,
    rng: Rng,
    attachments: Vec<Attachment>,
    days: u32,
}

struct Folder {
    path: PathBuf,
    owner: usize,
    uids: Vec<u32>,
    last_uid: u32,
    /// What was said last in it.
    before: Vec<u8>,
}

/// What a day did.
#[derive(Debug, Default)]
pub(crate) struct Day {
    /// Messages added.
    pub(crate) added: usize,
    /// Messages removed.
    pub(crate) expunged: usize,
    /// Bytes of the added messages.
    pub(crate) bytes: u64,
}

/// Regular files below a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// How many.
    pub(crate) files: u64,
    /// Their lengths summed up.
    pub(crate) bytes: u64,
}

impl Spool {
    /// Writes a spool of this shape below `root`, which must be empty or absent.
    pub(crate) fn create(root: &Path, shape: Shape, seed: u64) -> Result<Self> {
        let mut folders = Vec::new();
        for owner in 0..shape.users {
            for name in FOLDERS {
                let path = root.join(format!("user{owner:04}")).join(name);
                fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
                fs::write(path.join("cyrus.header"), format!("Cyrus mailbox header\nuser{owner}.{name}\n"))?;
                folders.push(Folder { path, owner, uids: Vec::new(), last_uid: 0, before: Vec::new() });
            }
        }
        let author = Author::new(seed, shape.users * 4);
        let rng = Rng::new(seed + 1);
        let mut spool =
            Spool { root: root.to_owned(), shape, folders, author, rng, attachments: Vec::new(), days: 0 };
        spool.fill()?;
        for folder in 0..spool.folders.len() {
            spool.write_index(folder)?;
        }
        Ok(spool)
    }

    /// Where it lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder whose restore is measured, from the root of the spool: the inbox of somebody in the middle.
    pub(crate) fn one_folder(&self) -> PathBuf {
        PathBuf::from(format!("user{:04}", self.shape.users / 2)).join(FOLDERS[0])
    }

    /// One day: 1 % more mail, 0.3 % expunged, index and cache of the touched folders rewritten.
    pub(crate) fn day(&mut self) -> Result<Day> {
        self.days += 1;
        let mut day = Day { added: self.shape.messages.div_ceil(100), ..Day::default() };
        let mut touched = BTreeSet::new();
        let letter = self.newsletter();
        for _ in 0..day.added {
            let folder = self.rng.index(self.folders.len());
            let body = if self.rng.chance(NEWSLETTER) { Some(&letter[..]) } else { None };
            day.bytes += self.deliver(folder, body)?;
            touched.insert(folder);
        }
        for _ in 0..self.shape.messages * 3 / 1000 {
            let index = self.rng.index(self.folders.len());
            let folder = &mut self.folders[index];
            if folder.uids.is_empty() {
                continue;
            }
            let uid = folder.uids.remove(self.rng.index(folder.uids.len()));
            fs::remove_file(folder.path.join(format!("{uid}.")))?;
            day.expunged += 1;
            touched.insert(index);
        }
        for folder in touched {
            self.write_index(folder)?;
        }
        Ok(day)
    }

    fn fill(&mut self) -> Result<()> {
        let inboxes = FOLDERS.len();
        if self.shape.mail == Mail::Blast {
            let attachment = Attachment::of_len(self.rng.next_u64(), BLAST);
            let body = self.author.body(&mut self.rng, 2_000, &mut Vec::new(), Some(attachment));
            for number in 0..self.shape.messages {
                self.deliver(number * inboxes % self.folders.len(), Some(&body))?;
            }
            return Ok(());
        }
        let newsletters = (self.shape.messages as f64 * NEWSLETTER) as usize / self.shape.users;
        let others = self.shape.messages - newsletters * self.shape.users;
        let mut sent = 0;
        for number in 0..others {
            self.deliver(number % self.folders.len(), None)?;
            // Newsletters come in between, each to all inboxes at once.
            if sent < newsletters && number * newsletters >= sent * others {
                let body = self.newsletter();
                for user in 0..self.shape.users {
                    self.deliver(user * inboxes, Some(&body))?;
                }
                sent += 1;
            }
        }
        for _ in sent * self.shape.users..newsletters * self.shape.users {
            self.deliver(0, None)?;
        }
        Ok(())
    }

    fn newsletter(&mut self) -> Vec<u8> {
        let len = if self.shape.mail == Mail::Small { 5_000 } else { 12_000 };
        self.author.body(&mut self.rng, len, &mut Vec::new(), None)
    }

    /// One more message in a folder: with this body, or one of its own.
    fn deliver(&mut self, folder: usize, body: Option<&[u8]>) -> Result<u64> {
        let rng = &mut self.rng;
        let folder = &mut self.folders[folder];
        let message = match body {
            Some(body) => self.author.message(rng, folder.owner, body),
            None => {
                let (len, attachment) = match self.shape.mail {
                    Mail::Small => (SMALL.0 + rng.index(SMALL.1 - SMALL.0) - SMALL.2, None),
                    Mail::Mixed | Mail::Blast => {
                        let len = (log_normal(rng, TEXT) as usize).clamp(200, 400_000);
                        (len, rng.chance(WITH_ATTACHMENT).then(|| attachment(rng, &mut self.attachments)))
                    }
                };
                let body = self.author.body(rng, len, &mut folder.before, attachment);
                self.author.message(rng, folder.owner, &body)
            }
        };
        folder.last_uid += 1;
        folder.uids.push(folder.last_uid);
        fs::write(folder.path.join(format!("{}.", folder.last_uid)), &message)?;
        Ok(message.len() as u64)
    }

    /// Index and cache grow with the folder and are rewritten as a whole, old records unchanged, as Cyrus does.
    fn write_index(&self, folder: usize) -> Result<()> {
        let folder = &self.folders[folder];
        for (name, record) in [("cyrus.index", INDEX_RECORD), ("cyrus.cache", CACHE_RECORD)] {
            let mut out = vec![0x43; 160];
            // Generation, last UID and count change with every rewrite.
            out[..4].copy_from_slice(&self.days.to_be_bytes());
            out[4..8].copy_from_slice(&folder.last_uid.to_be_bytes());
            out[8..12].copy_from_slice(&(folder.uids.len() as u32).to_be_bytes());
            for &uid in &folder.uids {
                let mut rng = Rng::new(u64::from(uid) << 20 | folder.owner as u64);
                let at = out.len();
                out.resize(at + record, 0);
                rng.fill(&mut out[at..at + record / 3]);
                out[at..at + 4].copy_from_slice(&uid.to_be_bytes());
            }
            fs::File::create(folder.path.join(name))?.write_all(&out)?;
        }
        Ok(())
    }
}

fn attachment(rng: &mut Rng, earlier: &mut Vec<Attachment>) -> Attachment {
    if !earlier.is_empty() && rng.chance(REPEATED) {
        return *rng.pick(earlier);
    }
    let new = Attachment::new(rng);
    earlier.push(new);
    new
}

/// Counts the regular files below a folder.
pub(crate) fn content(folder: &Path) -> Result<Content> {
    let mut sum = Content::default();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            let below = content(&entry.path())?;
            sum.files += below.files;
            sum.bytes += below.bytes;
        } else if meta.is_file() {
            sum.files += 1;
            sum.bytes += meta.len();
        }
    }
    Ok(sum)
}

/// Reads every file below a folder, so that it is in memory for all who come after.
pub(crate) fn warm(folder: &Path) -> Result<()> {
    let mut buffer = vec![0u8; 1 << 20];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let mut file = fs::File::open(entry.path())?;
                while std::io::Read::read(&mut file, &mut buffer)? > 0 {}
            }
        }
    }
    Ok(())
}
