//! The encoding of every message.
//!
//! | type | box to agent | form | | type | agent to box | form |
//! |---|---|---|---|---|---|---|
//! | 1 | Hello | CBOR | | 129 | Hello | CBOR |
//! | 2 | Configure | CBOR | | 130 | Configured | CBOR |
//! | 3 | BeginPass | CBOR | | 131 | PassBegun | CBOR |
//! | 4 | Want | CBOR | | 132 | Entries | binary |
//! | 5 | Need | CBOR | | 133 | Chunks | binary |
//! | 6 | Quiesce | CBOR | | 134 | Data | binary |
//! | 7 | Recheck | empty | | 135 | FileDone | binary |
//! | 8 | Resume | empty | | 136 | PassEnded | CBOR |
//! | 9 | Alive | empty | | 137 | Quiesced | CBOR |
//! | 10 | Goodbye | empty | | 138 | Rechecked | CBOR |
//! | 11 | Known | binary | | 139 | Resumed | CBOR |
//! | 12 | Squeeze | CBOR | | 140 | Problem | CBOR |
//! | 13 | Prepare | empty | | 141 | Failed | CBOR |
//! | 14 | Freeze | CBOR | | 142 | Alive | empty |
//! | 15 | Remember | empty | | 143 | Unchanged | binary |
//! | 16 | Unasked | empty | | 144 | Packed | many of the above, see [`crate::packed`] |
//! | | | | | 145 | Prepared | CBOR |
//! | | | | | 146 | Frozen | CBOR |
//! | | | | | 147 | Amended | binary |
//! | 32 | Trees | empty | | 160 | Trees | CBOR |
//! | 33 | Raise | CBOR | | 161 | Held | binary |
//! | 34 | Folder | binary | | 162 | Took | CBOR |
//! | 35 | Lay | binary | | 163 | Raised | CBOR |
//! | 36 | Fill | binary | | 164 | Swapped | CBOR |
//! | 37 | Settle | empty | | 165 | Done | CBOR |
//! | 38 | Seal | CBOR | | | | |
//! | 39 | Raised | empty | | | | |
//! | 40 | Swap | CBOR | | | | |
//! | 41 | Drop | empty | | | | |
//! | 42 | Promote | CBOR | | 166 | Listed | CBOR |
//! | 43 | List | binary | | 167 | Looked | CBOR |
//! | 44 | Look | CBOR | | | | |
//!
//! CBOR is the deterministic form of `mailkeep_format::cbor`. The binary forms, in the primitives of
//! `mailkeep_format::codec` (`file` is directory varint, index varint):
//! - Entries: directory varint | 0, or 1 and the parent's file | first varint | last byte 0/1 | count varint |
//!   count × (hint byte, node)
//! - Chunks: file | first varint | count varint | count × (hash 32 bytes, length varint)
//! - Data: file | chunk varint | the bytes up to the end of the payload
//! - Known: time | count varint | count × (path bytes | inode varint | mtime | ctime | count varint | count × (place
//!   varint, name bytes)); a time is seconds signed, nanoseconds varint
//! - Unchanged: directory varint | the parent's file | count varint | count × (hint byte, node)
//! - Amended: directory varint | the parent's file | count varint | count × name bytes | count varint | count × (hint byte,
//!   node)
//! - Folder: number varint | 0 and a tree's number, or 1 and a folder's | node
//! - Lay: folder varint | count varint | count × (node | count varint | count × length varint)
//! - Held: folder varint | count varint | count × (0 nothing; 1 all; 2 count varint, count × hash 32 bytes)
//! - Fill: index varint | offset varint | the bytes up to the end of the payload
//! - List: 1 if it is the last part, else 0 | the bytes up to the end of the payload
//! - FileDone: file | 0 vanished; 1 failed, text; 2 read but moved, node; 3 read and steady, node
//!
//! One message has one encoding; every decoder works under [`crate::limits`] and takes nothing else.

use mailkeep_format::cbor::{self, CborLimits};
use mailkeep_format::codec::{Reader, put_bytes, put_signed, put_varint};
use mailkeep_format::node::check_name;
use mailkeep_format::{ContentHash, FormatError, Node, Timestamp, limits as format_limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LinkError;
use crate::frame::{Frame, Outgoing};
use crate::limits;
use crate::message::{
    Amended, Chunks, Data, DirectoryId, Entries, FileDone, FileId, Hello, Hint, Known, KnownFolder, Need,
    ReadOutcome, ToAgent, ToBox, Unchanged, Want,
};
use crate::rebuild;
use crate::shared::SharedBytes;

/// A direction of the conversation.
pub trait Message: Clone + Send + 'static {
    /// The type byte of this direction's `Hello`.
    const HELLO: u8;

    /// The type byte of this direction's `Packed`, if it knows one.
    const PACKED: Option<u8>;

    /// Encodes, without copying the bytes of a chunk.
    ///
    /// # Errors
    /// [`LinkError::OwnTooLarge`], or what CBOR cannot express.
    fn outgoing(self) -> Result<Outgoing, LinkError>;

    /// Decodes what the peer sent, without copying the bytes of a chunk.
    ///
    /// # Errors
    /// [`LinkError::UnknownType`], [`LinkError::Garbled`], [`LinkError::Rule`].
    fn incoming(kind: u8, payload: &SharedBytes) -> Result<Self, LinkError>;

    /// As [`Message::outgoing`], in one piece.
    ///
    /// # Errors
    /// As [`Message::outgoing`].
    fn encode(&self) -> Result<Frame, LinkError> {
        self.clone().outgoing().map(Frame::from)
    }

    /// As [`Message::incoming`], from one piece.
    ///
    /// # Errors
    /// As [`Message::incoming`].
    fn decode(frame: &Frame) -> Result<Self, LinkError> {
        Self::incoming(frame.kind, &frame.payload.clone().into())
    }

    /// "Still here."
    fn alive() -> Self;

    /// Whether it is [`Message::alive`].
    fn is_alive(&self) -> bool;

    /// The opening message.
    fn hello(hello: Hello) -> Self;

    /// The peer's offer, if this is its opening message.
    fn into_hello(self) -> Option<Hello>;
}

impl Message for ToAgent {
    const HELLO: u8 = 1;
    const PACKED: Option<u8> = None;

    fn outgoing(self) -> Result<Outgoing, LinkError> {
        match self {
            ToAgent::Hello(body) => control(1, "Hello", &body),
            ToAgent::Configure(body) => control(2, "Configure", &body),
            ToAgent::BeginPass(body) => control(3, "BeginPass", &body),
            ToAgent::Want(body) => control(4, "Want", &body).map(streamed),
            ToAgent::Need(body) => control(5, "Need", &body).map(streamed),
            ToAgent::Quiesce(body) => control(6, "Quiesce", &body),
            ToAgent::Recheck => Ok(empty(7)),
            ToAgent::Resume => Ok(empty(8)),
            ToAgent::Alive => Ok(empty(9)),
            ToAgent::Goodbye => Ok(empty(10)),
            ToAgent::Known(body) => bounded(11, "Known", put_known(&body)).map(streamed),
            ToAgent::Squeeze(body) => control(12, "Squeeze", &body),
            ToAgent::Prepare => Ok(empty(13)),
            ToAgent::Freeze(body) => control(14, "Freeze", &body),
            ToAgent::Remember => Ok(empty(15)),
            ToAgent::Unasked => Ok(empty(16)),
            ToAgent::Trees => Ok(empty(32)),
            ToAgent::Raise(body) => control(33, "Raise", &body),
            ToAgent::Folder(body) => bounded(34, "Folder", rebuild::put_folder(&body)).map(streamed),
            ToAgent::Lay(body) => bounded(35, "Lay", rebuild::put_lay(&body)).map(streamed),
            ToAgent::Fill(body) => fill(36, body).map(streamed),
            ToAgent::Settle => Ok(streamed(empty(37))),
            ToAgent::Seal(body) => control(38, "Seal", &body).map(streamed),
            ToAgent::Raised => Ok(empty(39)),
            ToAgent::Swap(body) => control(40, "Swap", &body),
            ToAgent::Drop => Ok(empty(41)),
            ToAgent::Promote(body) => control(42, "Promote", &body),
            ToAgent::List(body) => list(43, body).map(streamed),
            ToAgent::Look(body) => control(44, "Look", &body),
        }
    }

    fn incoming(kind: u8, payload: &SharedBytes) -> Result<Self, LinkError> {
        Ok(match kind {
            1 => ToAgent::Hello(take_control("Hello", payload)?),
            2 => ToAgent::Configure(take_control("Configure", payload)?),
            3 => ToAgent::BeginPass(take_control("BeginPass", payload)?),
            4 => ToAgent::Want(check_want(take_control("Want", payload)?)?),
            5 => ToAgent::Need(check_need(take_control("Need", payload)?)?),
            6 => ToAgent::Quiesce(take_control("Quiesce", payload)?),
            7 => take_empty("Recheck", payload, ToAgent::Recheck)?,
            8 => take_empty("Resume", payload, ToAgent::Resume)?,
            9 => take_empty("Alive", payload, ToAgent::Alive)?,
            10 => take_empty("Goodbye", payload, ToAgent::Goodbye)?,
            11 => ToAgent::Known(whole("Known", payload, take_known)?),
            12 => ToAgent::Squeeze(take_control("Squeeze", payload)?),
            13 => take_empty("Prepare", payload, ToAgent::Prepare)?,
            14 => ToAgent::Freeze(take_control("Freeze", payload)?),
            15 => take_empty("Remember", payload, ToAgent::Remember)?,
            16 => take_empty("Unasked", payload, ToAgent::Unasked)?,
            32 => take_empty("Trees", payload, ToAgent::Trees)?,
            33 => ToAgent::Raise(take_control("Raise", payload)?),
            34 => ToAgent::Folder(whole("Folder", payload, rebuild::take_folder)?),
            35 => ToAgent::Lay(whole("Lay", payload, rebuild::take_lay)?),
            36 => {
                ToAgent::Fill(rebuild::take_fill(payload).map_err(|error| LinkError::garbled("Fill", error))?)
            }
            37 => take_empty("Settle", payload, ToAgent::Settle)?,
            38 => ToAgent::Seal(take_control("Seal", payload)?),
            39 => take_empty("Raised", payload, ToAgent::Raised)?,
            40 => ToAgent::Swap(take_control("Swap", payload)?),
            41 => take_empty("Drop", payload, ToAgent::Drop)?,
            42 => ToAgent::Promote(take_control("Promote", payload)?),
            43 => {
                ToAgent::List(rebuild::take_list(payload).map_err(|error| LinkError::garbled("List", error))?)
            }
            44 => ToAgent::Look(take_control("Look", payload)?),
            kind => return Err(LinkError::UnknownType { kind }),
        })
    }

    fn alive() -> Self {
        ToAgent::Alive
    }

    fn is_alive(&self) -> bool {
        matches!(self, ToAgent::Alive)
    }

    fn hello(hello: Hello) -> Self {
        ToAgent::Hello(hello)
    }

    fn into_hello(self) -> Option<Hello> {
        match self {
            ToAgent::Hello(hello) => Some(hello),
            _ => None,
        }
    }
}

impl Message for ToBox {
    const HELLO: u8 = 129;
    const PACKED: Option<u8> = Some(144);

    fn outgoing(self) -> Result<Outgoing, LinkError> {
        match self {
            ToBox::Hello(body) => control(129, "Hello", &body),
            ToBox::Configured(body) => control(130, "Configured", &body),
            ToBox::PassBegun(body) => control(131, "PassBegun", &body),
            ToBox::Entries(body) => bounded(132, "Entries", put_entries(&body)).map(streamed),
            ToBox::Chunks(body) => bounded(133, "Chunks", put_chunks(&body)).map(streamed),
            ToBox::Data(body) => data(134, body).map(streamed),
            ToBox::FileDone(body) => bounded(135, "FileDone", put_file_done(&body)).map(streamed),
            ToBox::PassEnded(body) => control(136, "PassEnded", &body),
            ToBox::Quiesced(body) => control(137, "Quiesced", &body),
            ToBox::Rechecked(body) => control(138, "Rechecked", &body),
            ToBox::Resumed(body) => control(139, "Resumed", &body),
            ToBox::Problem(body) => control(140, "Problem", &body),
            ToBox::Failed(body) => control(141, "Failed", &body),
            ToBox::Alive => Ok(empty(142)),
            ToBox::Unchanged(body) => bounded(143, "Unchanged", put_unchanged(&body)).map(streamed),
            ToBox::Prepared(body) => control(145, "Prepared", &body),
            ToBox::Frozen(body) => control(146, "Frozen", &body),
            ToBox::Amended(body) => bounded(147, "Amended", put_amended(&body)).map(streamed),
            ToBox::Trees(body) => control(160, "Trees", &body),
            ToBox::Held(body) => bounded(161, "Held", rebuild::put_held(&body)),
            ToBox::Took(body) => control(162, "Took", &body),
            ToBox::Raised(body) => control(163, "Raised", &body),
            ToBox::Swapped(body) => control(164, "Swapped", &body),
            ToBox::Done(body) => control(165, "Done", &body),
            ToBox::Listed(body) => control(166, "Listed", &body),
            ToBox::Looked(body) => control(167, "Looked", &body),
        }
    }

    fn incoming(kind: u8, payload: &SharedBytes) -> Result<Self, LinkError> {
        Ok(match kind {
            129 => ToBox::Hello(take_control("Hello", payload)?),
            130 => ToBox::Configured(take_control("Configured", payload)?),
            131 => ToBox::PassBegun(take_control("PassBegun", payload)?),
            132 => ToBox::Entries(whole("Entries", payload, take_entries)?),
            133 => ToBox::Chunks(whole("Chunks", payload, take_chunks)?),
            134 => ToBox::Data(take_data(payload)?),
            135 => ToBox::FileDone(whole("FileDone", payload, take_file_done)?),
            136 => ToBox::PassEnded(take_control("PassEnded", payload)?),
            137 => ToBox::Quiesced(take_control("Quiesced", payload)?),
            138 => ToBox::Rechecked(take_control("Rechecked", payload)?),
            139 => ToBox::Resumed(take_control("Resumed", payload)?),
            140 => ToBox::Problem(take_control("Problem", payload)?),
            141 => ToBox::Failed(take_control("Failed", payload)?),
            142 => take_empty("Alive", payload, ToBox::Alive)?,
            143 => ToBox::Unchanged(whole("Unchanged", payload, take_unchanged)?),
            145 => ToBox::Prepared(take_control("Prepared", payload)?),
            146 => ToBox::Frozen(take_control("Frozen", payload)?),
            147 => ToBox::Amended(whole("Amended", payload, take_amended)?),
            160 => ToBox::Trees(take_control("Trees", payload)?),
            161 => ToBox::Held(whole("Held", payload, rebuild::take_held)?),
            162 => ToBox::Took(take_control("Took", payload)?),
            163 => ToBox::Raised(take_control("Raised", payload)?),
            164 => ToBox::Swapped(take_control("Swapped", payload)?),
            165 => ToBox::Done(take_control("Done", payload)?),
            166 => ToBox::Listed(take_control("Listed", payload)?),
            167 => ToBox::Looked(take_control("Looked", payload)?),
            kind => return Err(LinkError::UnknownType { kind }),
        })
    }

    fn alive() -> Self {
        ToBox::Alive
    }

    fn is_alive(&self) -> bool {
        matches!(self, ToBox::Alive)
    }

    fn hello(hello: Hello) -> Self {
        ToBox::Hello(hello)
    }

    fn into_hello(self) -> Option<Hello> {
        match self {
            ToBox::Hello(hello) => Some(hello),
            _ => None,
        }
    }
}

fn control<T: Serialize>(kind: u8, message: &'static str, body: &T) -> Result<Outgoing, LinkError> {
    bounded(kind, message, cbor::to_vec(body).map_err(|error| LinkError::garbled(message, error))?)
}

fn bounded(kind: u8, message: &'static str, head: Vec<u8>) -> Result<Outgoing, LinkError> {
    if head.len() > limits::FRAME_MAX {
        return Err(LinkError::OwnTooLarge { message, length: head.len() });
    }
    Ok(Outgoing { head, ..empty(kind) })
}

fn data(kind: u8, data: Data) -> Result<Outgoing, LinkError> {
    let mut head = Vec::with_capacity(16);
    put_file(&mut head, data.file);
    put_varint(&mut head, u64::from(data.chunk));
    let length = head.len() + data.bytes.len();
    if length > limits::FRAME_MAX {
        return Err(LinkError::OwnTooLarge { message: "Data", length });
    }
    Ok(Outgoing { head, body: data.bytes, ..empty(kind) })
}

fn fill(kind: u8, fill: rebuild::Fill) -> Result<Outgoing, LinkError> {
    let head = rebuild::put_fill_head(&fill);
    let length = head.len() + fill.bytes.len();
    if length > limits::FRAME_MAX {
        return Err(LinkError::OwnTooLarge { message: "Fill", length });
    }
    Ok(Outgoing { head, body: fill.bytes, ..empty(kind) })
}

fn list(kind: u8, list: rebuild::List) -> Result<Outgoing, LinkError> {
    let length = 1 + list.bytes.len();
    if length > limits::FRAME_MAX {
        return Err(LinkError::OwnTooLarge { message: "List", length });
    }
    Ok(Outgoing { head: vec![u8::from(list.is_last)], body: list.bytes, ..empty(kind) })
}

fn empty(kind: u8) -> Outgoing {
    Outgoing { kind, head: Vec::new(), body: SharedBytes::default(), can_wait: false }
}

/// One of many of its kind.
fn streamed(outgoing: Outgoing) -> Outgoing {
    Outgoing { can_wait: true, ..outgoing }
}

fn take_empty<T>(message: &'static str, payload: &[u8], value: T) -> Result<T, LinkError> {
    if payload.is_empty() { Ok(value) } else { Err(LinkError::Rule { message, rule: "it has no body" }) }
}

fn take_control<T: DeserializeOwned + Serialize>(
    message: &'static str,
    payload: &[u8],
) -> Result<T, LinkError> {
    let limits = CborLimits {
        max_len: limits::FRAME_MAX,
        max_depth: limits::CONTROL_DEPTH,
        max_items: limits::CONTROL_ITEMS,
    };
    cbor::from_slice(payload, &limits).map_err(|error| LinkError::garbled(message, error))
}

/// Runs a binary decoder over the whole payload.
fn whole<T>(
    message: &'static str,
    payload: &[u8],
    take: impl FnOnce(&mut Reader<'_>) -> Result<T, FormatError>,
) -> Result<T, LinkError> {
    let mut reader = Reader::new(payload);
    let value = take(&mut reader).map_err(|error| LinkError::garbled(message, error))?;
    if reader.remaining() > 0 {
        return Err(LinkError::Rule { message, rule: "bytes follow its end" });
    }
    Ok(value)
}

fn ascending(list: &[u32]) -> bool {
    list.windows(2).all(|pair| pair[0] < pair[1])
}

fn check_want(want: Want) -> Result<Want, LinkError> {
    let broken = |rule| Err(LinkError::Rule { message: "Want", rule });
    if want.files.len() > limits::ENTRIES_NODES {
        return broken("it names more files than a piece holds");
    }
    if !ascending(&want.files) || want.files.first().is_some_and(|index| *index < want.first) {
        return broken("its files are not of the piece, in ascending order");
    }
    Ok(want)
}

fn check_need(need: Need) -> Result<Need, LinkError> {
    let broken = |rule| Err(LinkError::Rule { message: "Need", rule });
    if need.chunks.len() > limits::CHUNKS_PIECE {
        return broken("it names more chunks than a piece holds");
    }
    if !ascending(&need.chunks) || need.chunks.first().is_some_and(|chunk| *chunk < need.first) {
        return broken("its chunks are not of the piece, in ascending order");
    }
    Ok(need)
}

fn refuse(what: &'static str, why: &str) -> FormatError {
    FormatError::Malformed { what, why: why.to_owned() }
}

fn put_file(out: &mut Vec<u8>, file: FileId) {
    put_varint(out, u64::from(file.directory.0));
    put_varint(out, u64::from(file.index));
}

fn take_file(reader: &mut Reader<'_>) -> Result<FileId, FormatError> {
    Ok(FileId {
        directory: DirectoryId(reader.varint32("directory id")?),
        index: reader.varint32("file index")?,
    })
}

fn take_count(
    reader: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    first: u32,
) -> Result<usize, FormatError> {
    let count = reader.varint32(what)?;
    if count as usize > limit {
        return Err(FormatError::TooLarge { what, declared: u64::from(count), limit: limit as u64 });
    }
    if first.checked_add(count).is_none() {
        return Err(refuse(what, "its numbers go above 32 bits"));
    }
    Ok(count as usize)
}

fn put_entries(entries: &Entries) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + entries.nodes.len() * 96);
    put_varint(&mut out, u64::from(entries.directory.0));
    match entries.parent {
        None => out.push(0),
        Some(parent) => {
            out.push(1);
            put_file(&mut out, parent);
        }
    }
    put_varint(&mut out, u64::from(entries.first));
    out.push(u8::from(entries.last));
    put_nodes(&mut out, &entries.nodes, &entries.hints);
    out
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[Node], hints: &[Hint]) {
    put_varint(out, nodes.len() as u64);
    for (node, hint) in nodes.iter().zip(hints) {
        out.push(*hint as u8);
        node.encode(out);
    }
}

fn take_entries(reader: &mut Reader<'_>) -> Result<Entries, FormatError> {
    let directory = DirectoryId(reader.varint32("directory id")?);
    let parent = match reader.byte("parent")? {
        0 => None,
        1 => Some(take_file(reader)?),
        _ => return Err(refuse("parent", "neither 0 nor 1")),
    };
    if parent.is_none() != (directory.0 == 0) {
        return Err(refuse("parent", "directory 0 and no other is the root"));
    }
    let first = reader.varint32("first index")?;
    let last = match reader.byte("last piece")? {
        0 => false,
        1 => true,
        _ => return Err(refuse("last piece", "neither 0 nor 1")),
    };
    let (nodes, hints) = take_nodes(reader, limits::ENTRIES_NODES, first)?;
    Ok(Entries { directory, parent, first, last, nodes, hints })
}

fn take_nodes(
    reader: &mut Reader<'_>,
    limit: usize,
    first: u32,
) -> Result<(Vec<Node>, Vec<Hint>), FormatError> {
    const WHAT: &str = "listing";
    let count = take_count(reader, WHAT, limit, first)?;
    let mut nodes: Vec<Node> = Vec::new();
    let mut hints = Vec::new();
    for _ in 0..count {
        let hint = hint_of(reader.byte("hint")?)?;
        let node = take_bare_node(reader)?;
        if nodes.last().is_some_and(|previous| previous.name >= node.name) {
            return Err(refuse(WHAT, "names are not in strictly ascending order"));
        }
        let fits = match hint {
            Hint::Plain => !node.is_directory(),
            Hint::Message => node.is_file(),
            Hint::Emptied | Hint::Descend => node.is_directory(),
        };
        if !fits {
            return Err(refuse("hint", "it does not fit the kind of its node"));
        }
        nodes.push(node);
        hints.push(hint);
    }
    Ok((nodes, hints))
}

fn put_unchanged(unchanged: &Unchanged) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + unchanged.nodes.len() * 96);
    put_varint(&mut out, u64::from(unchanged.directory.0));
    put_file(&mut out, unchanged.parent);
    put_nodes(&mut out, &unchanged.nodes, &unchanged.hints);
    out
}

fn take_unchanged(reader: &mut Reader<'_>) -> Result<Unchanged, FormatError> {
    let directory = DirectoryId(reader.varint32("directory id")?);
    let parent = take_file(reader)?;
    if directory.0 == 0 {
        return Err(refuse("directory id", "the root is always listed"));
    }
    let (nodes, hints) = take_nodes(reader, limits::KNOWN_ENTRIES, 0)?;
    Ok(Unchanged { directory, parent, nodes, hints })
}

fn put_amended(amended: &Amended) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + amended.gone.len() * 12 + amended.nodes.len() * 96);
    put_varint(&mut out, u64::from(amended.directory.0));
    put_file(&mut out, amended.parent);
    put_varint(&mut out, amended.gone.len() as u64);
    for name in &amended.gone {
        put_bytes(&mut out, name);
    }
    put_nodes(&mut out, &amended.nodes, &amended.hints);
    out
}

fn take_amended(reader: &mut Reader<'_>) -> Result<Amended, FormatError> {
    const WHAT: &str = "names that are gone";
    let directory = DirectoryId(reader.varint32("directory id")?);
    let parent = take_file(reader)?;
    if directory.0 == 0 {
        return Err(refuse("directory id", "the root is always listed"));
    }
    let count = take_count(reader, WHAT, limits::ENTRIES_NODES, 0)?;
    let mut gone: Vec<Vec<u8>> = Vec::new();
    for _ in 0..count {
        let name = take_name(reader)?;
        if gone.last().is_some_and(|before| *before >= name) {
            return Err(refuse(WHAT, "they are not in strictly ascending order"));
        }
        gone.push(name);
    }
    let (nodes, hints) = take_nodes(reader, limits::ENTRIES_NODES, 0)?;
    Ok(Amended { directory, parent, gone, nodes, hints })
}

/// A name in a folder. One that leads elsewhere would be looked at, and read, by whoever believed it.
fn take_name(reader: &mut Reader<'_>) -> Result<Vec<u8>, FormatError> {
    let name = reader.bytes(format_limits::NAME_MAX, "name")?;
    check_name(name)?;
    Ok(name.to_vec())
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_signed(out, time.seconds);
    put_varint(out, u64::from(time.nanos));
}

fn take_time(reader: &mut Reader<'_>) -> Result<Timestamp, FormatError> {
    let (seconds, nanos) = (reader.signed("time")?, reader.varint32("time")?);
    if nanos > 999_999_999 {
        return Err(refuse("time", "more than a second of nanoseconds"));
    }
    Ok(Timestamp { seconds, nanos })
}

fn put_known(known: &Known) -> Vec<u8> {
    let mut out = Vec::with_capacity(limits::KNOWN_PIECE);
    put_time(&mut out, known.clock);
    put_varint(&mut out, known.folders.len() as u64);
    for folder in &known.folders {
        put_bytes(&mut out, &folder.path);
        put_varint(&mut out, folder.inode);
        put_time(&mut out, folder.mtime);
        put_time(&mut out, folder.ctime);
        put_varint(&mut out, folder.entries.len() as u64);
        for (place, name) in &folder.entries {
            put_varint(&mut out, u64::from(*place));
            put_bytes(&mut out, name);
        }
    }
    out
}

fn take_known(reader: &mut Reader<'_>) -> Result<Known, FormatError> {
    const WHAT: &str = "known folders";
    let clock = take_time(reader)?;
    let count = take_count(reader, WHAT, limits::KNOWN_PIECE, 0)?;
    let mut folders = Vec::new();
    for _ in 0..count {
        let path = reader.bytes(limits::KNOWN_PATH, "path")?.to_vec();
        let inode = reader.varint("inode")?;
        let (mtime, ctime) = (take_time(reader)?, take_time(reader)?);
        let count = take_count(reader, WHAT, limits::KNOWN_ENTRIES, 0)?;
        let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
        for _ in 0..count {
            let place = reader.varint32("place")?;
            let name = take_name(reader)?;
            if entries.last().is_some_and(|(before, earlier)| *before >= place || *earlier >= name) {
                return Err(refuse(WHAT, "entries are not in ascending order"));
            }
            entries.push((place, name));
        }
        folders.push(KnownFolder { path, inode, mtime, ctime, entries });
    }
    Ok(Known { clock, folders })
}

fn hint_of(byte: u8) -> Result<Hint, FormatError> {
    Ok(match byte {
        0 => Hint::Plain,
        1 => Hint::Message,
        2 => Hint::Emptied,
        3 => Hint::Descend,
        _ => return Err(refuse("hint", "unknown")),
    })
}

/// A node as the agent may send it: it never names stored chunks.
fn take_bare_node(reader: &mut Reader<'_>) -> Result<Node, FormatError> {
    let node = Node::decode(reader)?;
    if !node.content().is_empty() {
        return Err(refuse("node", "an agent cannot name stored chunks"));
    }
    Ok(node)
}

fn put_chunks(chunks: &Chunks) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + chunks.chunks.len() * 36);
    put_file(&mut out, chunks.file);
    put_varint(&mut out, u64::from(chunks.first));
    put_varint(&mut out, chunks.chunks.len() as u64);
    for (hash, length) in &chunks.chunks {
        out.extend_from_slice(hash.as_bytes());
        put_varint(&mut out, u64::from(*length));
    }
    out
}

fn take_chunks(reader: &mut Reader<'_>) -> Result<Chunks, FormatError> {
    const WHAT: &str = "chunk list";
    let file = take_file(reader)?;
    let first = reader.varint32("first chunk")?;
    let count = take_count(reader, WHAT, limits::CHUNKS_PIECE, first)?;
    if count == 0 {
        return Err(refuse(WHAT, "empty"));
    }
    let mut chunks = Vec::new();
    for _ in 0..count {
        let hash = ContentHash(reader.array(WHAT)?);
        let length = reader.varint32("chunk length")?;
        if length == 0 || length as usize > format_limits::CHUNK_MAX {
            return Err(FormatError::TooLarge {
                what: "chunk length",
                declared: u64::from(length),
                limit: format_limits::CHUNK_MAX as u64,
            });
        }
        chunks.push((hash, length));
    }
    Ok(Chunks { file, first, chunks })
}

fn take_data(payload: &SharedBytes) -> Result<Data, LinkError> {
    let garbled = |error| LinkError::garbled("Data", error);
    let mut reader = Reader::new(payload);
    let file = take_file(&mut reader).map_err(garbled)?;
    let chunk = reader.varint32("chunk number").map_err(garbled)?;
    let length = reader.remaining();
    if length == 0 || length > format_limits::CHUNK_MAX {
        let (declared, limit) = (length as u64, format_limits::CHUNK_MAX as u64);
        return Err(garbled(FormatError::TooLarge { what: "chunk", declared, limit }));
    }
    Ok(Data { file, chunk, bytes: payload.from_offset(payload.len() - length) })
}

fn put_file_done(done: &FileDone) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    put_file(&mut out, done.file);
    match &done.outcome {
        ReadOutcome::Vanished => out.push(0),
        ReadOutcome::Failed { why } => {
            out.push(1);
            put_bytes(&mut out, why.as_bytes());
        }
        ReadOutcome::Read { node, steady } => {
            out.push(2 + u8::from(*steady));
            node.encode(&mut out);
        }
    }
    out
}

fn take_file_done(reader: &mut Reader<'_>) -> Result<FileDone, FormatError> {
    let file = take_file(reader)?;
    let outcome = match reader.byte("outcome")? {
        0 => ReadOutcome::Vanished,
        1 => {
            let why = reader.bytes(limits::TEXT_MAX, "reason")?.to_vec();
            let why = String::from_utf8(why).map_err(|_| refuse("reason", "not UTF-8"))?;
            ReadOutcome::Failed { why }
        }
        byte @ (2 | 3) => {
            let node = take_bare_node(reader)?;
            if !node.is_file() {
                return Err(refuse("outcome", "what was read is not a regular file"));
            }
            ReadOutcome::Read { node, steady: byte == 3 }
        }
        _ => return Err(refuse("outcome", "unknown")),
    };
    Ok(FileDone { file, outcome })
}
