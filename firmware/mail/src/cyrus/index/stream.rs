//! A cyrus.index that comes in pieces: memory is one record, whatever its length.

use super::{IndexHeader, IndexRecord, LONGEST_HEADER, Layout, record, too_large, too_short};
use crate::error::MailError;
use crate::limits::CYRUS_INDEX_BYTES;

/// Takes the bytes of a cyrus.index and hands out its records. Says the same as [`super::Index`] of the whole, but only
/// [`IndexStream::finish`] knows whether the file is long enough: what was handed out before an error means nothing.
#[derive(Default)]
pub struct IndexStream {
    pub(super) held: Vec<u8>,
    seen: usize,
    layout: Option<Layout>,
    /// Bytes before the first record that are still to come.
    skip: usize,
    /// Records that are still to come.
    left: u32,
}

impl IndexStream {
    /// Of a file of which nothing has been seen.
    pub fn new() -> IndexStream {
        IndexStream::default()
    }

    /// Takes the next bytes and hands the records that are complete with them to `each`, as [`super::Index::records`]
    /// does. Fails if this is no index; then there is nothing more to be had.
    pub fn push(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Result<IndexRecord, MailError>),
    ) -> Result<(), MailError> {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.seen > CYRUS_INDEX_BYTES {
            return Err(too_large());
        }
        if self.layout.is_some() && self.left == 0 && self.skip == 0 {
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        if self.layout.is_none() && self.held.len() < LONGEST_HEADER {
            return Ok(());
        }
        self.decode(each)
    }

    /// The file is at its end: hands out what is left, and gives the header.
    pub fn finish(
        mut self,
        each: &mut dyn FnMut(Result<IndexRecord, MailError>),
    ) -> Result<IndexHeader, MailError> {
        self.decode(each)?;
        match self.layout {
            // A file may be longer: Cyrus appends records before it counts them.
            Some(layout) if self.left == 0 && self.skip == 0 => Ok(layout.header),
            _ => Err(too_short()),
        }
    }

    fn decode(&mut self, each: &mut dyn FnMut(Result<IndexRecord, MailError>)) -> Result<(), MailError> {
        let layout = match &self.layout {
            Some(layout) => layout,
            None => {
                let layout = Layout::of(&self.held)?;
                (self.skip, self.left) = (layout.start, layout.header.records);
                &*self.layout.insert(layout)
            }
        };
        let mut at = self.skip.min(self.held.len());
        self.skip -= at;
        while self.left > 0 && self.skip == 0 {
            let Some(bytes) = self.held.get(at..).and_then(|rest| rest.get(..layout.record_size)) else {
                break;
            };
            each(record(bytes, layout.header.version));
            at += layout.record_size;
            self.left -= 1;
        }
        self.held.drain(..at);
        Ok(())
    }
}
