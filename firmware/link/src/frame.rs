//! What surrounds one message: `length u32 LE (of the payload) | type u8 | payload`.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use crate::LinkError;
use crate::limits::{FRAME_MAX, READ_BUFFER};
use crate::shared::SharedBytes;

/// Bytes before the payload.
pub const HEAD_LEN: usize = 5;

/// One message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which message; the table is in [`crate::wire`].
    pub kind: u8,
    /// Its encoding.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Length on the wire in bytes.
    pub fn wire_len(&self) -> usize {
        HEAD_LEN + self.payload.len()
    }

    /// Appends the frame as it travels.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_head(self.kind, self.payload.len(), out);
        out.extend_from_slice(&self.payload);
    }
}

/// A message on its way out: its payload is `head` and then `body`, which is shared with whoever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which message.
    pub kind: u8,
    /// The beginning of its payload.
    pub head: Vec<u8>,
    /// The rest of it.
    pub body: SharedBytes,
    /// A part of a stream of many; it does no harm to send it together with those that follow within a moment.
    pub can_wait: bool,
}

impl Outgoing {
    /// Length of the payload in bytes.
    pub fn payload_len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Length on the wire in bytes.
    pub fn wire_len(&self) -> usize {
        HEAD_LEN + self.payload_len()
    }

    /// Appends everything but the body.
    pub(crate) fn put_without_body(&self, out: &mut Vec<u8>) {
        put_head(self.kind, self.payload_len(), out);
        out.extend_from_slice(&self.head);
    }
}

impl From<Outgoing> for Frame {
    fn from(outgoing: Outgoing) -> Frame {
        let Outgoing { kind, head: mut payload, body, .. } = outgoing;
        payload.extend_from_slice(&body);
        Frame { kind, payload }
    }
}

pub(crate) fn put_head(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.push(kind);
}

/// Reads the next frame; `heard` is called whenever bytes came in.
///
/// A length above [`FRAME_MAX`] is refused before anything is allocated for it, and memory grows only with what
/// really arrives.
///
/// # Errors
/// [`LinkError::Closed`] at the end between two frames, [`LinkError::Cut`] within one, [`LinkError::FrameTooLarge`],
/// [`LinkError::Read`].
pub fn read_frame(input: &mut dyn Read, heard: &mut dyn FnMut()) -> Result<Frame, LinkError> {
    let mut head = [0u8; HEAD_LEN];
    let got = fill(input, &mut head, heard)?;
    if got == 0 {
        return Err(LinkError::Closed);
    }
    if got < HEAD_LEN {
        return Err(LinkError::Cut);
    }
    let length = checked_length(&head)?;
    let mut payload = Vec::new();
    // In steps, so that a peer that announces much and sends little costs little.
    while payload.len() < length {
        let start = payload.len();
        payload.resize(length.min(start + (128 << 10)), 0);
        if fill(input, &mut payload[start..], heard)? < payload.len() - start {
            return Err(LinkError::Cut);
        }
    }
    Ok(Frame { kind: head[4], payload })
}

pub(crate) fn checked_length(head: &[u8; HEAD_LEN]) -> Result<usize, LinkError> {
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > FRAME_MAX {
        return Err(LinkError::FrameTooLarge { length: length as u64 });
    }
    Ok(length)
}

/// Reads frames many at a time: one read of the stream takes all that is there, and payloads are parts of the buffer
/// that was read into.
pub struct FrameReader {
    buffer: Arc<Vec<u8>>,
    /// Where the next frame begins in it, and where what was read ends.
    start: usize,
    end: usize,
    /// Buffers that somebody still held parts of when they were full.
    used: VecDeque<Arc<Vec<u8>>>,
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").field("waiting", &(self.end - self.start)).finish_non_exhaustive()
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        FrameReader { buffer: Arc::new(vec![0; READ_BUFFER]), start: 0, end: 0, used: VecDeque::new() }
    }
}

impl FrameReader {
    /// The next frame that has been read whole: its type and its payload.
    ///
    /// # Errors
    /// [`LinkError::FrameTooLarge`].
    pub fn next_read(&mut self) -> Result<Option<(u8, SharedBytes)>, LinkError> {
        let there = &self.buffer[self.start..self.end];
        let Some((head, rest)) = there.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let length = checked_length(head)?;
        if rest.len() < length {
            return Ok(None);
        }
        let (kind, from) = (head[4], self.start + HEAD_LEN);
        self.start = from + length;
        Ok(Some((kind, SharedBytes::part_of(&self.buffer, from..from + length))))
    }

    /// Length of the buffer that the latest payloads are parts of.
    pub fn buffer_len(&self) -> usize {
        self.buffer.len()
    }

    /// Reads more, once; to be called when [`FrameReader::next_read`] has nothing more.
    ///
    /// # Errors
    /// As [`read_frame`].
    pub fn read_more(&mut self, input: &mut dyn Read, heard: &mut dyn FnMut()) -> Result<(), LinkError> {
        self.make_room();
        let Some(buffer) = Arc::get_mut(&mut self.buffer) else {
            return Err(LinkError::Read(io::Error::other("the buffer is in use").into()));
        };
        loop {
            match input.read(&mut buffer[self.end..]) {
                Ok(0) if self.start == self.end => return Err(LinkError::Closed),
                Ok(0) => return Err(LinkError::Cut),
                Ok(count) => {
                    self.end += count;
                    heard();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Read(error.into())),
            }
        }
    }

    /// A buffer of our own with free space behind what is there. It grows only with what has really arrived.
    fn make_room(&mut self) {
        let there = self.end - self.start;
        let ours = Arc::get_mut(&mut self.buffer).is_some();
        if ours && there == 0 {
            self.start = 0;
            self.end = 0;
        }
        let enough = self.buffer.len() - self.end >= READ_BUFFER / 4;
        if ours && enough && self.buffer.len() <= READ_BUFFER.max(4 * there) {
            return;
        }
        let wanted = READ_BUFFER.max(2 * there);
        let mut next = self.take_unused(wanted);
        if let Some(bytes) = Arc::get_mut(&mut next) {
            bytes[..there].copy_from_slice(&self.buffer[self.start..self.end]);
        }
        let full = std::mem::replace(&mut self.buffer, next);
        (self.start, self.end) = (0, there);
        // Larger ones were for one frame.
        if full.len() == READ_BUFFER {
            self.used.push_back(full);
            self.used.truncate(BUFFERS_KEPT);
        }
    }

    fn take_unused(&mut self, wanted: usize) -> Arc<Vec<u8>> {
        if wanted == READ_BUFFER {
            if let Some(place) = self.used.iter().position(|buffer| Arc::strong_count(buffer) == 1) {
                if let Some(mut free) = self.used.remove(place) {
                    if Arc::get_mut(&mut free).is_some() {
                        return free;
                    }
                }
            }
        }
        Arc::new(vec![0; wanted])
    }
}

/// Buffers that are kept to be used again.
const BUFFERS_KEPT: usize = 8;

/// Reads until `buffer` is full or the input ends; returns how much came.
pub(crate) fn fill(
    input: &mut dyn Read,
    buffer: &mut [u8],
    heard: &mut dyn FnMut(),
) -> Result<usize, LinkError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                heard();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LinkError::Read(error.into())),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Frame, LinkError> {
        read_frame(&mut &*bytes, &mut || {})
    }

    /// What a reader of many makes of these bytes, coming in `step` at a time.
    fn read_all(bytes: &[u8], step: usize, keep: bool) -> (Vec<Frame>, LinkError) {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.1.min(buffer.len()).min(self.0.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let (mut input, mut reader) = (Slow(bytes, step), FrameReader::default());
        let (mut frames, mut kept) = (Vec::new(), Vec::new());
        loop {
            match reader.next_read() {
                Ok(Some((kind, payload))) => {
                    frames.push(Frame { kind, payload: payload.to_vec() });
                    if keep {
                        kept.push(payload);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return (frames, error),
            }
            if let Err(error) = reader.read_more(&mut input, &mut || {}) {
                if keep {
                    let still: Vec<Vec<u8>> = kept.iter().map(|payload| payload.to_vec()).collect();
                    assert!(still.iter().eq(frames.iter().map(|frame| &frame.payload)));
                }
                return (frames, error);
            }
        }
    }

    #[test]
    fn frames_survive_and_every_cut_is_noticed() {
        let frame = Frame { kind: 7, payload: vec![1, 2, 3] };
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        assert_eq!(bytes.len(), frame.wire_len());
        assert_eq!(read(&bytes).unwrap(), frame);
        assert!(matches!(read(&[]), Err(LinkError::Closed)));
        for cut in 1..bytes.len() {
            assert!(matches!(read(&bytes[..cut]), Err(LinkError::Cut)), "{cut}");
            let (frames, error) = read_all(&bytes[..cut], 1, false);
            assert!(frames.is_empty() && matches!(error, LinkError::Cut), "{cut}");
        }
    }

    #[test]
    fn an_overlong_frame_is_refused_before_it_is_read() {
        let mut bytes = (FRAME_MAX as u32 + 1).to_le_bytes().to_vec();
        bytes.push(1);
        assert!(
            matches!(read(&bytes), Err(LinkError::FrameTooLarge { length }) if length == FRAME_MAX as u64 + 1)
        );
        assert!(matches!(read_all(&bytes, 9, false).1, LinkError::FrameTooLarge { .. }));
    }

    #[test]
    fn many_frames_are_the_same_however_they_come_and_whoever_keeps_them() {
        let mut bytes = Vec::new();
        let lengths = [0, 1, 100, READ_BUFFER - 5, READ_BUFFER, 3 * READ_BUFFER, 7, FRAME_MAX, 2, 90_000];
        let frames: Vec<Frame> = (0u8..)
            .zip(lengths.into_iter().chain((0..2000).map(|number| number % 500)))
            .take(250)
            .map(|(kind, length)| Frame { kind, payload: vec![kind ^ 0x5a; length] })
            .collect();
        frames.iter().for_each(|frame| frame.put(&mut bytes));
        for step in [11, 4096, 65_536, usize::MAX] {
            for keep in [false, true] {
                let (read, error) = read_all(&bytes, step, keep);
                assert!(read == frames && matches!(error, LinkError::Closed), "{step} {keep}");
            }
        }
    }
}
