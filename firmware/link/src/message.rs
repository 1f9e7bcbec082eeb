//! The vocabulary, and the order in which it is spoken.
//!
//! ```text
//! box                                   agent
//! Hello                          →
//!                                ←      Hello
//! Configure (the source file)    →
//!                                ←      Configured
//! BeginPass                      →                        one pass, live or final
//!                                ←      PassBegun
//!                                ←      Entries …         the walk runs ahead, bounded
//! Want (one per Entries)         →
//!                                ←      Chunks …          hashes of a wanted file
//! Need (one per Chunks)          →
//!                                ←      Data …            only what the repository lacks
//!                                ←      FileDone
//!                                ←      PassEnded         after the last FileDone
//! Quiesce                        →                        guard armed, mail stopped, list exported
//!                                ←      Quiesced
//!   (a final pass)
//! Recheck                        →                        did anything move under the copy?
//!                                ←      Rechecked
//! Resume                         →                        mail started, greeting seen, guard disarmed
//!                                ←      Resumed
//! Goodbye                        →
//! ```
//! Where the agent can keep what the final pass needs ([`Prepare`](ToAgent::Prepare)), the window has no round trip in it,
//! and the final pass crosses the link when mail runs again:
//! ```text
//! Prepare                        →                        after a live pass: is there room for it?
//!                                ←      Prepared
//! Freeze                         →                        guard armed, mail stopped, list exported
//!                                ←      Quiesced
//!                                ←      Frozen            walked, staged, looked at again, all on the server
//!                                ←      Resumed           if Frozen says `whole`; else the window is as after Quiesced
//!   (a final pass, of what was frozen)
//! ```
//! Where the box has nothing yet ([`Unasked`](ToAgent::Unasked)) `Data` comes without `Chunks` and `Need`, the chunks of a
//! file in their order.
//!
//! `Squeeze` may come from the box at any time after `Configured`; it is not answered, but from then on the agent may send
//! many messages in one compressed frame (`Packed`), which is none of the conversation.
//!
//! `Problem` may come from the agent at any time and is not fatal; `Failed` ends the run. While the agent works on
//! something long it sends `Alive` at least every 5 s; the box sends `Alive` too, so that a dead peer is noticed.
//!
//! A file is named by ([`DirectoryId`], index of its node among all nodes of that directory in this pass).

use mailkeep_format::{ContentHash, Node, Timestamp};
use serde::{Deserialize, Serialize};

use crate::rebuild;
use crate::shared::SharedBytes;

/// Number of a directory within one pass, in the order in which the agent first names them, from 0 (the root "/").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirectoryId(pub u32);

/// A file of the current pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Its directory.
    pub directory: DirectoryId,
    /// Index of its node in that directory, over all `Entries` frames of it.
    pub index: u32,
}

/// What the box says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    /// First frame of a connection.
    Hello(Hello),
    /// What to back up.
    Configure(Configure),
    /// Start a traversal.
    BeginPass(BeginPass),
    /// Which files of one `Entries` frame to read; sent for every such frame, also with an empty list.
    Want(Want),
    /// Which chunks of one `Chunks` frame to send; sent for every such frame.
    Need(Need),
    /// Arm the guard, stop mail, export the mailbox list.
    Quiesce(Quiesce),
    /// Compare what the final pass listed with what is there now (directories, and the service being down).
    Recheck,
    /// Start mail, wait for its greeting, disarm the guard.
    Resume,
    /// Still here.
    Alive,
    /// The run is over; the agent exits 0.
    Goodbye,
    /// Before `BeginPass`: folders as they stand in the tree that the pass is compared with. May come many times; all of
    /// it counts for the next pass only.
    Known(Known),
    /// At any time after `Configured`: whether what the agent says is to be compressed from now on.
    Squeeze(Squeeze),
    /// After a live pass: whether the final pass could be kept on the server until mail runs again.
    Prepare,
    /// In place of `Quiesce`, final pass, `Recheck` and `Resume`: all of it in one go, and the contents afterwards.
    Freeze(Quiesce),
    /// After a live pass: its tree lacks nothing and is what the next pass is compared with, so that of a folder only what
    /// may have changed since then need be said. Counts for the next pass only, and only if that is final.
    Remember,
    /// Before a live pass: the repository holds nothing, so that no question is worth its answer. The agent sends all chunks
    /// of a wanted file as `Data` with neither `Chunks` nor `Need`, and need not hash them: the box does. Counts for the
    /// next pass only.
    Unasked,
    /// What would be rebuilt? This and the rest are told in [`crate::rebuild`].
    Trees,
    /// Begin to build.
    Raise(rebuild::Raise),
    /// A folder.
    Folder(rebuild::Folder),
    /// What lies in a folder.
    Lay(rebuild::Lay),
    /// Bytes of a file.
    Fill(rebuild::Fill),
    /// The oldest `Lay` has all its bytes.
    Settle,
    /// A folder is complete.
    Seal(rebuild::Seal),
    /// Everything was said.
    Raised,
    /// Exchange the trees.
    Swap(rebuild::Swap),
    /// Remove what is kept beside.
    Drop,
    /// Start mail on a standby.
    Promote(rebuild::Promote),
    /// A part of the list of mailboxes, for a server of another Cyrus.
    List(rebuild::List),
    /// Look at the server as it runs now.
    Look(rebuild::Look),
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToBox {
    /// Answer to `Hello`.
    Hello(Hello),
    /// Answer to `Configure`.
    Configured(Configured),
    /// Answer to `BeginPass`.
    PassBegun(PassBegun),
    /// A piece of a directory's listing.
    Entries(Entries),
    /// Hashes of a wanted file's next chunks, in order.
    Chunks(Chunks),
    /// The bytes of one needed chunk.
    Data(Data),
    /// A wanted file has been read to its end, or could not be.
    FileDone(FileDone),
    /// The pass is over.
    PassEnded(PassEnded),
    /// Mail is stopped.
    Quiesced(Quiesced),
    /// Answer to `Recheck`.
    Rechecked(Rechecked),
    /// Mail answers again.
    Resumed(Resumed),
    /// Something could not be done; the run goes on.
    Problem(Problem),
    /// The run cannot go on. Mail has been started again if it was stopped.
    Failed(Failed),
    /// Still here.
    Alive,
    /// In place of a folder's listing: it is as the box said in `Known`. Answered by `Want`.
    Unchanged(Unchanged),
    /// In place of a known folder's listing in a final pass, or of any after `Remember`: what has changed in it. Answered by
    /// `Want`.
    Amended(Amended),
    /// Answer to `Prepare`.
    Prepared(Prepared),
    /// What the final pass will say is kept, or cannot be.
    Frozen(Frozen),
    /// Answer to `Trees`. This and the rest are told in [`crate::rebuild`].
    Trees(rebuild::Trees),
    /// Answer to `Lay`.
    Held(rebuild::Held),
    /// Bytes were written.
    Took(rebuild::Took),
    /// Answer to `Raised`.
    Raised(rebuild::Raised),
    /// Answer to `Swap`.
    Swapped(rebuild::Swapped),
    /// Answer to `Drop` and `Promote`.
    Done(rebuild::Done),
    /// Answer to the last `List`.
    Listed(rebuild::Listed),
    /// Answer to `Look`.
    Looked(rebuild::Looked),
}

/// Version offer. Both sides use the highest version in both ranges, or end with one clear line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Lowest protocol version spoken.
    pub lowest: u32,
    /// Highest protocol version spoken.
    pub highest: u32,
    /// Program and version, for people.
    pub program: String,
}

/// The source file, parsed again on the far side by the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Text of the source file (TOML).
    pub source: String,
}

/// What the agent found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configured {
    /// Name of the machine.
    pub host: String,
    /// Boot id of the machine, to notice a reboot.
    pub boot_id: String,
    /// Versions worth keeping in the manifest: ("cyrus", "3.6.1"), ("kernel", …).
    pub versions: Vec<(String, String)>,
    /// The rung of the quiesce ladder that would be used, in words; `None` where nothing is stopped (generic).
    pub quiesce: Option<String>,
    /// Absolute paths that are walked.
    pub roots: Vec<String>,
    /// An unfinished window of an earlier run was found and mail was started again.
    pub rescued: bool,
    /// Stands for what is walked and by which rules: what was listed under others is listed anew. `None` where the box is
    /// older than `Known`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// So long before the deadline the restart guard would begin to start mail, milliseconds. `None` where nothing is
    /// stopped, where the deadline is too short for this server, or where the box is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_millis: Option<u64>,
}

/// Whether messages are to be compressed on their way. Only the box can tell whether that pays: it sees whether it waits
/// for the link or the link for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squeeze {
    /// From now on.
    pub on: bool,
}

/// Starts a traversal; or, if it is final and follows a whole [`Frozen`], tells what was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginPass {
    /// From 1.
    pub number: u32,
    /// Mail is stopped: a vanished file is an error.
    pub is_final: bool,
}

/// The server's clock at the start of a pass, taken before anything is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassBegun {
    /// `CLOCK_REALTIME` of the server.
    pub clock: Timestamp,
}

/// A piece of a directory's listing, in ascending order of names. A directory's first piece comes after the piece of
/// its parent that names it, and before any other directory reuses the id.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries {
    /// The directory.
    pub directory: DirectoryId,
    /// Its parent and the index of its own node there; `None` for the root.
    pub parent: Option<FileId>,
    /// Index of the first node of this piece.
    pub first: u32,
    /// No more pieces of this directory follow.
    pub last: bool,
    /// The nodes: files without contents and without xattrs (they come with `FileDone` if the file is wanted),
    /// everything else complete.
    pub nodes: Vec<Node>,
    /// For each node: how a wanted file is to be treated. Same length as `nodes`.
    pub hints: Vec<Hint>,
}

/// What the profile says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hint {
    /// Nothing special.
    Plain = 0,
    /// A write-once message file.
    Message = 1,
    /// A directory whose contents are left out on purpose; no `Entries` follow for it.
    Emptied = 2,
    /// A directory whose entries follow under a [`DirectoryId`] of its own.
    Descend = 3,
}

/// Folders whose message files need no look if the folder itself has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The server's clock at the start of the pass that listed them.
    pub clock: Timestamp,
    /// The folders.
    pub folders: Vec<KnownFolder>,
}

/// One such folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFolder {
    /// Its absolute path.
    pub path: Vec<u8>,
    /// Its inode number.
    pub inode: u64,
    /// Its times before it was listed.
    pub mtime: Timestamp,
    /// See `mtime`.
    pub ctime: Timestamp,
    /// What in it is no write-once message file: its place among all entries, ascending, and its name, ascending.
    pub entries: Vec<(u32, Vec<u8>)>,
}

/// A folder that has the inode and the times that the box knows: all that is no write-once message file, as it is now.
/// Message files are as they were. The index of an entry in [`FileId`] and [`Want`] is its place in [`KnownFolder`].
#[derive(Clone, Debug, PartialEq)]
pub struct Unchanged {
    /// The directory.
    pub directory: DirectoryId,
    /// Its parent and the index of its own node there; never the root.
    pub parent: FileId,
    /// The nodes of exactly the entries that the box named, as in [`Entries`].
    pub nodes: Vec<Node>,
    /// For each node: how it is to be treated.
    pub hints: Vec<Hint>,
}

/// A known folder in which something happened since the box knew it, from an agent that was told of it by the kernel
/// all the while: every name that came, went or was written to since then, and all that is no write-once message file.
/// Message files that are not named are as they were. The index of an entry in [`FileId`] and [`Want`] is twice its place
/// in `nodes`, and one: the even ones stand for what lies between them.
///
/// After [`ToAgent::Remember`] it may be said of any directory that the last live pass has listed, and what is not named is
/// as that pass found it, whatever it is: of a directory, with all that is below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Amended {
    /// The directory.
    pub directory: DirectoryId,
    /// Its parent and the index of its own node there; never the root.
    pub parent: FileId,
    /// Names that are not there or no part of the copy, ascending. The box need not know all of them.
    pub gone: Vec<Vec<u8>>,
    /// The nodes, as in [`Entries`].
    pub nodes: Vec<Node>,
    /// For each node: how it is to be treated.
    pub hints: Vec<Hint>,
}

/// Which files of the named piece to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The directory.
    pub directory: DirectoryId,
    /// `first` of the piece that is answered.
    pub first: u32,
    /// Indices of the files to read, ascending.
    pub files: Vec<u32>,
}

/// Hashes of the next chunks of a wanted file.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunks {
    /// The file.
    pub file: FileId,
    /// Number of the first of these chunks within the file.
    pub first: u32,
    /// Hash and length of each.
    pub chunks: Vec<(ContentHash, u32)>,
}

/// Which chunks of the named piece to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The file.
    pub file: FileId,
    /// `first` of the piece that is answered.
    pub first: u32,
    /// Numbers of the chunks to send, ascending, counted within the file.
    pub chunks: Vec<u32>,
}

/// The bytes of one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The file.
    pub file: FileId,
    /// Number of the chunk within the file.
    pub chunk: u32,
    /// Its bytes; the box hashes them again.
    pub bytes: SharedBytes,
}

/// The end of a wanted file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDone {
    /// The file.
    pub file: FileId,
    /// What came of it.
    pub outcome: ReadOutcome,
}

/// What came of reading a file.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadOutcome {
    /// Read whole. The node is fresh (from the open file, with xattrs, without contents); `steady` tells that size and
    /// times were the same before and after, and that the bytes read are as many as the size.
    Read {
        /// Fresh metadata.
        node: Node,
        /// Nothing moved while it was read.
        steady: bool,
    },
    /// It is no longer there, or no longer a regular file.
    Vanished,
    /// It could not be read.
    Failed {
        /// Why, in one line.
        why: String,
    },
}

/// The end of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassEnded {
    /// Bytes read from files in this pass.
    pub bytes_read: u64,
    /// Names of the owners seen: (uid, name).
    pub users: Vec<(u32, String)>,
    /// Names of the groups seen: (gid, name).
    pub groups: Vec<(u32, String)>,
}

/// Ask for the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiesce {
    /// Mail answers this many seconds after the stop began, whatever happens: the restart guard starts it that much earlier.
    pub deadline_seconds: u32,
}

/// Whether a final pass could be kept on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// It could; else `Freeze` is of no use.
    pub able: bool,
    /// Why not, or how, as far as there is something to tell; in one line.
    pub why: String,
    /// Bytes that are likely to be kept, with room for as much again.
    pub bytes: u64,
    /// How long walking and keeping is likely to take, milliseconds.
    pub millis: u64,
}

/// What was done while mail was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Everything is kept: mail is started at once, `Resumed` follows by itself, and the next pass tells what was kept.
    /// Else nothing is, mail is still stopped, and the next pass looks at the server as it is.
    pub whole: bool,
    /// Why it is not whole; or how it was kept, as far as there is something to tell. In one line.
    pub why: String,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// Files that are kept.
    pub files: u64,
    /// Bytes that were copied for it.
    pub bytes: u64,
    /// One line for each thing that moved meanwhile; empty if the copy is quiescent.
    pub moved: Vec<String>,
}

/// Mail is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiesced {
    /// Time that the stop took, milliseconds.
    pub stop_ms: u64,
    /// Time that the export took, milliseconds.
    pub export_ms: u64,
    /// The exported mailbox list is part of the next final pass as `/.mailkeep/mailboxlist`.
    pub has_list: bool,
}

/// Whether something moved under the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rechecked {
    /// One line for each thing that moved; empty if the copy is quiescent.
    pub moved: Vec<String>,
}

/// Mail answers again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// From the start command to the greeting, milliseconds.
    pub start_ms: u64,
    /// From the stop command to the greeting, milliseconds.
    pub window_ms: u64,
    /// Something else (the guard, a person) had started mail before: the copy is not quiescent.
    pub started_by_other: bool,
}

/// Something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What, in one line.
    pub what: String,
    /// On which path, as text for people; empty if on none.
    pub path: String,
    /// The backup lacks something because of it.
    pub missing: bool,
}

/// The run cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// What failed, in one line.
    pub what: String,
    /// What to do, in one line; may be empty.
    pub hint: String,
    /// The exit code that fits (INTERFACES.md).
    pub exit_code: u8,
}
