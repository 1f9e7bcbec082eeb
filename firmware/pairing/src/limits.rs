//! The bounds of a pairing. Times are for a person who waits.

/// How long a TCP connection for host keys may take, seconds.
pub const SCAN_SECONDS: u32 = 10;

/// How long a login may take to connect, seconds; the person's typing is not counted.
pub const CONNECT_SECONDS: u32 = 20;

/// How often a silent server is asked for a sign of life, seconds; after three times the login is given up.
pub const ALIVE_SECONDS: u32 = 15;

/// What a server may answer, bytes: an authorized_keys file is a few lines, a stranger's answer is not read for ever.
pub const ANSWER_BYTES: usize = 4 << 20;

/// An agent is a few MiB; more is another file.
pub const AGENT_BYTES: u64 = 256 << 20;
