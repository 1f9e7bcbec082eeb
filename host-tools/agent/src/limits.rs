//! Numbers a person may want to change, with unit and reason.

use std::time::Duration;

/// Entries listed and not yet answered or read: how far the walk runs ahead. An entry takes up to 600 bytes here, and as
/// much again in the box; as many mails of a KiB are all that `BYTES_AHEAD` lets wait.
pub const ENTRIES_AHEAD: usize = 4 << 10;
/// Pieces of listings that may be under way; each holds one open directory.
pub const PIECES_AHEAD: usize = 1024;
/// Bytes read and not yet answered by the box: what a line with an answer after 50 ms takes at 300 Mbit/s.
pub const BYTES_AHEAD: usize = 2 << 20;
/// Bytes of a file above `WHOLE_FILE_MAX` that are cut and announced at a time.
pub const STREAM_STEP: usize = 1 << 20;
/// A folder younger than the pass that listed it, less this many seconds, is listed again: time stamps come from a coarse
/// clock, and file systems with one-second stamps exist.
pub const SETTLED_SECONDS: i64 = 2;
/// What changed within this many seconds before a live pass is likely to change again before the final one: from it the
/// room for the stage is reckoned. A pass that takes longer is followed by another one.
pub const RECENT_SECONDS: i64 = 3600;
/// Bytes that the stage may take. What changes while the last live pass runs is far less on any server.
pub const STAGE_BYTES: u64 = 16 << 30;
/// The stage takes at most one part in so many of what is free on a file system: mail needs the rest.
pub const STAGE_SHARE: u64 = 2;
/// Bytes that must fit the stage beyond what is reckoned.
pub const STAGE_MARGIN: u64 = 16 << 20;
/// Bytes per second at which files are copied to the stage, at least; a slow disk writes that much.
pub const STAGE_SPEED: u64 = 50 << 20;
/// Bytes of a file that are copied to the stage at a time.
pub const STAGE_STEP: usize = 256 << 10;
/// Files from this size on are cloned where that is possible. Cloning makes the file system write the file out first,
/// which takes longer than a copy of a small one.
pub const CLONED_FROM: u64 = 8 << 20;
/// Descriptors that the stage may hold; a quarter of what the system allows if that is less.
pub const STAGED_DESCRIPTORS: usize = 2048;
/// Files with several names that the stage knows again; of more each name is kept by itself.
pub const STAGED_LINKS: usize = 64 << 10;
/// As long as there is a snapshot, its file system has so many bytes left for mail, or one part in
/// `SNAPSHOT_LEAVES_SHARE` of all if that is less; twice as much before one is taken.
pub const SNAPSHOT_LEAVES: u64 = 2 << 30;
/// See `SNAPSHOT_LEAVES`.
pub const SNAPSHOT_LEAVES_SHARE: u64 = 32;
/// A snapshot of a logical volume is tried where mail would otherwise be stopped for so long: before that it is no gain, since
/// LVM itself takes some part of a second and slows all writing down as long as there is one.
pub const VOLUME_WORTH: Duration = Duration::from_secs(3);
/// It is taken then if it takes at most one part in so many of that time.
pub const VOLUME_GAIN: u32 = 2;
/// Room for what changes while there is a snapshot of a volume: one part in so many of the volume, but not less than
/// `VOLUME_ROOM_MIN` bytes, and never more than half of what its group has left. It is full only if all of that is written
/// anew before the pass has ended.
pub const VOLUME_SHARE: u64 = 10;
/// See `VOLUME_SHARE`.
pub const VOLUME_ROOM_MIN: u64 = 64 << 20;
/// Percent that a thin pool may be used to for a snapshot to be taken in it.
pub const POOL_PERCENT_BEFORE: f64 = 80.0;
/// Percent of use from which on it leaves no room for mail while there is a snapshot.
pub const POOL_PERCENT: f64 = 95.0;
/// How long `lvcreate` may take, with mail stopped: most of it is what the file system has in memory being written out, which
/// the rehearsal before has done once. After that mail is kept in another way, within the same window.
pub const VOLUME_TAKE_BOUND: Duration = Duration::from_secs(30);
/// How long `lvs` and `lvremove` may take, while mail runs.
pub const VOLUME_BOUND: Duration = Duration::from_secs(60);
/// How long a tool of LVM that takes too long and was asked to end is waited for.
pub const VOLUME_PATIENCE: Duration = Duration::from_secs(2);
/// How long the threads of a pass that was broken off may take to close what they read of a snapshot.
pub const VOLUME_RELEASE: Duration = Duration::from_secs(30);
/// How long a volume stays suspended before it counts as left so. LVM's own tools take less than a second.
pub const SUSPENDED_LOOK: Duration = Duration::from_secs(2);
/// Variables for tools of the system: what they say is read by us, and open files are none of their business.
pub const FOR_TOOLS: [(&str, &str); 2] = [("LC_ALL", "C"), ("LVM_SUPPRESS_FD_WARNINGS", "1")];
/// How often that is looked at.
pub const SNAPSHOT_LOOK: Duration = Duration::from_secs(5);
/// Directories that are remembered at which another file system or subvolume begins; where there are more, no snapshot is
/// taken.
pub const BORDERS: usize = 64;
/// How long the end of a run waits for a freeze that was called off, to remove its snapshots.
pub const FREEZE_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a recorded walk that are kept in memory.
pub const RECORD_BYTES: usize = 1 << 20;
/// Directories that are kept open between the look at them and the entering, of one directory and of all: opening one once
/// more, or asking for its attributes by its path, is much of what an unchanged folder costs.
pub const OPENED_AHEAD: (usize, usize) = (16, 64);
/// Folders of which the kernel is asked to tell what happens in them during a run; each takes it a kilobyte or two.
pub const JOURNAL_FOLDERS: usize = 16 << 10;
/// Names to which something happened that are kept; with more of them folders are listed.
pub const JOURNAL_NAMES: usize = 64 << 10;
/// Bytes of what a live pass remembers for the final one: 30,000 folders of a mail server or more. What is beyond is listed.
pub const MEMORY_BYTES: usize = 16 << 20;
/// Lines that tell of folders in which something happened although mail was stopped.
pub const JOURNAL_LINES: usize = 100;
/// Threads that read files. Most of a mail that is not in memory is waiting for it: on a disk without moving parts two threads
/// leave it idle, and one with them finds a shorter way through four requests than through two.
pub const READERS: usize = 4;
/// Bytes of extended attributes of one entry that still fit a frame; more is reported and left out.
pub const XATTR_BYTES: usize = 1 << 20;
/// Open files that are asked for: pieces, the way down from the root, commands.
pub const OPEN_FILES: u64 = 8192;
/// Variables that are the agent's own or its login's: mail must not begin with them.
pub const NOT_FOR_OTHERS: [&str; 8] = [
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_ORIGINAL_COMMAND",
    "SSH_TTY",
];
/// Links followed on the way to one root before it counts as a loop (Linux: 40).
pub const LINK_HOPS: usize = 40;
/// Nice value of the reading threads outside the window.
pub const NICE: i32 = 19;

/// How often a wait looks whether it was called off.
pub const POLL: Duration = Duration::from_millis(50);
/// The same inside the window, where every wait is felt.
pub const QUICK: Duration = Duration::from_millis(10);
/// How long the box may be silent inside the window: a lost heartbeat means that mail is started early.
pub const SILENCE_IN_WINDOW: Duration = Duration::from_secs(15);
/// How many of the last starts of mail tell how early mail has to be started before the deadline.
pub const STARTS_KEPT: usize = 5;
/// Starts from which on they are believed even if they say that the deadline cannot be kept.
pub const STARTS_TRUSTED: usize = 3;
/// What a start takes where none was measured so far. Cyrus takes a second or less; one that recovers large databases
/// first takes longer.
pub const FIRST_START: Duration = Duration::from_secs(30);
/// Added to what a start took: the wait of a guard that looks once a second, the pause between two attempts, a machine
/// that is busier than last time.
pub const START_MARGIN: Duration = Duration::from_secs(5);
/// Longest time that a stop command may take; a third of the time to the start if that is less. systemd gives a service 90 s.
pub const STOP_BOUND: Duration = Duration::from_secs(100);
/// Stops that had to be ended, one after the other, from which on mail is not stopped when there is no more time for it.
pub const STOPS_TRUSTED: usize = 3;
/// Runs that are refused because of them before mail is stopped once more: a busy day must not end all backups.
pub const STOPS_REFUSED: usize = 3;
/// Longest time for the export of the mailbox list; a quarter of the time to the start if that is less.
pub const EXPORT_BOUND: Duration = Duration::from_secs(120);
/// Longest time for the import of a list of mailboxes into a database that is not served; a million of them take a minute or two.
pub const IMPORT_BOUND: Duration = Duration::from_secs(600);
/// Longest time for one start command before it is tried again.
pub const START_BOUND: Duration = Duration::from_secs(90);
/// How long mail may take to greet after a start command that went well, before it is started once more.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(15);
/// How long the agent tries to bring mail back before it tells the box that it could not; the guard goes on.
pub const RESUME_BOUND: Duration = Duration::from_secs(150);
/// How long the guard tries before it writes into its log that it gives up: whoever has not noticed by then will not.
pub const GUARD_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How long what holds a lock may take to end after it was killed.
pub const RELEASE_BOUND: Duration = Duration::from_secs(10);
/// How long the guard may take to say that it is armed. Mail runs meanwhile, so a machine that is very busy is given time.
pub const ARM_BOUND: Duration = Duration::from_secs(30);
/// How long a question (`running`, a version, a name) may take.
pub const ASK_BOUND: Duration = Duration::from_secs(20);
/// How long a connection to the mail service may take, and its greeting.
pub const PROBE_BOUND: Duration = Duration::from_secs(5);
/// Longest pause between two attempts to start mail.
pub const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long mail has to last after a stop that did not end well.
pub const SETTLE: Duration = Duration::from_secs(3);
/// How long a stop that lost its agent, or is called off, may go on by itself before it is ended. Cyrus stops within 2 s; a stop that is
/// ended half-way leaves a service that is neither up nor down, and a good stop script needs some seconds to see that
/// Cyrus hangs and to end it.
pub const ORPHAN_PATIENCE: Duration = Duration::from_secs(8);
/// As [`GREETING_PATIENCE`], after a stop that did not end well: the start command may have seen the old service in its
/// last moments and done nothing.
pub const GREETING_PATIENCE_CAREFUL: Duration = Duration::from_secs(2);
/// How long a new window waits for another agent to end.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(2);
/// How long a new window waits for a guard that is bringing mail back for an earlier one.
pub const GUARD_AT_WORK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a stop may take before it is looked for a Cyrus master that hangs in it, and how often after that; a third
/// of the stop's bound if that is less. Cyrus stops within 2 s.
pub const STUCK_PATIENCE: Duration = Duration::from_secs(5);
/// For how long a Cyrus master is looked at before it counts as hung.
pub const STUCK_LOOK: Duration = Duration::from_secs(1);
/// Processor time in clock ticks (1/100 s) that a hung one burns meanwhile, on a machine that is busy otherwise.
pub const STUCK_TICKS: u64 = 15;
/// How long whoever moves trees may keep the lock for it, which takes milliseconds, before it is killed: the journal says how
/// it goes on.
pub const SWAP_PATIENCE: Duration = Duration::from_secs(10);
/// How long mail may take to come up on restored trees before it gets the old ones back, where it ran on those.
pub const NEW_STATE_PATIENCE: Duration = Duration::from_secs(150);
/// Files with several names that a restore knows again; of more each name becomes a file of its own.
pub const TWINS: usize = 1 << 20;
/// What a restore could not do is told up to so many lines at a time.
pub const REBUILD_PROBLEMS: usize = 1000;
/// Bytes of a restore after which the box is told that they were written.
pub const TOOK_STEP: u64 = 1 << 20;
