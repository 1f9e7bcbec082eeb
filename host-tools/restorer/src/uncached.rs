//! Writes that leave nothing in the page cache (`RWF_DONTCACHE`, Linux 6.14 and later).
//!
//! What a restore writes is read by nobody for a while, and there is more of it than memory. Kept in the cache it pushes
//! out what is in use, and every page of it has to be taken from the system anew: on a virtual machine whose memory was
//! not all in use yet that cost half of a restore's CPU time. With the flag the kernel begins to write the pages out at
//! once and takes them back when that is done, so that few of them go round.
//!
//! It is a hint and no more: where kernel or file system do not know it, writes go as they always did. Small writes do
//! without it, since beginning to write each of them out costs more than it saves.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, Result};

use crate::limits;

/// `RWF_DONTCACHE` of `linux/fs.h`.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Writes of one restore.
#[derive(Debug, Default)]
pub(crate) struct Uncached {
    /// The target has said that it cannot.
    refused: AtomicBool,
}

impl Uncached {
    /// One write at `offset`; like `pwritev` it may write less than it was given.
    pub(crate) fn write(&self, file: BorrowedFd<'_>, parts: &[IoSlice<'_>], offset: u64) -> Result<usize> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total >= limits::UNCACHED_WRITE && !self.refused.load(Ordering::Relaxed) {
            match rustix::io::pwritev2(file, parts, offset, DONT_CACHE) {
                // Kernels before 6.14 know no such flag, those before 4.6 no such call.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        match parts {
            [part] => rustix::io::pwrite(file, part, offset),
            parts => rustix::io::pwritev(file, parts, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_whether_the_flag_is_known_or_not() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..limits::UNCACHED_WRITE + 5000).map(|n| (n % 251) as u8).collect();
        for refused in [false, true] {
            let uncached = Uncached { refused: refused.into() };
            for parts in [1, 3] {
                file.set_len(0).unwrap();
                let pieces: Vec<_> = bytes.chunks(bytes.len().div_ceil(parts)).map(IoSlice::new).collect();
                assert_eq!(uncached.write(file.as_fd(), &pieces, 777).unwrap(), bytes.len());
                let mut is = vec![1; 777 + bytes.len()];
                file.read_exact_at(&mut is, 0).unwrap();
                assert!(is[..777].iter().all(|byte| *byte == 0), "nothing before it");
                assert_eq!(&is[777..], &bytes);
            }
        }
    }

    #[test]
    fn a_refusal_is_remembered_and_an_error_is_none() {
        // A socket has no offsets: an error of its own, which says nothing about the flag.
        let (writer, _reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let uncached = Uncached::default();
        let bytes = vec![0; limits::UNCACHED_WRITE];
        assert!(uncached.write(writer.as_fd(), &[IoSlice::new(&bytes)], 0).is_err());
        assert!(!uncached.refused.load(Ordering::Relaxed));
    }
}
