//! Writes the contents of one file: gathered writes, holes where the original had them.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use mailkeep_format::{Node, NodeKind};
use rustix::io::Errno;

use crate::uncached::Uncached;
use crate::{Contents, ContentsError, limits};

/// Why a file was not filled.
#[derive(Debug)]
pub(crate) enum FillError {
    /// The snapshot's bytes cannot be had.
    Contents(ContentsError),
    /// The target did not take them.
    Write(Errno),
    /// The caller asked to stop.
    Stopped,
}

impl From<Errno> for FillError {
    fn from(error: Errno) -> Self {
        FillError::Write(error)
    }
}

/// Fills `file` (empty, open for writing) with the contents of `node`, telling `wrote` how many bytes went by.
pub(crate) fn fill(
    contents: &dyn Contents,
    uncached: &Uncached,
    node: &Node,
    file: BorrowedFd<'_>,
    wrote: &dyn Fn(u64) -> bool,
) -> Result<(), FillError> {
    let NodeKind::File { size, sparse, content } = &node.kind else { return Ok(()) };
    let mut writer = HoleWriter { file, uncached, sparse: *sparse, offset: 0, buffer: Vec::new() };
    for chunk in content {
        let mut written = Ok(());
        contents.chunk(chunk, &mut |plain| written = writer.push(plain)).map_err(FillError::Contents)?;
        written?;
        if !wrote(u64::from(chunk.length)) {
            return Err(FillError::Stopped);
        }
    }
    let end = writer.finish()?;
    if end == *size {
        Ok(())
    } else {
        let what = format!("{end} bytes stored of a file of {size}");
        Err(FillError::Contents(ContentsError::Damaged(what)))
    }
}

struct HoleWriter<'a> {
    file: BorrowedFd<'a>,
    uncached: &'a Uncached,
    sparse: bool,
    /// Where the buffer belongs; a multiple of the hole block until the end.
    offset: u64,
    buffer: Vec<u8>,
}

impl HoleWriter<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= limits::WRITE_BUFFER {
            let whole = self.buffer.len() - self.buffer.len() % limits::HOLE_BLOCK;
            self.flush(whole)?;
        }
        Ok(())
    }

    /// Writes the first `count` buffered bytes.
    fn flush(&mut self, count: usize) -> Result<(), Errno> {
        if self.sparse {
            let mut from = 0;
            while from < count {
                let hole = leading_blocks(&self.buffer[from..count], true);
                from += hole;
                let data = leading_blocks(&self.buffer[from..count], false);
                let piece = &self.buffer[from..from + data];
                write_all(self.uncached, self.file, piece, self.offset + from as u64)?;
                from += data;
            }
        } else {
            write_all(self.uncached, self.file, &self.buffer[..count], self.offset)?;
        }
        self.offset += count as u64;
        self.buffer.drain(..count);
        Ok(())
    }

    /// Writes the rest; returns the file's length.
    fn finish(mut self) -> Result<u64, Errno> {
        self.flush(self.buffer.len())?;
        if self.sparse {
            // A hole at the end has to be told.
            rustix::fs::ftruncate(self.file, self.offset)?;
        }
        Ok(self.offset)
    }
}

/// Writes pieces that lie one behind the other in the file, from `offset` on.
pub(crate) fn write_pieces(
    uncached: &Uncached,
    file: BorrowedFd<'_>,
    sparse: bool,
    mut offset: u64,
    pieces: &[&[u8]],
) -> Result<(), Errno> {
    if pieces.len() > 1 && !sparse {
        let parts: Vec<IoSlice<'_>> =
            pieces.iter().take(PARTS_MAX).map(|piece| IoSlice::new(piece)).collect();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        match uncached.write(file, &parts, offset) {
            Ok(count) if count == total => {
                let rest = &pieces[parts.len()..];
                return if rest.is_empty() {
                    Ok(())
                } else {
                    write_pieces(uncached, file, sparse, offset + total as u64, rest)
                };
            }
            // Cut short: what was written is written once more, piece by piece, which ends or shows what is wrong.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    for piece in pieces {
        if sparse {
            write_around_holes(uncached, file, offset, piece)?;
        } else {
            write_all(uncached, file, piece, offset)?;
        }
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Most pieces of one call (`IOV_MAX` is 1024).
const PARTS_MAX: usize = 512;

/// Leaves zeros out, in blocks of the file: in a new file they are there already.
fn write_around_holes(
    uncached: &Uncached,
    file: BorrowedFd<'_>,
    mut offset: u64,
    mut bytes: &[u8],
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut end = 0;
        let mut zeros = 0;
        while end < bytes.len() {
            let to_block = limits::HOLE_BLOCK - (offset + end as u64) as usize % limits::HOLE_BLOCK;
            let block = &bytes[end..bytes.len().min(end + to_block)];
            if block.iter().all(|byte| *byte == 0) {
                zeros = block.len();
                break;
            }
            end += block.len();
        }
        write_all(uncached, file, &bytes[..end], offset)?;
        offset += (end + zeros) as u64;
        bytes = &bytes[end + zeros..];
    }
    Ok(())
}

/// Length of the run of blocks at the start that are all zero (or that are not).
fn leading_blocks(bytes: &[u8], zero: bool) -> usize {
    let run =
        bytes.chunks(limits::HOLE_BLOCK).take_while(|block| block.iter().all(|byte| *byte == 0) == zero);
    run.map(<[u8]>::len).sum()
}

fn write_all(
    uncached: &Uncached,
    file: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut offset: u64,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match uncached.write(file, &[IoSlice::new(bytes)], offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
