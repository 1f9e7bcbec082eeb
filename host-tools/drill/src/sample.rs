//! What of a snapshot is rebuilt when not all of it is: drawn by lot, the same for the same seed.
//!
//! Of mail whole mailboxes are drawn, since one that is not whole can be neither checked nor served, and all that is no
//! mailbox comes with them: databases, filters, configuration. Of anything else single files are drawn.

use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::sync::Arc;

use mailkeep_format::drill::DrillSample;
use mailkeep_format::{ContentHash, Node};
use mailkeep_mailview::{MailTree, Mailbox};
use mailkeep_restorer::path::split;
use mailkeep_restorer::{Found, Next, PathSet, RestoreError, View, walk};

use crate::{DrillError, limits};

/// How much is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A share of the files, in percent, above 0 and up to 100.
    Percent(f64),
    /// So many files.
    Files(u64),
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "a sample is a share or a number of files, as 5% or 1000".to_owned();
        let amount = match text.strip_suffix('%') {
            Some(share) => Amount::Percent(share.trim_end().parse().map_err(|_| form())?),
            None => Amount::Files(text.parse().map_err(|_| form())?),
        };
        match amount {
            Amount::Percent(share) if !(share > 0.0 && share <= 100.0) => Err(form()),
            Amount::Files(0) => Err(form()),
            amount => Ok(amount),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Percent(share) => write!(f, "{share}%"),
            Amount::Files(1) => f.write_str("1 file"),
            Amount::Files(files) => write!(f, "{files} files"),
        }
    }
}

impl Amount {
    /// Of so many files, so many.
    fn of(self, files: u64) -> u64 {
        match self {
            // Rounded up: of a few files something is drawn too.
            Amount::Percent(share) => (files as f64 * share / 100.0).ceil() as u64,
            Amount::Files(wanted) => wanted,
        }
    }
}

/// Draws: each name has a place of its own for each seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lot {
    pub(crate) seed: u64,
}

impl Lot {
    pub(crate) fn place(self, name: &[u8]) -> u64 {
        let hash = ContentHash::of(&[&self.seed.to_le_bytes(), name].concat());
        let mut place = [0; 8];
        place.copy_from_slice(&hash.0[..8]);
        u64::from_le_bytes(place)
    }
}

/// What was drawn.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) paths: Arc<PathSet>,
    /// Internal names of the mailboxes that were drawn; `None` where there are none to be drawn.
    pub(crate) mailboxes: Option<HashSet<String>>,
    pub(crate) record: DrillSample,
}

/// Draws from a snapshot.
///
/// # Errors
/// It cannot be read, or too much was asked for.
pub(crate) fn draw(
    view: &View,
    mail: Option<&MailTree>,
    amount: Amount,
    lot: Lot,
    stop: &dyn Fn() -> bool,
) -> Result<Drawn, DrillError> {
    let mut of = 0;
    each_name(view, stop, &mut |_, node| of += u64::from(node.is_file()))?;
    let wanted = amount.of(of);
    if wanted > limits::SAMPLE_FILES {
        return Err(DrillError::SampleTooLarge { asked: wanted, most: limits::SAMPLE_FILES });
    }
    let (paths, mailboxes, files) = match mail.filter(|mail| !mail.mailboxes().is_empty()) {
        Some(mail) => draw_mailboxes(view, mail, wanted, lot, stop)?,
        None => draw_files(view, wanted, lot, stop)?,
    };
    let record = DrillSample { asked: amount.to_string(), seed: lot.seed, files, of };
    Ok(Drawn { paths: Arc::new(paths), mailboxes, record })
}

type Picked = (PathSet, Option<HashSet<String>>, u64);

/// The `wanted` files with the lowest places.
fn draw_files(view: &View, wanted: u64, lot: Lot, stop: &dyn Fn() -> bool) -> Result<Picked, DrillError> {
    let mut lowest: BinaryHeap<u64> = BinaryHeap::new();
    each_name(view, stop, &mut |path, node| {
        if node.is_file() {
            lowest.push(lot.place(path));
            if lowest.len() as u64 > wanted {
                lowest.pop();
            }
        }
    })?;
    let (mut paths, mut files) = (PathSet::default(), 0);
    let Some(last) = lowest.peek().copied() else { return Ok((paths, None, 0)) };
    each_name(view, stop, &mut |path, node| {
        if node.is_file() && lot.place(path) <= last {
            paths.add(path);
            files += 1;
        }
    })?;
    Ok((paths, None, files))
}

/// Mailboxes until they have `wanted` files, and all that lies outside of the partitions.
fn draw_mailboxes(
    view: &View,
    mail: &MailTree,
    wanted: u64,
    lot: Lot,
    stop: &dyn Fn() -> bool,
) -> Result<Picked, DrillError> {
    let mut order: Vec<&Mailbox> = mail.mailboxes().iter().collect();
    order.sort_by_key(|mailbox| lot.place(mailbox.name.as_str().as_bytes()));
    let (mut folders, mut names, mut drawn) = (HashSet::new(), HashSet::new(), 0);
    for mailbox in order {
        if drawn >= wanted {
            break;
        }
        for folder in mailbox.places() {
            // Where a part lies apart, a mailbox need not have it.
            if folders.insert(folder.to_vec()) {
                drawn += files_in(view, folder)?;
            }
        }
        names.insert(mailbox.name.as_str().to_owned());
    }
    let partitions: Vec<&[u8]> = mail.profile().map_or_else(Vec::new, |profile| {
        let all = profile.partitions().iter().flat_map(|partition| partition.folders());
        all.map(|folder| folder.as_os_str().as_bytes()).collect()
    });
    let in_a_mailbox = |folder: &[u8]| {
        partitions.iter().any(|root| {
            folder.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    let (mut paths, mut files) = (PathSet::default(), 0);
    // Folders that are empty are wanted too: Cyrus does not start without some of them.
    let mut empty: Option<Vec<u8>> = None;
    let mut keep = |path: &[u8], node: &Node| {
        let Some((parent, _)) = split(path) else { return };
        if let Some(folder) = empty.take().filter(|folder| folder.as_slice() != parent) {
            paths.add(&folder);
        }
        if node.is_directory() {
            empty = (!in_a_mailbox(path)).then(|| path.to_vec());
        } else if folders.contains(parent) || !in_a_mailbox(parent) {
            paths.add(path);
            files += u64::from(node.is_file());
        }
    };
    each_name(view, stop, &mut keep)?;
    if let Some(folder) = empty {
        paths.add(&folder);
    }
    Ok((paths, Some(names), files))
}

fn files_in(view: &View, folder: &[u8]) -> Result<u64, DrillError> {
    let node = match view.lookup(folder) {
        Ok(node) if node.is_directory() => node,
        Ok(_) | Err(RestoreError::NotFound { .. } | RestoreError::NotDirectory { .. }) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let nodes = view.nodes(folder, &node)?;
    // One that breaks off is told when it is rebuilt.
    Ok(nodes.map_while(Result::ok).filter(Node::is_file).count() as u64)
}

/// Goes through all names. What cannot be read is passed over here: it is told when it is rebuilt.
fn each_name(
    view: &View,
    stop: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&[u8], &Node),
) -> Result<(), DrillError> {
    let mut flow = ControlFlow::Continue(());
    walk(view, b"/", &mut |path, found| {
        if stop() {
            flow = ControlFlow::Break(());
            return Next::Stop;
        }
        if let Found::Node(node) = found {
            each(path, node);
        }
        Next::Descend
    })?;
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RestoreError::Interrupted.into()),
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::{Meta, NodeKind};
    use mailkeep_restorer::MemoryContents;

    use super::*;

    fn view(files: usize) -> View {
        let contents = Arc::new(MemoryContents::default());
        let kind = NodeKind::File { size: 0, sparse: false, content: Vec::new() };
        let node = |number: usize| Node {
            name: format!("{number:05}").into_bytes(),
            meta: Meta { links: 1, ..Meta::default() },
            kind: kind.clone(),
        };
        let nodes: Vec<Node> = (0..files).map(node).collect();
        let root = contents.put_tree(&nodes).unwrap();
        View::new(contents, root)
    }

    fn drawn(view: &View, amount: Amount, seed: u64) -> Vec<usize> {
        let drawn = draw(view, None, amount, Lot { seed }, &|| false).unwrap();
        let has = |number: &usize| drawn.paths.has(format!("/{number:05}").as_bytes());
        let numbers: Vec<usize> = (0..drawn.record.of as usize).filter(has).collect();
        assert_eq!((numbers.len() as u64, numbers.len()), (drawn.record.files, drawn.paths.len()));
        numbers
    }

    #[test]
    fn amounts_are_shares_and_numbers() {
        assert_eq!("5%".parse(), Ok(Amount::Percent(5.0)));
        assert_eq!("0.5 %".parse(), Ok(Amount::Percent(0.5)));
        assert_eq!("100%".parse(), Ok(Amount::Percent(100.0)));
        assert_eq!("1000".parse(), Ok(Amount::Files(1000)));
        for bad in ["", "%", "0", "0%", "101%", "-1", "NaN%", "5x", "inf%"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_draws_the_same_files_again_and_another_one_others() {
        let view = view(500);
        let first = drawn(&view, Amount::Percent(10.0), 7);
        assert_eq!(first.len(), 50);
        assert_eq!(first, drawn(&view, Amount::Files(50), 7));
        assert_ne!(first, drawn(&view, Amount::Files(50), 8));
        assert_eq!(drawn(&view, Amount::Percent(0.01), 1).len(), 1);
        assert_eq!(drawn(&view, Amount::Files(9999), 1).len(), 500);
        let seeds: HashSet<usize> = (0..200).flat_map(|seed| drawn(&view, Amount::Files(5), seed)).collect();
        assert!(seeds.len() > 350, "every file has its turn: {}", seeds.len());
    }

    #[test]
    fn too_many_are_refused() {
        let asked = Amount::Files(limits::SAMPLE_FILES + 1);
        assert!(matches!(
            draw(&view(1), None, asked, Lot { seed: 0 }, &|| false),
            Err(DrillError::SampleTooLarge { .. })
        ));
    }
}
