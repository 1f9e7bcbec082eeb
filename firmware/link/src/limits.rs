//! Caps of the wire, and the times that belong to it.

use std::time::Duration;

/// Largest frame payload in bytes: one chunk at its largest (1 MiB), or a node with as many xattrs as fit beside it.
pub const FRAME_MAX: usize = 2 << 20;
/// Most bytes of messages in one `Packed` frame: what is gathered for one write, and one frame beyond.
pub const PACKED_RAW_MAX: usize = FRAME_MAX + WRITE_BUFFER + (4 << 10);
/// Bytes of messages from which compressing them together is tried.
pub const PACK_WORTH: usize = 1 << 10;
/// Messages that are taken out of one read, or one `Packed` frame, before they are handed on.
pub const DECODED_AHEAD: usize = 4096;
/// Most nodes of one `Entries` frame, and so most indices of one `Want`.
pub const ENTRIES_NODES: usize = 1024;
/// Bytes of encoded nodes at which a piece of a listing is closed.
pub const ENTRIES_BYTES: usize = 256 << 10;
/// Most chunks of one `Chunks` frame, and so most numbers of one `Need`.
pub const CHUNKS_PIECE: usize = 1024;
/// Most pieces of files that one `Lay` names, and so most hashes of one `Held`.
pub const LAY_PIECES: usize = 16 << 10;
/// Bytes at which a `Known` message is closed.
pub const KNOWN_PIECE: usize = 64 << 10;
/// Most entries of one known folder that are looked at; a folder with more of them is listed.
pub const KNOWN_ENTRIES: usize = 256;
/// Longest path of a known folder, bytes: a deeper one is listed.
pub const KNOWN_PATH: usize = 8 << 10;
/// Bytes of known folders that an agent keeps for one pass; the rest are listed. Some 100,000 folders of a mail server.
pub const KNOWN_BYTES: usize = 16 << 20;
/// Longest text within a message, bytes.
pub const TEXT_MAX: usize = 64 << 10;
/// Most CBOR items of a control message: a list of all owners of a large server fits.
pub const CONTROL_ITEMS: usize = 400_000;
/// Deepest CBOR nesting of a control message; the deepest real one has 3.
pub const CONTROL_DEPTH: usize = 6;

/// Messages that may wait in an inbox.
pub const INBOX_MESSAGES: usize = 4096;
/// Bytes (as framed) that may wait in the box's inbox; as much again is being taken out of it.
pub const INBOX_BYTES: usize = 1 << 20;
/// Messages that may wait in the agent's inbox. An agent has at most 16 Ki unanswered pieces outstanding, so a box
/// that behaves cannot fill it.
pub const AGENT_INBOX_MESSAGES: usize = 64 << 10;
/// Bytes (as framed) that may wait in the agent's inbox.
pub const AGENT_INBOX_BYTES: usize = 48 << 20;
/// Messages that may wait to be written.
pub const OUTBOX_MESSAGES: usize = 4096;
/// Bytes (as framed) that may wait to be written; as much again is being written.
pub const OUTBOX_BYTES: usize = 1 << 20;
/// Bytes that are worth a write to the pipe of their own; messages that can wait gather up to here.
pub const WRITE_WORTH: usize = 256 << 10;
/// For how long messages that can wait are gathered. Waking the writing thread and the peer for each of them costs more
/// than all else that is done with a small mail.
pub const GATHER: Duration = Duration::from_millis(1);
/// Bytes that are written to the pipe at a time.
pub const WRITE_BUFFER: usize = 256 << 10;
/// Bytes from which a chunk is written from where it lies instead of being gathered.
pub const WRITE_IN_PLACE: usize = 8 << 10;
/// Bytes that are read from the pipe at a time, at most.
pub const READ_BUFFER: usize = 256 << 10;
/// Bytes that may be kept only because a part of them is in use.
pub const SHARED_WASTE_MAX: usize = 256 << 10;

/// An end that has nothing to say for this long says `Alive`.
pub const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// A peer that says nothing for this long is silent, where nothing else is set.
pub const SILENCE: Duration = Duration::from_secs(60);
/// Whoever has not looked for this long, where waits are half a second at most, stood still: then what the peer said
/// meanwhile has not been read, and its silence counts from now.
pub const STOOD_STILL: Duration = Duration::from_secs(3);
