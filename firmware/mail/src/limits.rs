//! Every number a person might want to change, with its unit and its reason. All of them bound what a
//! hostile or broken mail server can make us hold in memory; none of them is a tuning knob for speed.

/// Bytes of a source file. Written by hand, a few hundred bytes as a rule.
pub const SOURCE_FILE_BYTES: usize = 256 * 1024;
/// Letters of a source's name: it becomes part of file names, log fields and lamp pages.
pub const SOURCE_NAME_LETTERS: usize = 64;
/// Entries of one list in a source file (paths, patterns, words of a command).
pub const SOURCE_LIST_ENTRIES: usize = 4096;
/// Seconds that a duration in a source file may have at most (a year): more is a typing error.
pub const DURATION_SECONDS: u64 = 366 * 24 * 3600;
/// Bytes per second that a limit has at least: below 64 kbit/s not even the listing of a spool ends in a night.
pub const RATE_LEAST: u64 = 8_000;
/// Bytes per second that a limit has at most; more is a typing error.
pub const RATE_MOST: u64 = 100_000_000_000;
/// Places that a key may reach: each is a word of one line in authorized_keys. Ten partitions of three folders each, with
/// configuration and certificates, are 50.
pub const REACH_PLACES: usize = 512;
/// Edits between an unknown key and a known one up to which the known one is named as a guess.
pub const SUGGESTION_EDITS: usize = 4;

/// Bytes of one imapd.conf or one file that it includes. Debian's, comments and all, has 13 KB.
pub const CONFIG_FILE_BYTES: usize = 1024 * 1024;
/// `@include` inside `@include`: Cyrus knows no limit; real ones have one or two levels.
pub const CONFIG_INCLUDE_DEPTH: usize = 16;
/// Files that one configuration may be made of.
pub const CONFIG_FILES: usize = 128;

/// Bytes of an exported mailbox list: about 400 per mailbox, so this holds more than a million mailboxes.
pub const MAILBOX_LIST_BYTES: usize = 512 * 1024 * 1024;
/// Mailboxes of an exported list.
pub const MAILBOX_LIST_ENTRIES: usize = 4_000_000;
/// Bytes of a mailbox's internal name (MAX_MAILBOX_NAME of Cyrus is 490).
pub const MAILBOX_NAME_BYTES: usize = 1024;

/// Bytes of a cyrus.header; 128 keywords of 255 letters and a long list of rights fit.
pub const CYRUS_HEADER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a cyrus.index: 144 per message, so this holds 14 million messages in one mailbox.
pub const CYRUS_INDEX_BYTES: usize = 2 * 1024 * 1024 * 1024 - 1;
/// Bytes of a record of cyrus.cache: the header's parts and the structure of a message of some thousand parts.
pub const CACHE_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a seen database: about 100 per mailbox that a user has read in.
pub const DATABASE_BYTES: usize = 64 * 1024 * 1024;
/// Entries of such a database.
pub const DATABASE_ENTRIES: usize = 500_000;
/// Ranges of UIDs in one entry of a seen database.
pub const SEEN_RANGES: usize = 1_000_000;

/// Levels of folders below a partition that the mail check walks; Cyrus' own hashing takes five.
pub const TREE_DEPTH: usize = 256;
/// Problems that a mail check lists by name; the rest are only counted, so that a manifest stays small.
pub const LISTED_PROBLEMS: usize = 100;
