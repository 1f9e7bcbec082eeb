//! zstd level, block size, and the length from which a chunk has a block of its own: what each costs and saves.
//!
//! Chunks are cut, made unique and grouped as the writer does it, and compressed (and proven) by the very code; only the
//! numbers vary. The doc comments of `mailkeep_format::DEFAULT_LEVEL` and `SMALL_LEVEL`, `mailkeep_format::limits::BLOCK_TARGET`
//! and `mailkeep_repository::limits::{LARGE_CHUNK, LARGE_BASE64}` rest on this table.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mailkeep_format::base64::begins_as_base64;
use mailkeep_format::block::{BlockCompressor, is_of_small_chunks};
use mailkeep_format::cut::{CutStyle, cut};
use mailkeep_format::{ChunkKind, ContentHash, DEFAULT_LEVEL, SMALL_LEVEL, limits};
use mailkeep_repository::limits::{LARGE_BASE64, LARGE_CHUNK};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::options::Options;
use crate::spool::Spool;

/// One choice of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Choice {
    /// Level of blocks of several chunks.
    level: i32,
    /// Level of those whose chunks are small.
    small_level: i32,
    /// Level of blocks of one large chunk, which is mostly base64 that has no repeats to be found.
    lone_level: i32,
    block: usize,
    large: usize,
    /// As `large`, of base64.
    base64: usize,
}

/// What a choice came to.
#[derive(Clone, Copy, Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    choice: Choice,
    stored: u64,
    cpu: f64,
    blocks: u64,
    /// Those of them whose chunks are small.
    small_blocks: u64,
    /// Mean bytes that must be decoded to read one chunk.
    per_chunk: f64,
}

const CHOSEN: Choice = Choice {
    level: DEFAULT_LEVEL,
    small_level: SMALL_LEVEL,
    lone_level: DEFAULT_LEVEL,
    block: limits::BLOCK_TARGET,
    large: LARGE_CHUNK,
    base64: LARGE_BASE64,
};

/// Writes a spool, and prints a line per choice.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scratch = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .context("make a work folder")?;
    let spool = Spool::create(&scratch.path().join("spool"), options.shape, options.seed)?;
    let mut chunks = Chunks::default();
    chunks.gather(spool.root())?;
    let (unique, raw) = (chunks.lengths.len(), chunks.bytes.len() as f64 / 1e6);
    eprintln!("{:.1} MB of files, {raw:.1} MB in {unique} chunks that differ", chunks.source as f64 / 1e6);
    if !options.json {
        println!(
            "{:>5} {:>5} {:>6} {:>9} {:>9} {:>10} {:>11} {:>9} {:>8} {:>8} {:>6} {:>13}",
            "level",
            "small",
            "alone",
            "block KiB",
            "alone KiB",
            "base64 KiB",
            "stored MB",
            "of source",
            "CPU s",
            "blocks",
            "small",
            "KiB per chunk"
        );
    }
    for choice in choices(options.all) {
        let outcome = measure(&chunks, choice)?;
        if options.json {
            println!("{}", serde_json::to_string(&outcome)?);
            continue;
        }
        println!(
            "{:>5} {:>5} {:>6} {:>9} {:>9} {:>10} {:>11.2} {:>9.4} {:>8.2} {:>8} {:>6} {:>13.0}{}",
            choice.level,
            choice.small_level,
            choice.lone_level,
            choice.block >> 10,
            choice.large >> 10,
            choice.base64 >> 10,
            outcome.stored as f64 / 1e6,
            outcome.stored as f64 / chunks.source as f64,
            outcome.cpu,
            outcome.blocks,
            outcome.small_blocks,
            outcome.per_chunk / 1024.0,
            if choice == CHOSEN { "  <- in use" } else { "" }
        );
    }
    Ok(())
}

/// One number varied at a time around what is in use, or all with all.
fn choices(all: bool) -> Vec<Choice> {
    let levels = 1..=9;
    // Past the format's cap a block would not be read.
    let blocks = (17..=22).map(|bits| 1 << bits).filter(|&block| block <= limits::BLOCK_RAW_MAX);
    let larges = (14..=19).map(|bits| 1 << bits);
    if all {
        let pairs = blocks.flat_map(|block| larges.clone().map(move |large| (block, large)));
        let all = pairs.flat_map(|(block, large)| {
            levels.clone().map(move |level| Choice {
                level,
                small_level: level,
                lone_level: level,
                block,
                large,
                base64: LARGE_BASE64.min(large),
            })
        });
        return all.filter(|choice| choice.large <= choice.block).collect();
    }
    let mut choices: Vec<Choice> = levels
        .clone()
        .map(|level| Choice { level, small_level: level, lone_level: level, ..CHOSEN })
        .collect();
    choices.extend(levels.take(4).map(|small_level| Choice { small_level, ..CHOSEN }));
    choices.extend(blocks.map(|block| Choice { block, large: LARGE_CHUNK.min(block), ..CHOSEN }));
    choices.extend(larges.clone().map(|large| Choice { large, ..CHOSEN }));
    choices.extend(larges.map(|base64| Choice { base64, ..CHOSEN }));
    let larges = [64 << 10, 128 << 10].into_iter();
    choices.extend(
        larges.flat_map(|large| [-5, -1, 1].map(|lone_level| Choice { large, lone_level, ..CHOSEN })),
    );
    choices
}

/// The chunks of a spool, each once, in the order of the backup.
#[derive(Default)]
struct Chunks {
    source: u64,
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    seen: HashSet<[u8; 32]>,
}

impl Chunks {
    fn gather(&mut self, folder: &Path) -> Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.gather(&path)?;
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let message = path.to_string_lossy().ends_with('.');
            let style = if message { CutStyle::Message } else { CutStyle::Plain };
            self.source += bytes.len() as u64;
            let mut rest = &bytes[..];
            for length in cut(style, &bytes) {
                let (chunk, after) = rest.split_at(length);
                rest = after;
                if self.seen.insert(ContentHash::of(chunk).0) {
                    self.bytes.extend_from_slice(chunk);
                    self.lengths.push(length);
                }
            }
        }
        Ok(())
    }
}

fn measure(chunks: &Chunks, choice: Choice) -> Result<Outcome> {
    let mut together = BlockCompressor::with_levels(choice.small_level, choice.level)?;
    let mut lone = BlockCompressor::with_levels(choice.lone_level, choice.lone_level)?;
    let mut outcome = Outcome { choice, stored: 0, cpu: 0.0, blocks: 0, small_blocks: 0, per_chunk: 0.0 };
    let mut close = |raw: &mut Vec<u8>, count: usize, outcome: &mut Outcome| -> Result<()> {
        if !raw.is_empty() {
            let compressor = if count == 1 { &mut lone } else { &mut together };
            outcome.stored += u64::from(compressor.compress(ChunkKind::Data, raw, count)?.stored_len());
            outcome.blocks += 1;
            outcome.small_blocks += u64::from(is_of_small_chunks(raw.len(), count));
            outcome.per_chunk += (raw.len() * count) as f64;
            raw.clear();
        }
        Ok(())
    };
    let start = cpu_seconds();
    let (mut open, mut count, mut alone) = (Vec::new(), 0, Vec::new());
    let mut rest = &chunks.bytes[..];
    for &length in &chunks.lengths {
        let (chunk, after) = rest.split_at(length);
        rest = after;
        let base64 = || length >= choice.base64 && begins_as_base64(chunk);
        if length >= choice.large || base64() {
            alone.extend_from_slice(chunk);
            close(&mut alone, 1, &mut outcome)?;
            continue;
        }
        if open.len() + length > choice.block || count >= limits::BLOCK_CHUNKS_MAX {
            close(&mut open, count, &mut outcome)?;
            count = 0;
        }
        open.extend_from_slice(chunk);
        count += 1;
    }
    close(&mut open, count, &mut outcome)?;
    outcome.cpu = cpu_seconds() - start;
    outcome.per_chunk /= chunks.lengths.len().max(1) as f64;
    Ok(outcome)
}

/// CPU seconds of this thread so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
