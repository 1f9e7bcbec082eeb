//! The bytes of a disk, page by page; copies share their pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// A disk as it is at one moment. Pages that are not there are zeros.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
    length: u64,
}

impl Image {
    /// Reads a file; its holes are not kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut image = Image { pages: BTreeMap::new(), length };
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < length {
            let part = buffer.len().min((length - offset) as usize);
            file.read_exact_at(&mut buffer[..part], offset)?;
            if buffer[..part].iter().any(|byte| *byte != 0) {
                image.write(offset, &buffer[..part]);
            }
            offset += part as u64;
        }
        Ok(image)
    }

    /// Bytes of the disk.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes within the disk.
    pub fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (page, within) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
            let part = bytes.len().min(PAGE - within);
            let (now, rest) = bytes.split_at(part);
            if self.pages.contains_key(&page) || now.iter().any(|byte| *byte != 0) {
                let kept = self.pages.entry(page).or_insert_with(|| Arc::new(vec![0; PAGE]));
                Arc::make_mut(kept)[within..within + part].copy_from_slice(now);
            }
            (offset, bytes) = (offset + part as u64, rest);
        }
    }

    /// Reads within the disk.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let part = (buffer.len() - done).min(PAGE - within);
            match self.pages.get(&page) {
                Some(kept) => buffer[done..done + part].copy_from_slice(&kept[within..within + part]),
                None => buffer[done..done + part].fill(0),
            }
            done += part;
        }
    }

    /// What is on it, as a hash: equal for equal disks that were made from one another.
    pub fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (number, page) in self.pages.iter().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            hasher.update(&number.to_le_bytes()).update(page);
        }
        hasher.finalize()
    }

    /// Writes it to a new sparse file.
    ///
    /// # Errors
    /// The file is there already, or there is no room.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::options().write(true).create_new(true).open(path)?;
        file.set_len(self.length)?;
        for (number, page) in &self.pages {
            file.write_all_at(page, number * PAGE as u64)?;
        }
        Ok(())
    }
}
