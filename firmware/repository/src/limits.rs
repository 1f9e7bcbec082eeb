//! Numbers that a person may want to change, with unit and reason. Sizes of blocks and packs stand in
//! [`mailkeep_format::limits`].

use std::time::Duration;

/// A chunk of at least this many bytes gets a block of its own: reading it back decodes nothing else, and mails without
/// it lie closer together. It is mostly base64, and compresses better alone than beside text. `mailkeep-bench levels`
/// (150 MB of chunks of mail): 32 KiB leaves 82.8 MB in 1027 blocks, 64 KiB 83.0 in 631, 128 KiB 83.3 in 270, 512 KiB (no
/// chunk is so long) 84.0 in 151, all with the same CPU time.
pub const LARGE_CHUNK: usize = 64 << 10;
/// As [`LARGE_CHUNK`], of base64: by itself it is folded to the bytes it stands for, which is as fast as to compress it and
/// leaves less. `mailkeep-bench levels` (62 MB of chunks of mail): 16 KiB (no shorter part is cut out) leaves 30.9 MB in 339
/// blocks, 32 KiB 31.1 in 299, 64 KiB 31.6 in 232, all with the same CPU time.
pub const LARGE_BASE64: usize = 16 << 10;
/// Chunks whose place is held in memory by upkeep before they are written out as an index run; 60 to 70 bytes each.
pub const SESSION_CHUNKS: usize = 100_000;
/// The same for a writer, who goes on with as many more while those before become durable: up to half a gigabyte of mail.
/// Just below what a hash table of 2^16 places takes: with one more it would double.
pub const TURN_CHUNKS: usize = 57_000;
/// Index runs that a lookup may have to ask; beyond, the smaller ones are merged.
pub const RUNS_MAX: usize = 6;
/// An index run of at least this many entries is long: 400 pages of 4 KiB, of which a lookup opens one or two.
pub const RUN_LONG: u64 = 50_000;
/// Long runs of about one length that are left alone; with one more they are merged. 500 new mails cost 500 pages of each.
pub const LONG_RUNS_MAX: usize = 3;
/// Runs are of about one length if the longest has at most this many times the entries of the shortest.
pub const RUNS_ALIKE: u64 = 4;
/// Chunks that a writer remembers not to be there between the question and the bytes, 40 bytes each: what a server has on
/// its way at a time is less.
pub const ABSENT_CHUNKS: usize = 8192;
/// As [`RUNS_MAX`], in the middle of a backup: what a usual one adds can wait until the next one begins.
pub const RUNS_IN_BACKUP_MAX: usize = 2 * RUNS_MAX;
/// Decoded blocks that a reader keeps, in bytes. For directories and single reads (a mount); a restore gathers what lies
/// in a block and needs no cache. Directories are asked for in the order in which they were written, by each of the
/// snapshots that have a part in the tree: this is room for a block of each of six large ones, or of many small ones.
pub const BLOCK_CACHE: usize = 6 << 20;
/// Chunks of which a reader remembers where they lie before they are asked for, twice, about 50 bytes each: a few folders.
pub const HINTS: usize = 16_384;
/// Places in one pack that were looked up in the index before the pack's own table of contents is read: a page of the index
/// costs some 3 µs, an entry of the table a tenth of one, and a pack of small mail has 40,000.
pub const PACK_WORTH_READING: u32 = 512;
/// Packs of which a reader knows where everything lies, 35 to 70 bytes for each of their chunks.
pub const PACKS_KNOWN: usize = 3;
/// Packs of which it is counted how often they were looked for.
pub const PACKS_COUNTED: usize = 8;
/// A directory's chunk of at most this many bytes is short: one without messages, or with a few. They lie between the
/// long ones of a whole spool, so that each of them costs the decoding of another block.
pub const SHORT_TREE: usize = 4 << 10;
/// Short directories that a reader keeps, in bytes: some 1,500. A second pass finds there what the first has read.
pub const SHORT_TREE_CACHE: usize = 1 << 20;
/// Compressing threads at most; one that fills packs, one that waits for the disk, and the caller come on top.
pub const WORKERS_MAX: usize = 4;
/// How long a backup goes on before what it has read is kept by a checkpoint. Each costs a flush of the disk and the trees of
/// the folders that are under way; what is read again after a power cut is at most as much as is read in this time.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// A lease of another box that is older than this many seconds is taken over without asking.
pub const LEASE_FOREIGN_SECONDS: u64 = 3600;
/// A living writer renews its lease when it is older than this many seconds.
pub const LEASE_RENEW_SECONDS: u64 = 600;
/// Buffer for reading whole files in order, in bytes.
pub const READ_BUFFER: usize = 1 << 20;
/// Bytes of an index run that are written at a time.
pub const WRITE_PIECE: usize = 256 << 10;
/// An index run gets a filter in memory once it was asked for more than one in so many of its entries: going through an
/// entry once costs about a hundredth of looking one up.
pub const FILTER_AFTER: u64 = 100;
/// Longest run that gets one, in entries; a filter takes 1.25 bytes of memory for each.
pub const FILTER_ENTRIES_MAX: u64 = 40_000_000;
/// Guards that a seal leaves behind (where the file system can make them): the present state and the one before, so
/// that a seal of what was already going wrong does not take the last good one away.
pub const GUARDS_KEPT: usize = 2;
/// Slices that make up a whole disk when verification goes by the cursor, unless asked otherwise: with a backup every
/// night, each byte is read again once a month.
pub const SLICES: u32 = 30;
/// Most slices: the record keeps one line for each.
pub const SLICES_MAX: u32 = 1000;
/// The reserve of an empty repository, in bytes: both copies of a manifest and of a sweep record are far below it.
pub const RESERVE_LEAST: u64 = 1 << 20;
/// What a pack adds to it: 34 bytes in each copy of a manifest and of a sweep record, and a margin.
pub const RESERVE_PER_PACK: u64 = 160;
/// The reserve is at most one part in so many of the free space.
pub const RESERVE_SHARE: u64 = 16;
/// A reserve of fewer bytes is not worth having.
pub const RESERVE_USELESS: u64 = 16 << 10;
/// The programs for a rescue take at most one part in so many of the free space.
pub const KIT_SHARE: u64 = 16;
/// README.txt, FORMAT.md and the sums are at most so many bytes; what is longer is none of ours.
pub const KIT_TEXT_MAX: u64 = 1 << 20;
/// A disk with less free space, in bytes, is short of room: the longest pack does not fit any more.
pub const ROOM_SHORT: u64 = 64 << 20;
/// A pack is repacked when at least one part in so many of it is needed by nothing.
pub const REPACK_WASTE: u64 = 4;
/// Live chunks that are held in memory while packs are repacked, here and as places in the writer; about 200 bytes each.
/// With more of them at a time the index is gone through less often.
pub const REPACK_CHUNKS: u64 = 60_000;
/// An index run is written anew when at least one part in so many of its entries is of deleted packs.
pub const RUN_WASTE: u64 = 8;
/// Ids that are gathered before they are looked for in the index together; about 70 bytes each.
pub const MARK_BATCH: usize = 200_000;
/// How long a pack that nothing needs stays, in seconds: readers that began before may still want it.
pub const GRACE_SECONDS: u64 = 24 * 3600;
