//! Numbers that bound memory and work, with their units and reasons.

/// Nodes that a view's cache keeps, over all listings. A node takes about 400 bytes: 6 MB.
pub const CACHED_NODES: usize = 16_384;
/// Listings that a view's cache keeps; also bounds the cost of keeping their order.
pub const CACHED_LISTINGS: usize = 256;
/// Threads that write file contents. The work is system calls and decompression; more than 4 only wait on the disk.
pub const WORKERS_DEFAULT: usize = 3;
/// Names that are restored together; with their nodes about half a KiB each. A block is opened once for every batch that
/// wants something of it: on a spool of 100,000 mails, with 12,288 of them in a batch, 1.8 times the repository was read,
/// and on one of 20,000 1.4 times.
pub const BATCH_FILES: usize = 18_432;
/// Batches that workers have at a time; one more is being gathered. Fewer of them that are larger take the same memory
/// and open fewer blocks.
pub const BATCHES: usize = 1;
/// Chunks of a batch, about 90 bytes each.
pub const BATCH_CHUNKS: usize = 73_728;
/// Folders of a batch; each is open until the batch is done.
pub const BATCH_FOLDERS: usize = 256;
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
