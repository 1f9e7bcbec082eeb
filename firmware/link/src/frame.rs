//! What surrounds one message: `length u32 LE (of the payload) | type u8 | payload`.

use std::io::{self, Read};

use crate::LinkError;
use crate::limits::FRAME_MAX;

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
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.payload);
    }
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
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > FRAME_MAX {
        return Err(LinkError::FrameTooLarge { length: length as u64 });
    }
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
        }
    }

    #[test]
    fn an_overlong_frame_is_refused_before_it_is_read() {
        let mut bytes = (FRAME_MAX as u32 + 1).to_le_bytes().to_vec();
        bytes.push(1);
        assert!(
            matches!(read(&bytes), Err(LinkError::FrameTooLarge { length }) if length == FRAME_MAX as u64 + 1)
        );
    }
}
