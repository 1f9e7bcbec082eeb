//! What a snapshot's own configuration says of its trees.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mailkeep_format::Node;
use mailkeep_mail::Source;
use mailkeep_mail::cyrus::profile::CyrusProfile;
use mailkeep_mail::source::{CyrusOptions, System};

use crate::{RebuildError, Snapshot};

/// The trees of a snapshot, by the keys that name them.
pub struct Layout {
    /// Where its imapd.conf lies.
    pub config: PathBuf,
    /// Trees: key, path, and the folder that is there, if there is one.
    pub trees: Vec<(String, PathBuf, Option<Node>)>,
    /// Folders that the configuration names, also those within a tree.
    pub folders: BTreeMap<String, PathBuf>,
    /// Those of them that are there.
    pub there: Vec<String>,
    /// Settings that say how files are laid out and written.
    pub shape: Vec<(String, String)>,
}

impl Layout {
    /// Reads it: the imapd.conf where the source file has it, else the one nearest to the top.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn of(snapshot: &Snapshot<'_>, source: &Source) -> Result<Layout, RebuildError> {
        let System::Cyrus(options) = &source.system else {
            let why = "only a Cyrus server is rebuilt as a whole; restore files by `mailkeep restore`";
            return Err(RebuildError::Unfit { why: why.to_owned() });
        };
        let here = snapshot.find(&options.imapd_conf)?.filter(|(_, node)| node.is_file());
        let config = match here {
            Some(_) => options.imapd_conf.clone(),
            None => snapshot.nearest(b"imapd.conf")?.ok_or_else(|| RebuildError::Unfit {
                why: "the snapshot has no imapd.conf, so that it is not known which trees it has; restore files by \
                      `mailkeep restore`"
                    .to_owned(),
            })?,
        };
        let options = CyrusOptions { imapd_conf: config.clone(), ..options.clone() };
        let profile = CyrusProfile::new(&options, &mut |path| snapshot.read(path))?;
        let mut trees = Vec::new();
        for root in profile.roots() {
            let role = root.named_by.split(" in ").next().unwrap_or_default().to_owned();
            let node = snapshot.find(&root.path)?.filter(|(_, node)| node.is_directory());
            trees.push(match node {
                Some((real, node)) => (role, real, Some(node)),
                None => (role, root.path.clone(), None),
            });
        }
        let folders: BTreeMap<_, _> = profile.named_folders().into_iter().collect();
        let mut there = Vec::new();
        for (key, path) in &folders {
            if snapshot.find(path)?.is_some_and(|(_, node)| node.is_directory()) {
                there.push(key.clone());
            }
        }
        Ok(Layout { config, trees, folders, there, shape: profile.shape() })
    }
}
