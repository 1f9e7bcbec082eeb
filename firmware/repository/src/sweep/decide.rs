//! Which snapshots go: what retention says, and of which sources nothing goes because their newest snapshot is damaged.
//! Follows COMMIT.md, "Prune", step 2.

use std::collections::BTreeSet;

use mailkeep_format::SnapshotId;

use super::{PruneLine, PruneOptions};
use crate::error::RepositoryError;
use crate::monitor::{Monitor, Problem, Severity};
use crate::repository::Repository;
use crate::retention::{self, Candidate, Halt, Reason, Terms};
use crate::snapshots::{Manifests, SnapshotEntry};

/// What was decided about the snapshots.
pub(super) struct Decided {
    pub(super) manifests: Manifests,
    pub(super) lines: Vec<PruneLine>,
    pub(super) halts: Vec<(String, Halt)>,
    pub(super) going: BTreeSet<SnapshotId>,
}

pub(super) fn decide(
    repository: &Repository,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<Decided, RepositoryError> {
    let manifests = Manifests::load(repository, monitor)?;
    if manifests.incomplete {
        let why = "a manifest cannot be read, so what it needs is not known".to_owned();
        return Err(RepositoryError::NotSwept { why });
    }
    if manifests.swept.newer {
        let why = "a sweep record needs a newer version of mailkeep".to_owned();
        return Err(RepositoryError::NotSwept { why });
    }
    let asked = |entry: &&SnapshotEntry| {
        options.sources.is_empty() || options.sources.contains(&entry.manifest.source.name)
    };
    let entries: Vec<&SnapshotEntry> = manifests.entries.iter().filter(asked).collect();
    let candidates: Vec<Candidate> = entries.iter().map(|entry| candidate(entry)).collect();
    let terms = Terms { keep: options.keep, clock: options.clock, accept_shrunk: options.accept_shrunk };
    let decision = retention::decide(&candidates, &terms);
    let mut lines = Vec::new();
    for (candidate, verdict) in candidates.into_iter().zip(decision.verdicts) {
        let Candidate { id, generation, source, time, consistent, files, bytes } = candidate;
        let reasons = verdict.reasons;
        lines.push(PruneLine { id, generation, source, time, consistent, files, bytes, reasons });
    }
    let going = lines.iter().filter(|line| line.reasons.is_empty()).map(|line| line.id).collect();
    for (source, halt) in &decision.halts {
        monitor.problem(&Problem::new(Severity::Note, source.as_str(), halt.to_string()));
    }
    Ok(Decided { manifests, lines, halts: decision.halts, going })
}

fn candidate(entry: &SnapshotEntry) -> Candidate {
    let manifest = &entry.manifest;
    Candidate {
        id: entry.id,
        generation: manifest.generation,
        source: manifest.source.name.clone(),
        time: manifest.started,
        consistent: manifest.consistent,
        files: manifest.stats.files,
        bytes: manifest.stats.bytes,
    }
}

impl Decided {
    /// Nothing of these sources goes after all. Whether that changed anything.
    pub(super) fn halt(&mut self, sources: &BTreeSet<String>, monitor: &dyn Monitor) -> bool {
        let mut halted = BTreeSet::new();
        for line in &mut self.lines {
            if line.reasons.is_empty() && sources.contains(&line.source) {
                line.reasons.push(Reason::Halted);
                self.going.remove(&line.id);
                halted.insert(line.source.clone());
            }
        }
        for source in &halted {
            monitor.problem(&Problem::new(Severity::Note, source.as_str(), Halt::Damaged.to_string()));
            self.halts.push((source.clone(), Halt::Damaged));
        }
        !halted.is_empty()
    }

    /// The snapshots that stay, by generation.
    pub(super) fn staying(&self) -> Vec<&SnapshotEntry> {
        self.manifests.entries.iter().filter(|entry| !self.going.contains(&entry.id)).collect()
    }
}
