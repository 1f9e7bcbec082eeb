//! The recording of a walk: what is said of it, kept until it can be sent.
//!
//! It is short where little changed, and as long as the listings where much did; so it stays in memory up to a bound and
//! goes on in a file without a name. What is read back is our own, and yet decoded as carefully as a stranger's.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::PathBuf;

use mailkeep_format::codec::{Reader, put_bytes, put_varint};
use mailkeep_link::limits::FRAME_MAX;
use mailkeep_link::message::ToBox;
use mailkeep_link::wire::Message;

use super::{Kept, Staged, spare_file};
use crate::limits;

/// One message, and what is kept of the files in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) message: ToBox,
    /// Absolute path of the folder; empty where the message is of none.
    pub(crate) folder: Vec<u8>,
    /// Of each node of the message: its index in the folder.
    pub(crate) places: Vec<u32>,
    /// Of files that are kept: index in the folder, ascending.
    pub(crate) staged: Vec<(u32, Staged)>,
}

/// A recording that goes on.
#[derive(Debug)]
pub(crate) struct Recorder {
    ahead: Vec<u8>,
    spill: Option<File>,
    folder: PathBuf,
}

/// A recording that is played.
pub(crate) struct Player {
    input: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Player")
    }
}

impl Recorder {
    /// An empty one; `folder` is private to us.
    pub(crate) fn new(folder: PathBuf) -> Recorder {
        Recorder { ahead: Vec::new(), spill: None, folder }
    }

    /// Adds what is said next.
    pub(crate) fn add(&mut self, item: &Item) -> io::Result<()> {
        let frame = item.message.encode().map_err(io::Error::other)?;
        let mut out = Vec::with_capacity(frame.payload.len() + item.folder.len() + 64);
        out.push(frame.kind);
        put_bytes(&mut out, &frame.payload);
        put_bytes(&mut out, &item.folder);
        put_varint(&mut out, item.places.len() as u64);
        for place in &item.places {
            put_varint(&mut out, u64::from(*place));
        }
        put_varint(&mut out, item.staged.len() as u64);
        for (place, staged) in &item.staged {
            put_varint(&mut out, u64::from(*place));
            put_staged(&mut out, staged);
        }
        self.ahead.extend_from_slice(&(out.len() as u64).to_le_bytes());
        self.ahead.extend_from_slice(&out);
        if self.ahead.len() >= limits::RECORD_BYTES { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.spill {
            Some(file) => file,
            none => none.insert(spare_file(&self.folder)?),
        };
        file.write_all(&self.ahead)?;
        self.ahead.clear();
        Ok(())
    }

    /// From the beginning.
    pub(crate) fn play(mut self) -> io::Result<Player> {
        let Some(_) = self.spill else {
            return Ok(Player { input: Box::new(io::Cursor::new(self.ahead)) });
        };
        self.spill()?;
        match self.spill {
            Some(mut file) => {
                file.rewind()?;
                Ok(Player { input: Box::new(BufReader::with_capacity(64 << 10, file)) })
            }
            None => Ok(Player { input: Box::new(io::empty()) }),
        }
    }
}

impl Player {
    /// What was said next; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item>> {
        let mut length = [0u8; 8];
        match self.input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > ITEM_MAX {
            return Err(io::Error::other("an item is too long"));
        }
        let mut bytes = vec![0u8; length];
        self.input.read_exact(&mut bytes)?;
        take_item(&mut Reader::new(&bytes)).map(Some)
    }
}

/// A frame, and for each of a thousand nodes as many xattrs as one may have; what is longer is not recorded by us.
const ITEM_MAX: usize = 1 << 30;

fn put_staged(out: &mut Vec<u8>, staged: &Staged) {
    let (tag, one, other) = match staged.kept {
        Kept::Held(number) => (0, number, 0),
        Kept::Cloned(number) => (1, number, 0),
        Kept::Copied { room, at } => (2, room, at),
    };
    out.push(tag);
    put_varint(out, u64::from(one));
    put_varint(out, other);
    out.push(u8::from(staged.steady));
    put_varint(out, staged.xattrs.len() as u64);
    for (name, value) in &staged.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn take_item(reader: &mut Reader<'_>) -> io::Result<Item> {
    let kind = reader.byte("kind").map_err(io::Error::other)?;
    let payload = reader.bytes(FRAME_MAX, "message").map_err(io::Error::other)?.to_vec();
    let message = ToBox::incoming(kind, &payload.into()).map_err(io::Error::other)?;
    let mut take = || {
        let folder = reader.bytes(ITEM_MAX, "folder")?.to_vec();
        let mut places = Vec::new();
        for _ in 0..reader.varint32("places")? {
            places.push(reader.varint32("place")?);
        }
        let mut staged = Vec::new();
        for _ in 0..reader.varint32("staged files")? {
            let place = reader.varint32("place")?;
            let (tag, one, at) = (reader.byte("kept")?, reader.varint32("kept")?, reader.varint("kept")?);
            let kept = match tag {
                0 => Kept::Held(one),
                1 => Kept::Cloned(one),
                _ => Kept::Copied { room: one, at },
            };
            let steady = reader.byte("steady")? == 1;
            let mut xattrs = Vec::new();
            for _ in 0..reader.varint32("xattrs")? {
                let name = reader.bytes(ITEM_MAX, "xattr")?.to_vec();
                xattrs.push((name, reader.bytes(ITEM_MAX, "xattr")?.to_vec()));
            }
            staged.push((place, Staged { kept, xattrs, steady }));
        }
        Ok((folder, places, staged))
    };
    let taken: Result<_, mailkeep_format::FormatError> = take();
    let (folder, places, staged) = taken.map_err(io::Error::other)?;
    Ok(Item { message, folder, places, staged })
}

#[cfg(test)]
mod tests {
    use mailkeep_link::message::{DirectoryId, Entries, Problem};

    use super::*;

    fn items() -> Vec<Item> {
        let problem = Problem { what: "x".repeat(5_000), path: "/a".into(), missing: true };
        let said = Item {
            message: ToBox::Problem(problem),
            folder: Vec::new(),
            places: Vec::new(),
            staged: Vec::new(),
        };
        let piece = Entries {
            directory: DirectoryId(0),
            parent: None,
            first: 0,
            last: true,
            nodes: vec![],
            hints: vec![],
        };
        let xattrs = vec![(b"user.a".to_vec(), vec![7; 300])];
        let staged = vec![
            (3, Staged { kept: Kept::Held(9), xattrs: vec![], steady: true }),
            (5, Staged { kept: Kept::Copied { room: 1, at: 1 << 40 }, xattrs, steady: false }),
            (6, Staged { kept: Kept::Cloned(2), xattrs: vec![], steady: true }),
        ];
        let folder = Item {
            message: ToBox::Entries(piece),
            folder: b"/var/spool".to_vec(),
            places: vec![1, 5],
            staged,
        };
        vec![said, folder]
    }

    #[test]
    fn what_was_recorded_is_played_in_memory_and_beyond() {
        let home = tempfile::tempdir().unwrap();
        for rounds in [0, 1, 2_000] {
            let mut recorder = Recorder::new(home.path().to_owned());
            for _ in 0..rounds {
                items().iter().for_each(|item| recorder.add(item).unwrap());
            }
            assert_eq!(recorder.spill.is_some(), rounds == 2_000);
            assert!(recorder.ahead.len() < limits::RECORD_BYTES);
            let mut player = recorder.play().unwrap();
            for _ in 0..rounds {
                for item in items() {
                    assert_eq!(player.next().unwrap(), Some(item));
                }
            }
            assert_eq!(player.next().unwrap(), None);
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing has a name");
        }
    }
}
