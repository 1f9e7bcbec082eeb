//! Caps that every decoder checks before it allocates. Sizes in bytes unless said otherwise.

/// Longest file name (Linux `NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Longest symlink target (Linux `PATH_MAX`).
pub const TARGET_MAX: usize = 4096;
/// Longest value of one extended attribute (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_MAX: usize = 65_536;
/// Most extended attributes of one file (`XATTR_LIST_MAX` is 64 KiB of names; a name takes at least a few bytes).
pub const XATTR_COUNT_MAX: usize = 4096;
/// Largest chunk; the chunkers stay far below it.
pub const CHUNK_MAX: usize = 1 << 20;
/// Most chunks of one file: 2^32 chunks of 64 KiB are 256 TiB.
pub const CHUNKS_PER_FILE_MAX: u64 = 1 << 32;
/// Deepest directory nesting that is walked, encoded or restored.
pub const DEPTH_MAX: usize = 1024;
