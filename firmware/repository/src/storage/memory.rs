//! A disk in memory that knows what is durable, so that the state after a power cut can be made from it.
//!
//! The model is harsher than ext4 or btrfs: after a crash every unsynced directory entry (made, removed or renamed)
//! survives or not independently of all others, and every unsynced 512-byte sector of a file holds its data, zeros, or is
//! cut off. Only [`WriteFile::sync`] and [`Storage::sync_dir`] put an end to that.
//!
//! [`MemoryStorage::crash`] draws such a state, [`MemoryStorage::crash_by`] asks for each decision, so that a caller can
//! go through all of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use super::{
    DirEntry, Guarding, LockGuard, LockKind, Operation, ReadFile, Storage, StorageError, WriteFile, parent,
};
use crate::sync::lock;

/// Bytes that a disk writes at once.
const SECTOR: usize = 512;

type Inode = usize;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    capacity: Option<u64>,
    locks: HashMap<String, Held>,
    guards: Vec<String>,
    guard_calls: Vec<GuardCall>,
}

/// What was asked about guards, in order. Memory keeps their names only, not what they would hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardCall {
    /// One was made.
    Made(String),
    /// One was dropped.
    Dropped(String),
    /// Their space was waited for.
    Settled,
}

#[derive(Clone, Debug)]
enum Node {
    /// The bytes are shared between copies of the disk until one of them is written.
    File {
        live: Arc<Vec<u8>>,
        durable: usize,
        names: u32,
    },
    Folder {
        live: BTreeMap<String, Inode>,
        durable: BTreeMap<String, Inode>,
        pending: Vec<Change>,
    },
}

/// A directory entry that was set or taken away and is not durable yet.
#[derive(Clone, Debug)]
struct Change {
    name: String,
    to: Option<Inode>,
}

#[derive(Debug)]
enum Held {
    Shared(usize),
    Exclusive,
}

impl Default for Disk {
    fn default() -> Self {
        Disk {
            nodes: vec![empty_folder()],
            capacity: None,
            locks: HashMap::new(),
            guards: Vec::new(),
            guard_calls: Vec::new(),
        }
    }
}

fn empty_folder() -> Node {
    Node::Folder { live: BTreeMap::new(), durable: BTreeMap::new(), pending: Vec::new() }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl MemoryStorage {
    /// An empty disk without a size limit.
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// Sets how many bytes of files fit, for full disks; `None` for any number.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        lock(&self.disk).capacity = capacity;
    }

    /// The disk as it may be found after a power cut now. Seed 0 loses all that is not durable, seed 1 keeps everything,
    /// any other draws one of the states between. This disk is not changed.
    pub fn crash(&self, seed: u64) -> MemoryStorage {
        let mut dice = Dice::new(seed);
        self.crash_by(&mut |choice| dice.draw(choice.options))
    }

    /// As [`MemoryStorage::crash`], with every decision left to `choose`: it gives a number below the choice's
    /// `options`, where 0 is always "lost" and 1 always "kept". What cannot be reached any more is not asked about, so
    /// two different series of answers give two different disks, but for equal bytes.
    pub fn crash_by(&self, choose: &mut dyn FnMut(&Choice<'_>) -> u64) -> MemoryStorage {
        let disk = lock(&self.disk);
        let mut after = Disk {
            nodes: vec![empty_folder(); disk.nodes.len()],
            capacity: disk.capacity,
            locks: HashMap::new(),
            guards: disk.guards.clone(),
            guard_calls: Vec::new(),
        };
        let mut seen = vec![false; disk.nodes.len()];
        let mut left = vec![(String::new(), 0)];
        while let Some((path, inode)) = left.pop() {
            if std::mem::replace(&mut seen[inode], true) {
                continue;
            }
            after.nodes[inode] = after_crash(&disk.nodes[inode], &path, choose);
            if let Node::Folder { live, .. } = &after.nodes[inode] {
                let below = |(name, inode): (&String, &Inode)| (join(&path, name), *inode);
                left.extend(live.iter().rev().map(below));
            }
        }
        after.count_names();
        MemoryStorage { disk: Arc::new(Mutex::new(after)) }
    }

    /// A copy that remembers what is durable, for looking at this moment later. Nobody holds its locks.
    pub fn fork(&self) -> MemoryStorage {
        let disk = lock(&self.disk);
        let copy = Disk {
            nodes: disk.nodes.clone(),
            capacity: disk.capacity,
            locks: HashMap::new(),
            guards: disk.guards.clone(),
            guard_calls: Vec::new(),
        };
        MemoryStorage { disk: Arc::new(Mutex::new(copy)) }
    }

    /// Shows every folder (without bytes) and file as it is now, in a fixed order.
    pub fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let disk = lock(&self.disk);
        let mut left = vec![(String::new(), 0)];
        while let Some((path, inode)) = left.pop() {
            match &disk.nodes[inode] {
                Node::File { live, .. } => show(&path, Some(live)),
                Node::Folder { live, .. } => {
                    show(&path, None);
                    left.extend(live.iter().rev().map(|(name, inode)| (join(&path, name), *inode)));
                }
            }
        }
    }

    /// All files with their contents as they are now (not as they are durable), by path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = lock(&self.disk);
        let mut files = BTreeMap::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((path, inode)) = folders.pop() {
            let Node::Folder { live, .. } = &disk.nodes[inode] else { continue };
            for (name, inode) in live {
                let path = join(&path, name);
                match &disk.nodes[*inode] {
                    Node::Folder { .. } => folders.push((path, *inode)),
                    Node::File { live, .. } => {
                        files.insert(path, live.to_vec());
                    }
                }
            }
        }
        files
    }

    /// What was asked about guards so far, in order.
    pub fn guard_calls(&self) -> Vec<GuardCall> {
        lock(&self.disk).guard_calls.clone()
    }

    /// Changes a file in place, durably: bit rot, for tests of damage. Does nothing if it is not there.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = lock(&self.disk);
        if let Ok(inode) = disk.find(path) {
            if let Node::File { live, durable, .. } = &mut disk.nodes[inode] {
                let bytes = Arc::make_mut(live);
                change(bytes);
                *durable = bytes.len();
            }
        }
    }

    fn error(&self, operation: Operation, path: &str, source: io::Error) -> StorageError {
        StorageError::new(operation, path, source)
    }
}

/// One thing that a power cut decides.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The folder or file it is about.
    pub path: &'a str,
    /// How many outcomes there are.
    pub options: u64,
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn after_crash(node: &Node, path: &str, choose: &mut dyn FnMut(&Choice<'_>) -> u64) -> Node {
    match node {
        Node::File { live, durable, .. } => {
            let kept = if live.len() > *durable { torn(live, *durable, path, choose) } else { live.clone() };
            Node::File { durable: kept.len(), live: kept, names: 0 }
        }
        Node::Folder { durable, pending, .. } => {
            let mut entries = durable.clone();
            for change in pending {
                if choose(&Choice { path, options: 2 }) == 0 {
                    continue;
                }
                match change.to {
                    Some(inode) => entries.insert(change.name.clone(), inode),
                    None => entries.remove(&change.name),
                };
            }
            Node::Folder { live: entries.clone(), durable: entries, pending: Vec::new() }
        }
    }
}

/// What is left of a file of which only the first `durable` bytes are safe: nothing more, all of it, or it is cut in
/// some half of a sector; and of what is left, each sector or zeros in its place.
fn torn(
    live: &Arc<Vec<u8>>,
    durable: usize,
    path: &str,
    choose: &mut dyn FnMut(&Choice<'_>) -> u64,
) -> Arc<Vec<u8>> {
    let length = match choose(&Choice { path, options: 3 }) {
        0 => durable,
        1 => live.len(),
        _ => {
            let sectors = (live.len() - durable).div_ceil(SECTOR) as u64;
            let half = choose(&Choice { path, options: 2 * sectors }) as usize;
            (durable + half * SECTOR / 2 + 1).min(live.len())
        }
    };
    let mut kept = live[..length].to_vec();
    let mut sector = durable;
    while sector < length {
        let end = ((sector / SECTOR + 1) * SECTOR).min(length);
        if choose(&Choice { path, options: 2 }) == 0 {
            kept[sector..end].fill(0);
        }
        sector = end;
    }
    Arc::new(kept)
}

impl Disk {
    fn find(&self, path: &str) -> io::Result<Inode> {
        let mut inode = 0;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let Node::Folder { live, .. } = &self.nodes[inode] else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            inode = *live.get(component).ok_or_else(not_found)?;
        }
        Ok(inode)
    }

    fn entry(&self, path: &str) -> io::Result<Option<Inode>> {
        match self.find(parent(path)) {
            Ok(_) => match self.find(path) {
                Ok(inode) => Ok(Some(inode)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn set(&mut self, path: &str, to: Option<Inode>) -> io::Result<()> {
        let folder = self.find(parent(path))?;
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let Node::Folder { live, pending, .. } = &mut self.nodes[folder] else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        match to {
            Some(inode) => live.insert(name.clone(), inode),
            None => live.remove(&name),
        };
        pending.push(Change { name, to });
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) -> io::Result<Inode> {
        if self.entry(path)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let inode = self.nodes.len() - 1;
        self.set(path, Some(inode))?;
        Ok(inode)
    }

    fn used(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| match node {
                Node::File { live, names: 1.., .. } => live.len() as u64,
                _ => 0,
            })
            .sum()
    }

    fn count_names(&mut self) {
        let inodes: Vec<Inode> = self
            .nodes
            .iter()
            .filter_map(|node| match node {
                Node::Folder { live, .. } => Some(live.values().copied().collect::<Vec<_>>()),
                Node::File { .. } => None,
            })
            .flatten()
            .collect();
        for inode in inodes {
            if let Node::File { names, .. } = &mut self.nodes[inode] {
                *names += 1;
            }
        }
    }
}

impl Storage for MemoryStorage {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn make_dir(&self, path: &str) -> Result<(), StorageError> {
        lock(&self.disk)
            .add(path, empty_folder())
            .map(|_| ())
            .map_err(|error| self.error(Operation::MakeDir, path, error))
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>, StorageError> {
        let node = Node::File { live: Arc::default(), durable: 0, names: 1 };
        let inode =
            lock(&self.disk).add(path, node).map_err(|error| self.error(Operation::Create, path, error))?;
        Ok(Box::new(MemoryFile { storage: self.clone(), inode, path: path.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        let renamed = (|| {
            let inode = disk.entry(from)?.ok_or_else(not_found)?;
            if disk.entry(to)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.set(to, Some(inode))?;
            disk.set(from, None)
        })();
        renamed.map_err(|error| self.error(Operation::Rename, to, error))
    }

    fn sync_dir(&self, path: &str) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        let synced = disk.find(path).and_then(|inode| match &mut disk.nodes[inode] {
            Node::Folder { live, durable, pending } => {
                durable.clone_from(live);
                pending.clear();
                Ok(())
            }
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        });
        synced.map_err(|error| self.error(Operation::SyncDir, path, error))
    }

    fn flush_device(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        let removed = (|| {
            let inode = disk.entry(path)?.ok_or_else(not_found)?;
            match &mut disk.nodes[inode] {
                Node::File { names, .. } => *names -= 1,
                Node::Folder { .. } => return Err(io::ErrorKind::IsADirectory.into()),
            }
            disk.set(path, None)
        })();
        removed.map_err(|error| self.error(Operation::Remove, path, error))
    }

    fn list(&self, path: &str) -> Result<Vec<DirEntry>, StorageError> {
        let disk = lock(&self.disk);
        let inode = disk.find(path).map_err(|error| self.error(Operation::List, path, error))?;
        let Node::Folder { live, .. } = &disk.nodes[inode] else {
            return Err(self.error(Operation::List, path, io::ErrorKind::NotADirectory.into()));
        };
        let entry = |(name, inode): (&String, &Inode)| {
            let (length, directory) = match &disk.nodes[*inode] {
                Node::File { live, .. } => (live.len() as u64, false),
                Node::Folder { .. } => (0, true),
            };
            DirEntry { name: name.clone(), length, directory }
        };
        Ok(live.iter().map(entry).collect())
    }

    fn open(&self, path: &str) -> Result<Box<dyn ReadFile>, StorageError> {
        let disk = lock(&self.disk);
        let inode = disk.find(path).map_err(|error| self.error(Operation::Open, path, error))?;
        match &disk.nodes[inode] {
            Node::File { live, .. } => {
                let length = live.len() as u64;
                Ok(Box::new(MemoryReader { storage: self.clone(), inode, length, path: path.to_owned() }))
            }
            Node::Folder { .. } => Err(self.error(Operation::Open, path, io::ErrorKind::IsADirectory.into())),
        }
    }

    fn lock(&self, path: &str, kind: LockKind) -> Result<Option<Box<dyn LockGuard>>, StorageError> {
        let mut disk = lock(&self.disk);
        let there = disk.entry(path).map_err(|error| self.error(Operation::Lock, path, error))?;
        if there.is_none() {
            let node = Node::File { live: Arc::default(), durable: 0, names: 1 };
            disk.add(path, node).map_err(|error| self.error(Operation::Lock, path, error))?;
        }
        match (disk.locks.get_mut(path), kind) {
            (None, LockKind::Shared) => {
                disk.locks.insert(path.to_owned(), Held::Shared(1));
            }
            (None, LockKind::Exclusive) => {
                disk.locks.insert(path.to_owned(), Held::Exclusive);
            }
            (Some(Held::Shared(count)), LockKind::Shared) => *count += 1,
            (Some(_), _) => return Ok(None),
        }
        Ok(Some(Box::new(MemoryLock { storage: self.clone(), path: path.to_owned() })))
    }

    fn free_space(&self) -> Result<u64, StorageError> {
        let disk = lock(&self.disk);
        Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn drop_cache(&self, path: &str) -> Result<(), StorageError> {
        lock(&self.disk).find(path).map(|_| ()).map_err(|error| self.error(Operation::DropCache, path, error))
    }

    fn make_guard(&self, name: &str) -> Result<Guarding, StorageError> {
        let mut disk = lock(&self.disk);
        if disk.guards.iter().any(|guard| guard == name) {
            return Err(self.error(Operation::MakeGuard, name, io::ErrorKind::AlreadyExists.into()));
        }
        disk.guards.push(name.to_owned());
        disk.guard_calls.push(GuardCall::Made(name.to_owned()));
        Ok(Guarding::Made)
    }

    fn guards(&self) -> Result<Vec<String>, StorageError> {
        Ok(lock(&self.disk).guards.clone())
    }

    fn drop_guard(&self, name: &str) -> Result<(), StorageError> {
        let mut disk = lock(&self.disk);
        let there = disk.guards.iter().position(|guard| guard == name);
        let place = there.ok_or_else(|| self.error(Operation::DropGuard, name, not_found()))?;
        disk.guards.remove(place);
        disk.guard_calls.push(GuardCall::Dropped(name.to_owned()));
        Ok(())
    }

    fn settle_guards(&self) -> Result<bool, StorageError> {
        lock(&self.disk).guard_calls.push(GuardCall::Settled);
        Ok(true)
    }
}

struct MemoryFile {
    storage: MemoryStorage,
    inode: Inode,
    path: String,
}

impl WriteFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut disk = lock(&self.storage.disk);
        let room = match disk.capacity {
            Some(capacity) => capacity.saturating_sub(disk.used()) as usize,
            None => usize::MAX,
        };
        if let Node::File { live, .. } = &mut disk.nodes[self.inode] {
            // A full disk takes what fits, as a short write does.
            Arc::make_mut(live).extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if bytes.len() > room {
            return Err(StorageError::new(Operation::Append, &self.path, io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut disk = lock(&self.storage.disk);
        if let Node::File { live, durable, .. } = &mut disk.nodes[self.inode] {
            *durable = live.len();
        }
        Ok(())
    }
}

struct MemoryReader {
    storage: MemoryStorage,
    inode: Inode,
    length: u64,
    path: String,
}

impl ReadFile for MemoryReader {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let disk = lock(&self.storage.disk);
        let Node::File { live, .. } = &disk.nodes[self.inode] else {
            return Err(StorageError::new(Operation::Read, &self.path, io::ErrorKind::IsADirectory));
        };
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| live.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| StorageError::new(Operation::Read, &self.path, io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLock {
    storage: MemoryStorage,
    path: String,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = lock(&self.storage.disk);
        match disk.locks.get_mut(&self.path) {
            Some(Held::Shared(count)) if *count > 1 => *count -= 1,
            _ => {
                disk.locks.remove(&self.path);
            }
        }
    }
}

/// The draws of one crash (splitmix64); 0 and 1 are the two corners.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Dice { seed, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn draw(&mut self, options: u64) -> u64 {
        match self.seed {
            0 | 1 => self.seed,
            _ => self.next() % options,
        }
    }
}
