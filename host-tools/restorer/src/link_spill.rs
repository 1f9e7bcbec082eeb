//! First names of files with several names, on the machine's own disk: for snapshots in which more of them are open at a
//! time than memory is given to. A table of slots in a file without a name (`$TMPDIR`, else `/var/tmp`), and the paths one
//! behind the other in another; both vanish with the process.
//!
//! Names on a mail server are private: the files can be opened by nobody else.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Device and inode on the server: the identity of a file with several names.
pub(crate) type Identity = (u64, u64);

/// Slots that a table begins with, a power of two.
const SLOTS_FIRST: u64 = 1 << 16;
const SLOT: usize = 32;
/// Slots that are read at once when a table grows.
const SLOTS_AT_ONCE: usize = 2048;

/// A table on the disk.
#[derive(Debug)]
pub(crate) struct Spill {
    slots: OwnedFd,
    paths: OwnedFd,
    /// How many slots there are: a power of two.
    room: u64,
    taken: u64,
    paths_end: u64,
    /// Not to be guessed by who chose the inode numbers.
    hasher: RandomState,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    number: u64,
    identity: Identity,
    path: u64,
    /// 0 in a slot that is free.
    length: u32,
    /// Names that may still come; 0 if it is not wanted any more.
    pub(crate) left: u32,
}

impl Spill {
    pub(crate) fn make() -> io::Result<Spill> {
        let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let (slots, paths) = (nameless(&folder)?, nameless(&folder)?);
        rustix::fs::ftruncate(&slots, SLOTS_FIRST * SLOT as u64)?;
        Ok(Spill { slots, paths, room: SLOTS_FIRST, taken: 0, paths_end: 0, hasher: RandomState::new() })
    }

    /// What is known of this file, if it is wanted.
    pub(crate) fn get(&self, identity: Identity) -> io::Result<Option<Slot>> {
        let slot = self.find(identity)?;
        Ok((slot.length > 0 && slot.left > 0).then_some(slot))
    }

    /// The first name of a file.
    pub(crate) fn path(&self, slot: &Slot) -> io::Result<Vec<u8>> {
        let mut path = vec![0; slot.length as usize];
        read_all(&self.paths, &mut path, slot.path)?;
        Ok(path)
    }

    /// Notes how many names may still come.
    pub(crate) fn set_left(&self, slot: &Slot, left: u32) -> io::Result<()> {
        self.write(&Slot { left, ..*slot })
    }

    /// Notes the first name of a file, in the place of what was known of it.
    pub(crate) fn put(&mut self, identity: Identity, path: &[u8], left: u32) -> io::Result<()> {
        if (self.taken + 1) * 2 > self.room {
            self.grow()?;
        }
        let length = u32::try_from(path.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        write_all(&self.paths, path, self.paths_end)?;
        let slot = self.find(identity)?;
        self.write(&Slot { path: self.paths_end, length, left, ..slot })?;
        self.taken += u64::from(slot.length == 0);
        self.paths_end += u64::from(length);
        Ok(())
    }

    /// The slot of this file, or the free one that it would have.
    fn find(&self, identity: Identity) -> io::Result<Slot> {
        let mut number = self.hasher.hash_one(identity) & (self.room - 1);
        loop {
            let mut bytes = [0; SLOT];
            read_all(&self.slots, &mut bytes, number * SLOT as u64)?;
            let slot = Slot::decode(number, &bytes);
            if slot.length == 0 {
                return Ok(Slot { identity, ..slot });
            }
            if slot.identity == identity {
                return Ok(slot);
            }
            number = (number + 1) & (self.room - 1);
        }
    }

    fn write(&self, slot: &Slot) -> io::Result<()> {
        write_all(&self.slots, &slot.encode(), slot.number * SLOT as u64)
    }

    /// Twice as many slots, in a new file; what is not wanted any more is left behind.
    fn grow(&mut self) -> io::Result<()> {
        let mut grown = Spill::make()?;
        grown.room = self.room * 2;
        rustix::fs::ftruncate(&grown.slots, grown.room * SLOT as u64)?;
        let mut bytes = vec![0; SLOTS_AT_ONCE * SLOT];
        for start in (0..self.room).step_by(SLOTS_AT_ONCE) {
            read_all(&self.slots, &mut bytes, start * SLOT as u64)?;
            for (number, bytes) in (start..).zip(bytes.chunks_exact(SLOT)) {
                let old = Slot::decode(number, bytes);
                if old.length > 0 && old.left > 0 {
                    let number = grown.find(old.identity)?.number;
                    grown.write(&Slot { number, ..old })?;
                    grown.taken += 1;
                }
            }
        }
        (self.slots, self.room, self.taken, self.hasher) =
            (grown.slots, grown.room, grown.taken, grown.hasher);
        Ok(())
    }
}

impl Slot {
    fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.identity.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.identity.1.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.path.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..].copy_from_slice(&self.left.to_le_bytes());
        bytes
    }

    fn decode(number: u64, bytes: &[u8]) -> Slot {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Slot { number, identity: (long(0), long(8)), path: long(16), length: short(24), left: short(28) }
    }
}

/// A file in `folder` that has no name, or loses it at once.
fn nameless(folder: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, folder, flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        other => return Ok(other?),
    }
    let mut name = OsString::from("mailkeep-links-");
    name.push(format!("{:016x}", RandomState::new().hash_one(std::process::id())));
    let path = folder.join(name);
    let file =
        rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty())?;
    Ok(file)
}

fn read_all(file: &OwnedFd, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match rustix::io::pread(file, &mut *buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_has_grown_several_times_knows_all_it_was_given() {
        let mut spill = Spill::make().unwrap();
        let identity = |number: u64| (number % 3, number / 3);
        let path = |number: u64| format!("/folder/{number}").into_bytes();
        for number in 0..150_000 {
            spill.put(identity(number), &path(number), 1 + (number % 4) as u32).unwrap();
        }
        assert!(spill.room > 2 * SLOTS_FIRST && spill.taken == 150_000);
        for number in (0..150_000).step_by(7) {
            let slot = spill.get(identity(number)).unwrap().unwrap();
            assert_eq!((spill.path(&slot).unwrap(), slot.left), (path(number), 1 + (number % 4) as u32));
            spill.set_left(&slot, slot.left - 1).unwrap();
            assert_eq!(spill.get(identity(number)).unwrap().is_some(), number % 4 > 0);
        }
        assert_eq!(spill.get((9, 9)).unwrap(), None);
        // Again under another name, as after a first name that could not be linked to.
        spill.put(identity(0), b"/other", 5).unwrap();
        let slot = spill.get(identity(0)).unwrap().unwrap();
        assert_eq!((spill.path(&slot).unwrap(), slot.left, spill.taken), (b"/other".to_vec(), 5, 150_000));
    }
}
