//! Writes the contents of one file: gathered writes, holes where the original had them.

use std::os::fd::BorrowedFd;

use mailkeep_format::{Node, NodeKind};
use rustix::io::Errno;

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
    node: &Node,
    file: BorrowedFd<'_>,
    wrote: &dyn Fn(u64) -> bool,
) -> Result<(), FillError> {
    let NodeKind::File { size, sparse, content } = &node.kind else { return Ok(()) };
    let mut writer = HoleWriter { file, sparse: *sparse, offset: 0, buffer: Vec::new() };
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
                write_all(self.file, &self.buffer[from..from + data], self.offset + from as u64)?;
                from += data;
            }
        } else {
            write_all(self.file, &self.buffer[..count], self.offset)?;
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

/// Length of the run of blocks at the start that are all zero (or that are not).
fn leading_blocks(bytes: &[u8], zero: bool) -> usize {
    let run =
        bytes.chunks(limits::HOLE_BLOCK).take_while(|block| block.iter().all(|byte| *byte == 0) == zero);
    run.map(<[u8]>::len).sum()
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
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
