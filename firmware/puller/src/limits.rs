//! Every number of the pull that a person may want to change, with unit and reason.

use std::time::Duration;

/// Most live passes of one run. Each is shorter than the one before or the run stops repeating them.
pub const LIVE_PASSES_MAX: u32 = 5;
/// A further live pass is only worth it if the last one took less than this share of the one before.
pub const SHRINK_ENOUGH: f64 = 0.8;
/// After a live pass of less than this it can be told what will change until the window; a longer one is followed by
/// another. An agent reckons with what changed within an hour before the pass.
pub const KEPT_AFTER_AT_MOST: Duration = Duration::from_secs(1800);
/// A window of less than this share of the outage budget is short enough: no further live pass is made for it.
pub const COMFORTABLE_SHARE: f64 = 0.25;
/// The forecast of a pass is never less than this share of the last one: what it goes by is rough.
pub const FORECAST_FLOOR: f64 = 0.25;
/// Snapshots whose windows tell what stop and start usually take.
pub const WINDOWS_LOOKED_AT: usize = 5;
/// Windows from which on they are believed even if they leave no room in the budget.
pub const WINDOWS_TRUSTED: usize = 3;
/// Most passes over a source that cannot be stopped, in search of one under which nothing moves.
pub const UNSTOPPED_PASSES_MAX: u32 = 3;

/// Files younger than the pass that read them, less this many seconds, are read again: time stamps come from a coarse
/// clock, and file systems with one-second stamps exist.
pub const RACY_SECONDS: i64 = 2;

/// Bytes of listings (entries that miss something and what comes after them in their folder, chunk lists of unfinished
/// files) that a server can make the box hold. An agent runs ahead by some 4,000 entries of 600 bytes; a message after
/// a subfolder that is not finished takes about 90, so that this is room for two million of them.
pub const HELD_BYTES_MAX: usize = 256 << 20;
/// Directories open at one time: the way down from the root plus those whose files are still on their way.
pub const OPEN_DIRECTORIES_MAX: usize = 65_536;
/// Files on their way at one time. An agent runs ahead by far less.
pub const OPEN_FILES_MAX: usize = 65_536;
/// Bytes of memory for files with several names of which not all were seen; beyond it each name is read by itself. A
/// quarter of a million messages.
pub const LINKS_HELD_MAX: usize = 64 << 20;
/// Files with several names of which not all were met, that are looked for in the tree at the end of a run; of more the
/// next full walk finds them.
pub const PARTED_MAX: usize = 64 << 10;
/// Bytes of memory for what one pass knows of folders for the next. About 12,000 folders of a mail server; the rest are
/// listed.
pub const KNOWN_BYTES_MAX: usize = 16 << 20;
/// Write-once files from which on a folder is worth knowing: a smaller one is listed as fast.
pub const WORTH_KNOWING: u64 = 4;
/// Every so many runs everything is looked at, also what cannot have changed by the rules: once a week where there is a
/// run a day.
pub const FULL_WALK_EVERY: u32 = 7;
/// Directories of the parent's tree that wait to be looked at; more of them are listed by the agent instead.
pub const SCANNED_AHEAD_MAX: usize = 65_536;
/// Chunks asked for and not yet here. Bounds the table of what is in flight.
pub const CHUNKS_IN_FLIGHT_MAX: usize = 1 << 20;

/// Problems and remarks kept by name; the rest are only counted, so that a hostile server cannot fill memory or the
/// manifest.
pub const LISTED_MAX: usize = 200;
/// Mailboxes of one other source that are named as being there too.
pub const DOUBLES_LISTED: usize = 20;
/// Longest text that is taken over from a server, in characters.
pub const TEXT_MAX: usize = 400;
/// Owners' names kept in a manifest.
pub const OWNERS_MAX: usize = 65_536;

/// Bytes that the pipes to the agent's process hold: the most that Linux allows to everybody.
pub const PIPE_SIZE: usize = 1 << 20;

/// Environment of an agent on this machine: its threads share one heap, out of which files of up to 2 MiB are read, and which
/// is given back when 16 MiB lie unused at its end. Box and agent share the memory here; measured on a first backup of 20,000
/// mails: 16 to 18 MiB, and 14 to 16 where each file of 256 KiB gets pages of its own, which the kernel has to find and to
/// clear 35,000 times over: a fortieth of the processor time of the whole backup.
pub const FRUGAL_ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "2097152"),
    ("MALLOC_TRIM_THRESHOLD_", "16777216"),
];

/// Environment of our own processes that hold a repository; see [`crate::allocator`]. Two heaps for half a dozen threads,
/// buffers from a megabyte on (blocks, tables of contents, places of a session) straight from the system and back to it.
pub const BOX_ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1000000"), ("MALLOC_TRIM_THRESHOLD_", "2000000")];

/// How long an agent may be silent. It says that it is alive every 5 s; a link that is silent for this long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a wait for the agent looks up to see whether it was cancelled.
pub const CANCEL_POLL: Duration = Duration::from_millis(100);
/// How long an aborted run waits for the word that mail is running again. Then the link is closed, upon which the
/// agent starts mail by itself, and the guard behind it.
pub const RESUME_AFTER_FAILURE: Duration = Duration::from_secs(90);
/// How long the agent's process has to end by itself once its input is closed.
pub const REAP_WAIT: Duration = Duration::from_secs(10);
/// The same when mail was stopped at that time: the agent is starting it again and must not be hit meanwhile.
pub const REAP_WAIT_WINDOW: Duration = Duration::from_secs(90);
/// Lines of the agent's or ssh's error output that are kept for an error message.
pub const STDERR_LINES: usize = 20;
/// Seconds between two signs of life that ssh asks of the server; three missing end the connection.
pub const SSH_ALIVE_SECONDS: u32 = 10;
/// Shortest time between two progress reports.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How long ssh tries to reach the server, in seconds.
pub const SSH_CONNECT_SECONDS: u32 = 20;

/// Bytes per second below which the link is slow, so that compressing what crosses it pays: an Ethernet of 100 Mbit/s. One
/// core compresses more than twenty times as much, so that even a wrong guess costs it a twentieth of its time.
pub const LINK_SLOW: u64 = 16 << 20;
/// Bytes per second above which it is fast, and what compressing costs is better spent elsewhere.
pub const LINK_FAST: u64 = 32 << 20;
/// Bytes after which the link is judged.
pub const LINK_JUDGED_BYTES: u64 = 1 << 20;
/// Time of waiting after which it is judged by less.
pub const LINK_JUDGED_TIME: Duration = Duration::from_secs(2);
/// Bytes in that time below which nothing is known: nobody had anything to say.
pub const LINK_IDLE_BYTES: u64 = 32 << 10;

/// Nodes of directories that the mail check keeps decoded, about 350 bytes each; message files are not among them.
pub const TREE_CACHE_NODES: usize = 65_536;
/// Symbolic links on the way to one file (Linux allows 40).
pub const LINKS_FOLLOWED_MAX: u32 = 40;
/// Bytes of one file that the mail check takes into memory: a list of some hundred thousand mailboxes, a configuration.
/// Indexes come in pieces.
pub const CHECKED_FILE_MAX: usize = 512 << 20;

/// Bytes of new messages that the mail check reads back and hashes, each one of them: more mail than comes in a day.
pub const DIGESTED_BYTES: u64 = 1 << 30;
/// The same where there is nothing to compare with and all mail is new, about a thirtieth of a second of processor time.
pub const FIRST_DIGESTED_BYTES: u64 = 16 << 20;
/// Beyond that each so many-th message is hashed.
pub const SAMPLED: u64 = 64;

/// Levels of directories that are gone through for a run that goes on where another was cut off; what lies deeper is read
/// again. Two chunks of a tree are held for each.
pub const RESUMED_DEPTH_MAX: usize = 64;
