//! Which tree of a snapshot goes where on a server: by the keys that name them, so that paths may differ.
//!
//! What lies within a tree has to lie in the same place within the same tree on both sides; else files would come to lie
//! where the server does not look for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mailkeep_format::Node;
use mailkeep_link::rebuild::Trees;

use crate::{Layout, RebuildError, import};

/// A tree of the server and what it is to become.
#[derive(Debug)]
pub struct Match {
    /// The key that names it.
    pub role: String,
    /// Where it is on the server, for people.
    pub server_path: String,
    /// Where it is in the snapshot.
    pub path: PathBuf,
    /// The folder in the snapshot; the tree becomes an empty one if there is none.
    pub node: Option<Node>,
}

/// Brings both together, in the server's order.
///
/// # Errors
/// They do not fit; says how.
pub fn matching(layout: &Layout, server: &Trees) -> Result<Vec<Match>, RebuildError> {
    let unfit = |why: String| Err(RebuildError::Unfit { why });
    for (role, path, node) in &layout.trees {
        if node.is_some() && !server.trees.iter().any(|tree| tree.role == *role) {
            return unfit(format!(
                "the snapshot has {} as {role}, and the server's imapd.conf has no tree for it; name one there first",
                path.display()
            ));
        }
    }
    // Where the kind of the list's database differs, the list is imported.
    let differs = |one: &[(String, String)], other: &[(String, String)]| {
        one.iter().find(|pair| pair.0 != import::KIND && !other.contains(pair)).map(|(key, _)| key.clone())
    };
    if let Some(key) = differs(&layout.shape, &server.shape).or_else(|| differs(&server.shape, &layout.shape))
    {
        return unfit(format!(
            "{key} is set differently in the imapd.conf of the server and in that of the snapshot ({}), so that the server could \
             not use its files; make them alike, or restore files by `mailkeep restore`",
            layout.config.display()
        ));
    }
    let theirs: BTreeMap<String, PathBuf> =
        server.folders.iter().map(|(key, path)| (key.clone(), PathBuf::from(path))).collect();
    let roles_there: Vec<&str> = server.trees.iter().map(|tree| tree.role.as_str()).collect();
    let roles_here: Vec<&str> = layout.trees.iter().map(|(role, ..)| role.as_str()).collect();
    for key in &layout.there {
        let (here, there) = (within(key, &layout.folders, &roles_here), within(key, &theirs, &roles_there));
        if here != there {
            return unfit(format!(
                "{key} lies elsewhere within its tree on the server than in the snapshot; make both imapd.conf alike, or \
                 restore files by `mailkeep restore`"
            ));
        }
    }
    let of = |role: &str| layout.trees.iter().find(|(known, ..)| known == role);
    Ok(server
        .trees
        .iter()
        .map(|tree| {
            let known = of(&tree.role);
            Match {
                role: tree.role.clone(),
                server_path: tree.path.clone(),
                path: known.map_or_else(PathBuf::new, |(_, path, _)| path.clone()),
                node: known.and_then(|(_, _, node)| node.clone()),
            }
        })
        .collect())
}

/// The tree that the folder of a key lies in, and where in it.
fn within<'a>(
    key: &str,
    folders: &'a BTreeMap<String, PathBuf>,
    roles: &[&str],
) -> Option<(&'a str, &'a Path)> {
    let path = folders.get(key)?;
    let holds = |(role, top): (&'a String, &'a PathBuf)| {
        let below = path.strip_prefix(top).ok()?;
        roles.contains(&role.as_str()).then_some((role.as_str(), below))
    };
    folders.iter().filter_map(holds).min_by_key(|(_, below)| below.components().count())
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, NodeKind};
    use mailkeep_link::rebuild::Tree;

    use super::*;

    fn shape() -> Vec<(String, String)> {
        ["annotation_db", "mboxlist_db"].map(|key| (key.to_owned(), "twoskip".to_owned())).to_vec()
    }

    fn layout(trees: &[(&str, &str)], folders: &[(&str, &str)]) -> Layout {
        let node = Node {
            name: b"x".to_vec(),
            meta: Meta { links: 1, ..Meta::default() },
            kind: NodeKind::Directory { content: Vec::new() },
        };
        let trees = trees.iter().map(|(role, path)| ((*role).to_owned(), (*path).into(), Some(node.clone())));
        let folders: BTreeMap<String, PathBuf> =
            folders.iter().map(|(key, path)| ((*key).to_owned(), (*path).into())).collect();
        let there = folders.keys().cloned().collect();
        let shape = shape();
        Layout { config: "/etc/imapd.conf".into(), trees: trees.collect(), folders, there, shape }
    }

    fn server(trees: &[(&str, &str)], folders: &[(&str, &str)]) -> Trees {
        let tree = |(role, path): &(&str, &str)| Tree {
            role: (*role).to_owned(),
            path: (*path).to_owned(),
            device: 1,
            free: 0,
        };
        Trees {
            trees: trees.iter().map(tree).collect(),
            folders: folders.iter().map(|(key, path)| ((*key).to_owned(), (*path).to_owned())).collect(),
            shape: shape(),
            stop: String::new(),
            runs: None,
            standby: None,
            may_stand_by: false,
            kept: Vec::new(),
            kept_of: None,
        }
    }

    const SNAPSHOT: &[(&str, &str)] = &[("configdirectory", "/a/conf"), ("partition-default", "/a/spool")];

    #[test]
    fn trees_find_each_other_by_their_keys() {
        let there = &[("configdirectory", "/b/c"), ("partition-default", "/b/s"), ("partition-new", "/b/n")];
        let matched = matching(&layout(SNAPSHOT, SNAPSHOT), &server(there, there)).unwrap();
        let paths: Vec<_> =
            matched.iter().map(|one| (one.path.to_str().unwrap(), one.node.is_some())).collect();
        assert_eq!(paths, [("/a/conf", true), ("/a/spool", true), ("", false)]);
    }

    #[test]
    fn a_tree_without_a_place_is_refused() {
        let there = &[("configdirectory", "/b/c")];
        let error = matching(&layout(SNAPSHOT, SNAPSHOT), &server(there, there)).unwrap_err();
        assert!(error.to_string().contains("partition-default"), "{error}");
    }

    #[test]
    fn other_databases_are_refused() {
        let mut there = server(SNAPSHOT, SNAPSHOT);
        assert!(matching(&layout(SNAPSHOT, SNAPSHOT), &there).is_ok());
        there.shape.clear();
        let error = matching(&layout(SNAPSHOT, SNAPSHOT), &there).unwrap_err();
        assert!(error.to_string().contains("annotation_db"), "{error}");
        // That one is made anew.
        there.shape = shape();
        there.shape[1].1 = "skiplist".to_owned();
        assert!(matching(&layout(SNAPSHOT, SNAPSHOT), &there).is_ok());
    }

    #[test]
    fn what_lies_within_a_tree_has_to_lie_alike() {
        let inner = |at: &'static str| [SNAPSHOT, &[("sievedir", at)]].concat();
        let matched = |here: &'static str, there: &'static str| {
            matching(&layout(SNAPSHOT, &inner(here)), &server(SNAPSHOT, &inner(there)))
        };
        assert!(matched("/a/conf/sieve", "/a/conf/sieve").is_ok());
        let error = matched("/a/conf/sieve", "/a/conf/scripts").unwrap_err();
        assert!(error.to_string().contains("sievedir"), "{error}");
        assert!(matched("/a/conf/sieve", "/a/spool/sieve").is_err());
    }
}
