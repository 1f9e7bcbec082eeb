//! Numbers that bound memory and work, with their units and reasons.

/// Nodes that a view's cache keeps, over all listings. A node takes about 250 bytes: 16 MB.
pub const CACHED_NODES: usize = 65_536;
/// Listings that a view's cache keeps; also bounds the cost of keeping their order.
pub const CACHED_LISTINGS: usize = 256;
/// Threads that write file contents. The work is system calls and decompression; more than 4 only wait on the disk.
pub const WORKERS_DEFAULT: usize = 3;
/// Files that wait for a worker. Bounds open folders and held listings; small, since a file is a short job.
pub const QUEUED_FILES: usize = 64;
/// Zeros are left out as holes in whole blocks of this many bytes, the block size of common file systems.
pub const HOLE_BLOCK: usize = 4096;
/// Small writes are gathered up to this many bytes.
pub const WRITE_BUFFER: usize = 1 << 20;
/// Files and folders in a row that a disk refuses to read before a restore is given up. A bad sector costs a few
/// neighbours that share a block; a disk that was pulled out costs everything.
pub const UNREACHABLE_IN_A_ROW: u32 = 16;
