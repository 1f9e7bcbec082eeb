//! Numbers that bound memory, room and time, with their units and reasons.

/// Bytes that a name takes on the scratch disk beside its contents, which are rounded up to whole blocks of this size too.
pub const BLOCK: u64 = 4096;
/// Bytes that are to be left beside what is rebuilt: databases that a started Cyrus makes again, its
/// log, and whoever else uses that disk meanwhile.
pub const SPARE_ROOM: u64 = 64 << 20;
/// Most files that are drawn by lot: with the paths that they are known by some 60 MB.
pub const SAMPLE_FILES: u64 = 1_000_000;
/// Problems that stand in a record; the rest is counted.
pub const PROBLEMS_KEPT: usize = 100;
/// Letters of a problem that are kept.
pub const PROBLEM_LETTERS: usize = 500;
/// Messages that are fetched from the started Cyrus, each of another mailbox.
pub const MESSAGES_FETCHED: usize = 50;
/// Bytes of the largest message that is fetched.
pub const MESSAGE_BYTES: u64 = 4 << 20;
/// Seconds in which a started Cyrus has to greet: it may have to look through its databases on a busy machine.
pub const GREETING_SECONDS: u64 = 120;
/// Bytes that are read at a time for a message's digest.
pub const READ_BYTES: usize = 1 << 20;
