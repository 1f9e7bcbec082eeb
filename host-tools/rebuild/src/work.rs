//! Plan and build: what a server lacks of a snapshot is looked at, and then sent.

use std::collections::BTreeMap;

use mailkeep_link::rebuild::{Raised, Trees};
use mailkeep_mail::Source;

use crate::mover::{Counts, Mover, Progress};
use crate::server::Server;
use crate::{Import, Layout, Match, RebuildError, Snapshot, import, limits, matching};

/// What would be done.
#[derive(Debug)]
pub struct Plan {
    /// The server's own name for itself.
    pub host: String,
    /// Versions there.
    pub versions: Vec<(String, String)>,
    /// Those of the server that the snapshot is of, by the same names.
    pub snapshot_versions: Vec<(String, String)>,
    /// The list of mailboxes is imported, because Cyrus or its database is another one there.
    pub import: Option<Import>,
    /// What the agent remarked.
    pub remarks: Vec<String>,
    /// What the agent said of the server.
    pub trees: Trees,
    /// Which tree becomes what.
    pub matches: Vec<Match>,
    /// Files and bytes; what is to be sent is told by size and time, so that it may be a little more or less.
    pub counts: Counts,
    /// Room on each file system.
    pub spaces: Vec<Space>,
}

/// Room on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// A tree on it.
    pub path: String,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that are needed.
    pub needed: u64,
}

impl Server<'_> {
    /// Looks what would be done; nothing is written.
    ///
    /// # Errors
    /// Snapshot and server do not fit, or something cannot be read.
    pub fn plan(
        &mut self,
        snapshot: &Snapshot<'_>,
        source: &Source,
        progress: Progress<'_>,
    ) -> Result<Plan, RebuildError> {
        let configured = self.configured.clone();
        let versions = configured.as_ref().map(|configured| configured.versions.clone()).unwrap_or_default();
        let layout = Layout::of(snapshot, source)?;
        let trees = self.trees()?;
        let import = import::needed(snapshot, &versions, (&layout.shape, &trees.shape))?;
        if import.is_some() && !self.takes_lists() {
            return Err(RebuildError::TooOld { host: self.host.clone() });
        }
        let matches = matching::matching(&layout, &trees)?;
        self.raise(snapshot, true)?;
        let mut counts = Counts::default();
        let mut spaces: BTreeMap<u64, Space> = BTreeMap::new();
        let mut mover = Mover::new(self, snapshot, true, progress);
        for ((index, one), tree) in (0u32..).zip(&matches).zip(&trees.trees) {
            let of_tree = mover.tree(index, one)?;
            counts.files += of_tree.files;
            counts.bytes += of_tree.bytes;
            counts.sent_files += of_tree.sent_files;
            counts.sent_bytes += of_tree.sent_bytes;
            counts.copied_bytes += of_tree.copied_bytes;
            let space = spaces.entry(tree.device).or_insert_with(|| Space {
                path: tree.path.clone(),
                free: tree.free,
                needed: limits::SPACE_MARGIN,
            });
            space.needed +=
                of_tree.sent_bytes + of_tree.copied_bytes + of_tree.sent_files * limits::FILE_COST;
        }
        self.raised()?;
        Ok(Plan {
            host: configured.map_or_else(|| self.host.clone(), |configured| configured.host),
            snapshot_versions: same_names(&snapshot.manifest.versions, &versions),
            remarks: self.take_remarks().into_iter().map(|(what, _)| what).collect(),
            versions,
            import,
            trees,
            matches,
            counts,
            spaces: spaces.into_values().collect(),
        })
    }

    /// Builds the trees beside those that are served.
    ///
    /// # Errors
    /// There is no room, something cannot be read or written, the list cannot be imported, or the link broke. What is served
    /// was not touched.
    pub fn build(
        &mut self,
        snapshot: &Snapshot<'_>,
        plan: &Plan,
        progress: Progress<'_>,
    ) -> Result<(Counts, Raised), RebuildError> {
        if let Some(Space { path, free, needed }) = plan.spaces.iter().find(|space| space.needed > space.free)
        {
            return Err(RebuildError::NoRoom { path: path.clone(), free: *free, needed: *needed });
        }
        self.raise(snapshot, false)?;
        let mut mover = Mover::new(self, snapshot, false, progress);
        let mut sums = Counts::default();
        for (index, one) in (0u32..).zip(&plan.matches) {
            let of_tree = mover.tree(index, one)?;
            sums.files += of_tree.files;
            sums.bytes += of_tree.bytes;
            sums.sent_files += of_tree.sent_files;
            sums.sent_bytes += of_tree.sent_bytes;
        }
        let raised = self.raised()?;
        if let Some(import) = &plan.import {
            self.import(import)?;
        }
        Ok((sums, raised))
    }
}

/// Those versions that the server tells of itself too: a snapshot notes more than that.
fn same_names(snapshot: &[(String, String)], server: &[(String, String)]) -> Vec<(String, String)> {
    let is_told = |name: &str| server.iter().any(|(told, _)| told == name);
    snapshot.iter().filter(|(name, _)| is_told(name)).cloned().collect()
}
