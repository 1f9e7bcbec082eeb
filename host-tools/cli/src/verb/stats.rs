//! `stats`: how much is in the repository, what it takes, and how long ago it was read back.

use mailkeep_repository::{SourceStatistics, Statistics, Storage};
use serde::Serialize;

use crate::App;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::report;
use crate::{repo, signal, units};

#[derive(Serialize)]
struct Stats {
    message_type: &'static str,
    repository_id: String,
    label: String,
    created: String,
    encrypted: bool,
    sources: Vec<Source>,
    snapshots: u64,
    /// Sum over all snapshots, as if each were a full copy.
    snapshot_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    blocks: u64,
    chunks: u64,
    /// What lies in the packs, opened and as it is stored.
    raw_bytes: u64,
    stored_bytes: u64,
    /// How often what is stored is used; how far it is compressed; both together.
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    total_ratio: Option<f64>,
    /// Packs that nothing needs any more and that a later prune deletes.
    waste_packs: u64,
    waste_bytes: u64,
    quarantine_bytes: u64,
    index_runs: u64,
    index_bytes: u64,
    /// All files of the repository.
    repository_bytes: u64,
    free_bytes: u64,
    verification: Verification,
}

#[derive(Serialize)]
struct Source {
    name: String,
    snapshots: u64,
    bytes: u64,
    newest_bytes: u64,
    added_bytes: u64,
}

#[derive(Serialize)]
struct Verification {
    last: Option<String>,
    oldest: Option<String>,
    packs_waiting: u64,
    damaged_packs: u64,
    lost_snapshots: u64,
}

/// Files and bytes below a folder of the repository.
#[derive(Clone, Copy, Default)]
struct Sum {
    files: u64,
    bytes: u64,
}

pub(crate) fn run(app: &App) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let repository = repo::open(app)?;
    let counted = repository.statistics(&Ear::new(&app.console))?;
    let all = sum(&**repository.storage(), "")?;
    app.console.settle();
    let label = repository.label();
    if app.console.json {
        let stats = Stats {
            repository_id: repository.id().hex(),
            label: label.label.clone(),
            created: units::utc(label.created),
            encrypted: repository.encrypted(),
            repository_bytes: all.bytes,
            free_bytes: repository.free_space()?,
            ..of(&counted)
        };
        app.console.object(&stats)?;
        return Ok(exit::DONE);
    }
    let field = |name: &str, value: String| app.console.line(&format!("{name:12} {value}"));
    field("Repository", format!("{} (\"{}\")", repository.id().hex(), label.label))?;
    field("Made", units::local(label.created))?;
    field("Encrypted", report::yes_no(repository.encrypted()))?;
    if counted.sources.is_empty() {
        field("Sources", report::NO_SOURCES.to_owned())?;
    }
    for source in &counted.sources {
        field("Source", report::source_sums(source))?;
    }
    let free = repository.free_space()?;
    for (name, value) in report::statistics(&counted, all.bytes, free) {
        field(name, value)?;
    }
    Ok(exit::DONE)
}

fn of(counted: &Statistics) -> Stats {
    let snapshot_bytes = counted.sources.iter().map(|source| source.bytes).sum();
    let age = &counted.verification;
    let sources = counted.sources.iter().map(|source: &SourceStatistics| Source {
        name: source.name.clone(),
        snapshots: source.snapshots,
        bytes: source.bytes,
        newest_bytes: source.newest_bytes,
        added_bytes: source.added_bytes,
    });
    Stats {
        message_type: "summary",
        repository_id: String::new(),
        label: String::new(),
        created: String::new(),
        encrypted: false,
        sources: sources.collect(),
        snapshots: counted.sources.iter().map(|source| source.snapshots).sum(),
        snapshot_bytes,
        packs: counted.packs,
        pack_bytes: counted.pack_bytes,
        blocks: counted.blocks,
        chunks: counted.chunks,
        raw_bytes: counted.raw_bytes,
        stored_bytes: counted.stored_bytes,
        dedup_ratio: units::ratio(snapshot_bytes, counted.raw_bytes),
        compression_ratio: units::ratio(counted.raw_bytes, counted.stored_bytes),
        total_ratio: units::ratio(snapshot_bytes, counted.pack_bytes),
        waste_packs: counted.tombstoned_packs,
        waste_bytes: counted.tombstoned_bytes,
        quarantine_bytes: counted.quarantine_bytes,
        index_runs: counted.index_runs,
        index_bytes: counted.index_bytes,
        repository_bytes: 0,
        free_bytes: 0,
        verification: Verification {
            last: age.last.map(units::utc),
            oldest: age.oldest.map(units::utc),
            packs_waiting: age.packs_waiting,
            damaged_packs: age.damaged_packs,
            lost_snapshots: age.lost_snapshots,
        },
    }
}

fn sum(storage: &dyn Storage, folder: &str) -> Result<Sum, Failure> {
    let mut total = Sum::default();
    for entry in storage.list(folder)? {
        if entry.directory {
            let below = match folder {
                "" => entry.name,
                _ => format!("{folder}/{}", entry.name),
            };
            let inner = sum(storage, &below)?;
            total = Sum { files: total.files + inner.files, bytes: total.bytes + inner.bytes };
        } else {
            total = Sum { files: total.files + 1, bytes: total.bytes + entry.length };
        }
    }
    Ok(total)
}
