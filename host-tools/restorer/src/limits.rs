//! Numbers that bound memory and work, with their units and reasons.

/// Nodes that a view's cache keeps, over all listings. A node takes about 400 bytes: 6 MB.
pub const CACHED_NODES: usize = 16_384;
/// Listings that a view's cache keeps; also bounds the cost of keeping their order.
pub const CACHED_LISTINGS: usize = 256;
/// Threads that write file contents. The work is system calls and decompression; more than 4 only wait on the disk.
pub const WORKERS_DEFAULT: usize = 3;
/// Bytes of memory for files that are restored together: some 80 for each and 40 for each of its chunks, so that a hundred
/// thousand mails are a batch, and half as much again while it is found out where they lie. A block is opened once for every
/// batch that wants something of it: with 18,432 mails in each, on a spool of 100,000, 1.7 times the repository was read.
pub const BATCH_BYTES: usize = 22 << 20;
/// Batches under way at a time.
pub const BATCHES: usize = 1;
/// Further names of files in a batch, which are made at its end: until then their folders are not complete, and a restore
/// that is cut off has made them in vain.
pub const BATCH_LINKS: usize = 8_192;
/// Folders of a batch; each is open until all of the batch in it is made. See [`batch_folders`].
const BATCH_FOLDERS: usize = 2_048;
/// A chunk of at least this many bytes may lie in a block by itself, which takes [`BLOCK_BYTES`].
pub const ALONE: u32 = 16 << 10;
/// Bytes of memory that a batch keeps for each block.
pub const BLOCK_BYTES: usize = 192;
/// Chunks of a single file from which on it is restored by itself, front to back: it fills whole blocks anyway.
pub const STREAMED_CHUNKS: usize = 8_192;
/// Blocks that a worker takes at a time. Neighbouring blocks go to the same folder, where two threads that make files
/// would only wait for each other.
pub const BLOCKS_PER_JOB: usize = 8;
/// Jobs that wait for a worker.
pub const QUEUED_JOBS: usize = 2;
/// Files that stay open while they wait for a piece from another block; more are closed and opened again.
pub const OPEN_PARTS: usize = 128;
/// Zeros are left out as holes in whole blocks of this many bytes, the block size of common file systems.
pub const HOLE_BLOCK: usize = 4096;
/// Small writes are gathered up to this many bytes.
pub const WRITE_BUFFER: usize = 1 << 20;
/// First names of files with several names that are held in memory, about 200 bytes each; more go to the machine's disk.
pub const LINKS_HELD: usize = 32_768;
/// Files and folders in a row that a disk refuses to read before a restore is given up. A bad sector costs a few
/// neighbours that share a block; a disk that was pulled out costs everything.
pub const UNREACHABLE_IN_A_ROW: u32 = 16;
/// Writes of at least this many bytes leave nothing in the page cache. Files of 64 KiB and more are a twelfth of all mails
/// and two thirds of their bytes.
pub const UNCACHED_WRITE: usize = 32 << 10;
/// Longest listing, in names, that is held as a whole, so that what lies in the folder itself comes before its folders. A
/// new folder of no more names is filled under a temporary name and then put into its place at once: that saves a rename for
/// each file, a sixth of a restore's CPU time on small mail. Also what a restore that is cut off has done in vain in one
/// folder. Nodes take about 400 bytes: 3 MB.
pub const NAMES_HELD: usize = 8_192;
/// Folders of a listing that are held back; each level of the walk may hold as many.
pub const FOLDERS_HELD: usize = 64;

/// Folders that differ, of which it is counted how many a comparison has behind it: enough for a step of a hundredth.
pub(crate) const MEASURED: usize = 100;
/// So many at most, about 1 KiB each.
pub(crate) const MEASURED_MOST: usize = 10_000;
/// Levels of folders that are looked through for them: a spool has `/var/spool/cyrus/mail/…` before it gets wide.
pub(crate) const MEASURED_DEPTH: usize = 12;
/// Names that are compared between two words of how far it is.
pub(crate) const NAMES_BETWEEN_LOOKS: u64 = 1024;

/// Folders that a batch may keep open: a third of the files that this process may have open.
pub(crate) fn batch_folders() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(BATCH_FOLDERS, |most| usize::try_from(most / 3).unwrap_or(BATCH_FOLDERS))
        .clamp(64, BATCH_FOLDERS)
}
