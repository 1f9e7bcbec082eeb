//! `stats`: how much is in the repository, and what it takes.

use std::collections::BTreeSet;

use mailkeep_repository::Storage;
use serde::Serialize;

use crate::App;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{repo, signal, units};

#[derive(Serialize)]
struct Stats {
    message_type: &'static str,
    repository_id: String,
    label: String,
    created: String,
    encrypted: bool,
    sources: Vec<String>,
    snapshots: u64,
    /// Sum over all snapshots, as if each were a full copy.
    snapshot_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    index_bytes: u64,
    /// All files of the repository.
    repository_bytes: u64,
    free_bytes: u64,
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
    let entries = repository.snapshots(&Ear::new(&app.console))?;
    let storage = &**repository.storage();
    let (packs, index, all) = (sum(storage, "packs")?, sum(storage, "index")?, sum(storage, "")?);
    let sources: BTreeSet<String> = entries.iter().map(|entry| entry.manifest.source.name.clone()).collect();
    let label = repository.label();
    let stats = Stats {
        message_type: "summary",
        repository_id: repository.id().hex(),
        label: label.label.clone(),
        created: units::utc(label.created),
        encrypted: repository.encrypted(),
        sources: sources.into_iter().collect(),
        snapshots: entries.len() as u64,
        snapshot_bytes: entries.iter().map(|entry| entry.manifest.stats.bytes).sum(),
        packs: packs.files,
        pack_bytes: packs.bytes,
        index_bytes: index.bytes,
        repository_bytes: all.bytes,
        free_bytes: repository.free_space()?,
    };
    if app.console.json {
        app.console.object(&stats)?;
        return Ok(exit::DONE);
    }
    let field = |name: &str, value: String| app.console.line(&format!("{name:12} {value}"));
    field("Repository", format!("{} (\"{}\")", stats.repository_id, stats.label))?;
    field("Made", units::local(label.created))?;
    field("Encrypted", if stats.encrypted { "yes" } else { "no" }.to_owned())?;
    field(
        "Sources",
        if stats.sources.is_empty() { "none yet".to_owned() } else { stats.sources.join(", ") },
    )?;
    let ratio = if stats.repository_bytes > 0 && stats.snapshot_bytes > 0 {
        format!(
            ", {:.1} times what they take here",
            stats.snapshot_bytes as f64 / stats.repository_bytes as f64
        )
    } else {
        String::new()
    };
    let snapshots = units::counted(stats.snapshots, "snapshot", "snapshots");
    field("Snapshots", format!("{snapshots}, {} as full copies{ratio}", units::size(stats.snapshot_bytes)))?;
    let packs = units::counted(stats.packs, "pack", "packs");
    field("Packs", format!("{packs}, {}", units::size(stats.pack_bytes)))?;
    field("Index", units::size(stats.index_bytes))?;
    field(
        "In all",
        format!("{}, {} free", units::size(stats.repository_bytes), units::size(stats.free_bytes)),
    )?;
    Ok(exit::DONE)
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
