//! Generates mail spools that look like the ones the peers were measured on: sizes, attachments, repeats, newsletters,
//! index files that grow, and a day's change. The same seed gives the same spool.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mailkeep_tests::mime::Letter;
use mailkeep_tests::rng::Rng;
use mailkeep_tests::words::Words;

/// Share of mails with an attachment.
const WITH_ATTACHMENT: f64 = 0.12;
/// Median size of an attachment before base64, bytes, and the sigma of its log-normal distribution.
const ATTACHMENT: (f64, f64) = (57_000.0, 1.35);
/// Share of attachments that repeat an earlier one.
const REPEATED: f64 = 0.33;
/// Share of mails that are newsletters: one body for everybody, headers of their own.
const NEWSLETTER: f64 = 0.05;
/// Median bytes of text in a mail, and the sigma of its log-normal distribution.
const TEXT: (f64, f64) = (5_200.0, 1.1);
/// Bytes of a cyrus.index record and roughly of a cyrus.cache record of Cyrus 3.6.
const INDEX_RECORD: usize = 112;
const CACHE_RECORD: usize = 640;

/// How large a spool is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Number of message files.
    pub messages: usize,
    /// Number of users; each has three folders.
    pub users: usize,
    /// Median text bytes; the S and M spools use 5,200, L uses about 3,500 and no attachments.
    pub small_only: bool,
}

/// A spool on disk that can live through days.
pub(crate) struct Spool {
    root: PathBuf,
    folders: Vec<Folder>,
    words: Words,
    rng: Rng,
    attachments: Vec<Vec<u8>>,
    newsletters: Vec<Vec<u8>>,
    shape: Shape,
}

struct Folder {
    path: PathBuf,
    owner: usize,
    uids: Vec<u32>,
    last_uid: u32,
}

/// What a day did.
#[derive(Debug, Default)]
pub(crate) struct Day {
    /// Messages added.
    pub added: usize,
    /// Messages removed.
    pub expunged: usize,
    /// Bytes of the added messages.
    pub bytes: u64,
}

impl Spool {
    /// Writes a spool of this shape below `root`, which must be empty or absent.
    pub(crate) fn create(root: &Path, shape: Shape, seed: u64) -> Result<Self> {
        let words = Words::new(seed, 20_000);
        let mut rng = Rng::new(seed + 1);
        let newsletters = (0..40)
            .map(|_| {
                let mut body = Vec::new();
                words.text(&mut rng, 12_000, &mut body);
                body
            })
            .collect();
        let mut folders = Vec::new();
        for owner in 0..shape.users {
            for name in ["INBOX", "Sent", "Archive"] {
                let path = root.join(format!("user{owner:04}")).join(name);
                fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
                fs::write(path.join("cyrus.header"), format!("Cyrus mailbox header\nuser{owner}.{name}\n"))?;
                folders.push(Folder { path, owner, uids: Vec::new(), last_uid: 0 });
            }
        }
        let mut spool =
            Spool { root: root.to_owned(), folders, words, rng, attachments: Vec::new(), newsletters, shape };
        for number in 0..shape.messages {
            let folder = number % spool.folders.len();
            spool.deliver(folder)?;
        }
        for folder in 0..spool.folders.len() {
            spool.write_index(folder)?;
        }
        Ok(spool)
    }

    /// Where it lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// One day: 1 % more mail, 0.3 % expunged, index and cache of the touched folders rewritten.
    pub(crate) fn day(&mut self) -> Result<Day> {
        let mut day = Day { added: self.shape.messages.div_ceil(100), ..Day::default() };
        let mut touched = std::collections::BTreeSet::new();
        for _ in 0..day.added {
            let folder = self.rng.index(self.folders.len());
            day.bytes += self.deliver(folder)?;
            touched.insert(folder);
        }
        for _ in 0..self.shape.messages * 3 / 1000 {
            let index = self.rng.index(self.folders.len());
            let folder = &mut self.folders[index];
            if folder.uids.is_empty() {
                continue;
            }
            let uid = folder.uids.swap_remove(self.rng.index(folder.uids.len()));
            fs::remove_file(folder.path.join(format!("{uid}.")))?;
            day.expunged += 1;
            touched.insert(index);
        }
        for folder in touched {
            self.write_index(folder)?;
        }
        Ok(day)
    }

    fn deliver(&mut self, folder: usize) -> Result<u64> {
        let rng = &mut self.rng;
        let owner = self.folders[folder].owner;
        let median = if self.shape.small_only { 3_500.0 } else { TEXT.0 };
        let sigma = if self.shape.small_only { 0.45 } else { TEXT.1 };
        let attachments = if !self.shape.small_only && rng.chance(WITH_ATTACHMENT) {
            vec![attachment(rng, &self.words, &mut self.attachments)]
        } else {
            Vec::new()
        };
        let letter = Letter {
            from: format!("{}.{}", self.words.word(rng), self.words.word(rng)),
            to: format!("user{owner}"),
            date: 1_600_000_000 + rng.below(100_000_000) as i64,
            text: (log_normal(rng, median, sigma) as usize).clamp(200, 400_000),
            attachments,
        };
        let message = if rng.chance(NEWSLETTER) {
            let number = rng.index(self.newsletters.len());
            letter.write_with_body(&self.words, rng, &self.newsletters[number])
        } else {
            letter.write(&self.words, rng)
        };
        let folder = &mut self.folders[folder];
        folder.last_uid += 1;
        folder.uids.push(folder.last_uid);
        fs::write(folder.path.join(format!("{}.", folder.last_uid)), &message)?;
        Ok(message.len() as u64)
    }

    /// Index and cache grow with the folder and are rewritten as a whole, old records unchanged, as Cyrus does.
    fn write_index(&self, folder: usize) -> Result<()> {
        let folder = &self.folders[folder];
        for (name, record) in [("cyrus.index", INDEX_RECORD), ("cyrus.cache", CACHE_RECORD)] {
            let file = fs::File::create(folder.path.join(name))?;
            let mut out = std::io::BufWriter::new(file);
            out.write_all(&[0x43; 160])?;
            let mut uids = folder.uids.clone();
            uids.sort_unstable();
            for uid in uids {
                let mut rng = Rng::new(u64::from(uid) << 20 | folder.owner as u64);
                let mut bytes = vec![0u8; record];
                let filled = record / 3;
                rng.fill(&mut bytes[..filled]);
                bytes[..4].copy_from_slice(&uid.to_be_bytes());
                out.write_all(&bytes)?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

fn attachment(rng: &mut Rng, words: &Words, earlier: &mut Vec<Vec<u8>>) -> Vec<u8> {
    if !earlier.is_empty() && rng.chance(REPEATED) {
        return rng.pick(earlier).clone();
    }
    let size = (log_normal(rng, ATTACHMENT.0, ATTACHMENT.1) as usize).clamp(2_000, 8_000_000);
    let mut bytes = vec![0u8; size];
    // Documents are compressed already; one in four is plain enough to shrink.
    if rng.chance(0.25) {
        bytes.clear();
        words.text(rng, size, &mut bytes);
    } else {
        rng.fill(&mut bytes);
    }
    if earlier.len() < 400 {
        earlier.push(bytes.clone());
    }
    bytes
}

fn log_normal(rng: &mut Rng, median: f64, sigma: f64) -> f64 {
    median * (rng.normal() * sigma).exp()
}
