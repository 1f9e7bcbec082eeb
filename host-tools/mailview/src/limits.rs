//! Numbers that bound memory and work, with their units and reasons.

/// Nodes of folders that are kept, over all folders; message files are not kept. A node takes about 400 bytes: 6 MB.
pub const KEPT_NODES: usize = 16_384;
/// Symbolic links on the way to one file; the kernel follows 40.
pub const LINKS_FOLLOWED: usize = 40;
/// Mailboxes of one snapshot, about a KiB each.
pub const MAILBOXES: usize = 2_000_000;
/// Bytes of an imapd.conf or a cyrus.header that are read; `mailkeep-mail` refuses longer ones.
pub const SMALL_FILE: usize = 8 << 20;
/// Messages whose headers are read together; with their places about 200 bytes each. A block is opened once for each such
/// batch that wants something of it.
pub const BATCH: usize = 16_384;
/// Messages that are looked at between two words of how far a search is.
pub const MESSAGES_BETWEEN_WORDS: u64 = 4096;
/// Bytes of a message that are looked at for its text; what is longer is looked at so far.
pub const TEXT_BYTES: usize = 64 << 20;
/// Bytes of a header that are looked at.
pub const HEADER_BYTES: usize = 1 << 20;
/// Names that are offered for one that is not there.
pub const NEAREST: usize = 3;
/// Bytes of a message that goes into an mbox file, which is held in memory as a whole.
pub const EXPORTED_BYTES: u64 = 1 << 30;
/// Seconds that an IMAP server may take for one answer, or for taking what is sent. RFC 3501 lets it think for long.
pub const IMAP_WAIT_SECONDS: u64 = 120;
/// Bytes of one line of an IMAP server.
pub const IMAP_LINE: usize = 1 << 20;
/// Bytes of one answer of an IMAP server with its literals; only ids and names are ever asked for.
pub const IMAP_ANSWER: usize = 8 << 20;
/// Messages whose flags are set by one command; their numbers take some 10 bytes each, and a line of 64 KiB is too long for
/// some servers.
pub const FLAGS_AT_ONCE: usize = 500;
/// Messages that fit a search over several disks, which are held until all disks were looked into; about a KiB each.
pub const HITS_HELD: usize = 50_000;
