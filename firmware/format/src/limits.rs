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
/// Raw bytes gathered into one block before it is compressed. `mailkeep-bench levels` (150 MB of chunks of mail): 128 KiB
/// leaves 86.0 MB, 512 KiB 84.7, 1 MiB 84.0, 2 MiB 83.8; reading one mail back costs decoding one block, which is why it is
/// not larger.
pub const BLOCK_TARGET: usize = 1 << 20;
/// Blocks whose chunks are shorter than this on average are worth a closer look for repeats ([`crate::SMALL_LEVEL`]): they
/// are small mails and their headers, which are much alike. In a spool of mails of 2 to 8 KB the average is 2.8 to 3.3 KB,
/// in one of a company's mail 4.5 to 15.
pub const SMALL_CHUNK: usize = 4 << 10;
/// Most raw bytes of one block: a block just short of its target takes one more chunk.
pub const BLOCK_RAW_MAX: usize = BLOCK_TARGET + CHUNK_MAX;
/// Most chunks of one block: at 1 MiB a chunk has 64 bytes on average, which only a flood of tiny files reaches.
pub const BLOCK_CHUNKS_MAX: usize = 1 << 14;
/// A pack that has reached this length is closed: few enough files for any file system, small enough to lose.
pub const PACK_TARGET: usize = 32 << 20;
/// Longest pack file.
pub const PACK_MAX: u64 = 64 << 20;
/// Most blocks of one pack; well-compressing data makes many small ones.
pub const PACK_BLOCKS_MAX: usize = 1 << 14;
/// Most chunks of one pack; keeps the footer under 8 MiB.
pub const PACK_CHUNKS_MAX: usize = 1 << 18;
/// Longest pack footer: every chunk at its longest (24 + 3 bytes), every block at its longest (13 bytes).
pub const PACK_FOOTER_MAX: usize = PACK_CHUNKS_MAX * 27 + PACK_BLOCKS_MAX * 13 + 16;
/// Longest key file: an age file for a handful of recipients is under 2 KiB.
pub const KEY_FILE_MAX: usize = 64 << 10;
/// Longest label file.
pub const LABEL_FILE_MAX: usize = 64 << 10;
/// Longest manifest before compression. New packs dominate: 34 bytes each, 34 MB for a first backup of 32 TiB.
pub const MANIFEST_RAW_MAX: usize = 64 << 20;
/// Longest manifest file: compression adds at most a little to what it cannot shrink.
pub const MANIFEST_FILE_MAX: usize = MANIFEST_RAW_MAX + (1 << 20);
/// Most CBOR items of a manifest.
pub const MANIFEST_ITEMS_MAX: usize = 1 << 22;
/// Longest verification record: a quarter of a million damaged packs at 34 bytes each, and much of the rest.
pub const VERIFICATION_FILE_MAX: usize = 16 << 20;
/// Most CBOR items of a verification record.
pub const VERIFICATION_ITEMS_MAX: usize = 1 << 20;
/// Longest drill record: a thousand problems of a thousand bytes.
pub const DRILL_FILE_MAX: usize = 1 << 20;
/// Most CBOR items of a drill record.
pub const DRILL_ITEMS_MAX: usize = 1 << 16;
/// Longest checkpoint: the root trees of two passes, each of a thousand chunks.
pub const CHECKPOINT_FILE_MAX: usize = 1 << 20;
/// Most CBOR items of a checkpoint.
pub const CHECKPOINT_ITEMS_MAX: usize = 1 << 16;
/// Longest sweep record before compression: a million removed snapshots or deleted packs.
pub const SWEEP_RAW_MAX: usize = 64 << 20;
/// Longest sweep record file: compression adds at most a little to what it cannot shrink.
pub const SWEEP_FILE_MAX: usize = SWEEP_RAW_MAX + (1 << 20);
/// Most CBOR items of a sweep record.
pub const SWEEP_ITEMS_MAX: usize = 1 << 23;
/// Most packs of one index run.
pub const RUN_PACKS_MAX: u32 = 1 << 24;
/// Most entries of one index run: 10 million messages make about 25 million.
pub const RUN_ENTRIES_MAX: u64 = 1 << 34;
/// Files up to this length (8 MiB) are read whole before they are cut; longer ones are cut as they stream by, at the
/// same places.
pub const WHOLE_FILE_MAX: usize = 8 << 20;
/// Plain files up to this length are one chunk: cutting them finer saves less than the index entries cost.
pub const ONE_CHUNK_MAX: usize = 64 << 10;
/// Messages up to this length are one chunk.
pub const MESSAGE_CUT_MIN: usize = 4 << 10;
/// A message is not cut after its header if less than this would follow before the next cut.
pub const MESSAGE_PIECE_MIN: usize = 1 << 10;
/// Base64 parts from this length on are chunks of their own; 12 % of mails carry one, median 57 KB.
pub const MESSAGE_PART_MIN: usize = 16 << 10;
/// Base64 parts up to this length are one chunk.
pub const MESSAGE_PART_ONE_CHUNK_MAX: usize = 512 << 10;
/// Longest message header that is looked through; a message with a longer one is taken for text. Mail servers refuse
/// them from 100 KB (Postfix) or 1 MB (Exim) on.
pub const MESSAGE_HEADER_MAX: usize = 256 << 10;
/// Blank bytes before a delimiter that are looked back over, so that a part ends alike in every message.
pub const MESSAGE_BLANK_MAX: usize = 1 << 10;
/// Longest MIME part header that is looked through; a longer one is taken for text.
pub const MESSAGE_PART_HEADER_MAX: usize = 8 << 10;
/// Shortest, usual and longest chunk of file contents cut by content.
pub const DATA_CUT: (usize, usize, usize) = (16 << 10, 64 << 10, 256 << 10);
/// Bytes of a file that must be seen at a time to know its next cut: a base64 part that may still be one chunk, and what
/// may follow it.
pub const CUT_AHEAD_MAX: usize = MESSAGE_PART_ONE_CHUNK_MAX + (64 << 10);
/// Shortest, usual and longest chunk of encoded trees: a changed file costs a chunk or two of its folder's tree.
pub const TREE_CUT: (usize, usize, usize) = (4 << 10, 16 << 10, 64 << 10);
