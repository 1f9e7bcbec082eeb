//! Numbers a person may want to change, with unit and reason.

use std::time::Duration;

/// Bytes that may be on their way and not written: what a line with an answer after 50 ms takes at 1 Gbit/s.
pub const AHEAD: u64 = 8 << 20;
/// Pieces of folders that may wait for an answer.
pub const LAYS_AHEAD: usize = 4;
/// Pieces of files that are named in one message.
pub const PIECES: usize = 4096;
/// Bytes of files in one message: the agent reads them before it answers.
pub const LAY_BYTES: u64 = 32 << 20;
/// Bytes of an imapd.conf, or of an exported list of mailboxes, that are read.
pub const CONFIG_BYTES: u64 = 64 << 20;
/// Folders that are looked into for an imapd.conf, the nearest to the top first.
pub const FOLDERS_SEARCHED: usize = 4096;
/// Links followed on the way to one path before it counts as a loop (Linux: 40).
pub const LINK_HOPS: usize = 40;
/// Bytes that a file system must have free beyond what is reckoned.
pub const SPACE_MARGIN: u64 = 64 << 20;
/// Bytes that a file takes beside its contents: its inode and its part of a folder.
pub const FILE_COST: u64 = 4096;
/// Bytes of a list of mailboxes in one message.
pub const LIST_PART: usize = 256 << 10;
/// How often a wait looks whether it was called off.
pub const POLL: Duration = Duration::from_millis(100);
/// How long the agent may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How long the agent may take to end, mail started, when it is left while trees are exchanged.
pub const REAP_WAIT: Duration = Duration::from_secs(180);
/// Depth of folders.
pub const DEPTH: usize = 256;
