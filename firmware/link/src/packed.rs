//! Many messages in one compressed frame: `raw length u32 LE | zstd frame`, and in it whole frames, one after the other.
//!
//! What is sent is compressed in the pieces in which it would be written anyway: on a slow link the outbox is full, so that
//! small mails are compressed together. What comes is hostile: the declared length is capped before anything is
//! allocated, a frame in it that is cut off or is `Packed` itself ends the connection, and no more messages are decoded
//! ahead than a plain read would bring.

use std::io::Read;

use mailkeep_format::{FormatError, Transit, TransitDecoder};

use crate::LinkError;
use crate::frame::{FrameReader, HEAD_LEN, checked_length, put_head};
use crate::limits;
use crate::shared::SharedBytes;
use crate::wire::Message;

const NAME: &str = "Packed";
/// Bytes of the declared length.
const LENGTH_LEN: usize = 4;

/// Compresses on the way out.
#[derive(Debug)]
pub struct Packer {
    kind: u8,
    transit: Transit,
    frame: Vec<u8>,
}

impl Packer {
    /// Makes frames of this type.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(kind: u8) -> Result<Self, FormatError> {
        Ok(Packer { kind, transit: Transit::new()?, frame: Vec::new() })
    }

    /// One frame in place of these whole frames, or nothing if that would not be shorter.
    pub fn pack(&mut self, frames: &[u8]) -> Option<&[u8]> {
        if !(limits::PACK_WORTH..=limits::PACKED_RAW_MAX).contains(&frames.len()) {
            return None;
        }
        self.frame.clear();
        self.frame.resize(HEAD_LEN, 0);
        self.frame.extend_from_slice(&(frames.len() as u32).to_le_bytes());
        self.transit.compress(frames, &mut self.frame).ok()?;
        let payload = self.frame.len() - HEAD_LEN;
        if self.frame.len() >= frames.len() || payload > limits::FRAME_MAX {
            return None;
        }
        let mut head = Vec::with_capacity(HEAD_LEN);
        put_head(self.kind, payload, &mut head);
        self.frame[..HEAD_LEN].copy_from_slice(&head);
        Some(&self.frame)
    }
}

/// The messages of a stream, packed or not.
#[derive(Default)]
pub struct Unpacker {
    reader: FrameReader,
    decoder: Option<TransitDecoder>,
    /// What is left of the frame that was decoded last.
    unpacked: SharedBytes,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("reader", &self.reader).field("left", &self.unpacked.len()).finish()
    }
}

impl Unpacker {
    /// Decodes messages that have been read whole, with their sizes as framed; stops at a bound. `Alive` is left out. False
    /// if there may be more of them.
    ///
    /// # Errors
    /// What the peer has done wrong. What it said before is among the messages.
    pub fn decode<In: Message>(&mut self, messages: &mut Vec<(In, usize)>) -> Result<bool, LinkError> {
        for _ in 0..limits::DECODED_AHEAD {
            let (kind, payload) = match self.next_unpacked()? {
                Some((kind, _)) if Some(kind) == In::PACKED => {
                    return Err(LinkError::Rule { message: NAME, rule: "there is another one in it" });
                }
                Some(frame) => frame,
                None => match self.reader.next_read()? {
                    Some((kind, payload)) if Some(kind) == In::PACKED => {
                        self.unpacked = self.unpack(&payload)?;
                        // Not together with what came before: one such frame at a time is bound enough.
                        return Ok(false);
                    }
                    Some(frame) => frame,
                    None => return Ok(true),
                },
            };
            let message = In::incoming(kind, &payload)?;
            if !message.is_alive() {
                messages.push((message, HEAD_LEN + payload.len()));
            }
        }
        Ok(false)
    }

    /// Reads more, once.
    ///
    /// # Errors
    /// As [`FrameReader::read_more`].
    pub fn read_more(&mut self, input: &mut dyn Read, heard: &mut dyn FnMut()) -> Result<(), LinkError> {
        self.reader.read_more(input, heard)
    }

    /// Length of the buffer that the latest payloads are parts of.
    pub(crate) fn buffer_len(&self) -> usize {
        self.reader.buffer_len()
    }

    fn unpack(&mut self, payload: &[u8]) -> Result<SharedBytes, LinkError> {
        let (length, frame) = payload
            .split_first_chunk::<LENGTH_LEN>()
            .ok_or(LinkError::Rule { message: NAME, rule: "it has a length" })?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > limits::PACKED_RAW_MAX {
            return Err(LinkError::FrameTooLarge { length: length as u64 });
        }
        let garbled = |error| LinkError::garbled(NAME, error);
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(TransitDecoder::new().map_err(garbled)?),
        };
        Ok(decoder.decompress(frame, length).map_err(garbled)?.into())
    }

    /// The next frame of those that were packed together.
    fn next_unpacked(&mut self) -> Result<Option<(u8, SharedBytes)>, LinkError> {
        if self.unpacked.is_empty() {
            return Ok(None);
        }
        let cut = LinkError::Rule { message: NAME, rule: "a message in it is cut off" };
        let head = *self.unpacked.first_chunk::<HEAD_LEN>().ok_or(cut.clone())?;
        let end = HEAD_LEN + checked_length(&head)?;
        if self.unpacked.len() < end {
            return Err(cut);
        }
        let payload = self.unpacked.part(HEAD_LEN..end);
        self.unpacked = if self.unpacked.len() == end {
            // The buffer is not kept for nothing.
            SharedBytes::default()
        } else {
            self.unpacked.from_offset(end)
        };
        Ok(Some((head[4], payload)))
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::ContentHash;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Chunks, Data, DirectoryId, FileId, ToBox};

    const KIND: u8 = 144;

    fn some(number: u32) -> ToBox {
        let file = FileId { directory: DirectoryId(3), index: number };
        match number % 3 {
            0 => ToBox::Data(Data { file, chunk: number, bytes: vec![b'a'; number as usize + 1].into() }),
            1 => ToBox::Chunks(Chunks { file, first: 0, chunks: vec![(ContentHash::of(b"x"), number)] }),
            _ => ToBox::Alive,
        }
    }

    fn frames(messages: &[ToBox]) -> Vec<u8> {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode().unwrap().put(&mut out));
        out
    }

    /// What the box makes of a stream that comes `step` bytes at a time, and how it ends.
    fn heard(stream: &[u8], step: usize) -> (Vec<ToBox>, LinkError) {
        let (mut unpacker, mut all, mut rest) = (Unpacker::default(), Vec::new(), stream);
        loop {
            let mut messages: Vec<(ToBox, usize)> = Vec::new();
            let decoded = unpacker.decode(&mut messages);
            assert!(messages.len() <= limits::DECODED_AHEAD);
            all.extend(messages.into_iter().map(|(message, _)| message));
            match decoded {
                Ok(false) => {}
                Err(why) => return (all, why),
                Ok(true) => {
                    let (mut now, later) = rest.split_at(step.min(rest.len()));
                    if let Err(why) = unpacker.read_more(&mut now, &mut || {}) {
                        return (all, why);
                    }
                    rest = later;
                }
            }
        }
    }

    fn packed(raw_len: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(KIND, LENGTH_LEN + body.len(), &mut out);
        out.extend_from_slice(&raw_len.to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    fn squeezed(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Transit::new().unwrap().compress(raw, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn packed_or_not_the_same_is_heard(
            pieces in prop::collection::vec((prop::collection::vec(0u32..3000, 0..40), any::<bool>()), 0..8),
            step in 1usize..5000,
        ) {
            let mut packer = Packer::new(KIND).unwrap();
            let (mut stream, mut said) = (Vec::new(), Vec::new());
            for (numbers, pack) in pieces {
                let messages: Vec<ToBox> = numbers.into_iter().map(some).collect();
                let plain = frames(&messages);
                match packer.pack(&plain).filter(|_| pack) {
                    Some(frame) => {
                        prop_assert!(frame.len() < plain.len());
                        stream.extend_from_slice(frame);
                    }
                    None => stream.extend_from_slice(&plain),
                }
                said.extend(messages.into_iter().filter(|message| !matches!(message, ToBox::Alive)));
            }
            let (heard, end) = heard(&stream, step);
            prop_assert_eq!(heard, said);
            prop_assert!(matches!(end, LinkError::Closed), "{:?}", end);
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_much(
            at in 0usize..2000, bytes in prop::collection::vec(any::<u8>(), 0..30), raw_len in any::<u32>(),
        ) {
            let mut frame = Packer::new(KIND).unwrap().pack(&frames(&[some(3000), some(1)])).unwrap().to_vec();
            let at = at.min(frame.len());
            let end = (at + bytes.len()).min(frame.len());
            frame.splice(at..end, bytes.clone());
            let _ = heard(&frame, 999);
            let _ = heard(&packed(raw_len, &bytes), 999);
        }
    }

    #[test]
    fn a_declared_length_is_capped_before_it_is_believed() {
        let (_, why) = heard(&packed(u32::MAX, &squeezed(b"x")), 100);
        assert!(matches!(why, LinkError::FrameTooLarge { .. }), "{why}");
        let zeros = vec![0; limits::PACKED_RAW_MAX];
        for declared in [0, 1, zeros.len() as u32 - 1] {
            let (_, why) = heard(&packed(declared, &squeezed(&zeros)), 100);
            assert!(matches!(why, LinkError::Garbled { .. }), "{declared}: {why}");
        }
    }

    #[test]
    fn what_is_no_whole_message_ends_the_connection() {
        let whole = frames(&[some(3000), some(1)]);
        for length in [1, 4, 6, whole.len() - 1] {
            let (_, why) = heard(&packed(length as u32, &squeezed(&whole[..length])), 100);
            assert!(matches!(why, LinkError::Rule { .. }), "{length}: {why}");
        }
        let within = packed(whole.len() as u32, &squeezed(&whole));
        let (heard_before, why) = heard(&packed(within.len() as u32, &squeezed(&within)), 100);
        assert!(matches!(why, LinkError::Rule { .. }) && heard_before.is_empty(), "{why}");
    }

    #[test]
    fn of_a_flood_only_a_bounded_number_is_decoded_at_a_time() {
        let tiny = frames(&vec![some(0); 60_000]);
        let stream = packed(tiny.len() as u32, &squeezed(&tiny)).repeat(3);
        assert!(stream.len() < limits::READ_BUFFER);
        // `heard` asserts the bound.
        let (heard, why) = heard(&stream, stream.len());
        assert_eq!(heard.len(), 180_000);
        assert!(matches!(why, LinkError::Closed), "{why}");
    }

    #[test]
    fn the_agent_takes_no_packed_frames() {
        let mut unpacker = Unpacker::default();
        let stream = packed(5, &squeezed(&[0, 0, 0, 0, 9]));
        unpacker.read_more(&mut &stream[..], &mut || {}).unwrap();
        let mut messages: Vec<(crate::message::ToAgent, usize)> = Vec::new();
        assert!(matches!(unpacker.decode(&mut messages), Err(LinkError::UnknownType { kind: KIND })));
    }
}
