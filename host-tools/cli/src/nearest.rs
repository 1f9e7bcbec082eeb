//! What a person may have meant by a name that is not there.

use std::path::Path;

use mailkeep_restorer::{View, path};

/// Names that are told.
const TOLD: usize = 3;

/// The names that are most like what was wanted; none that is quite another.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let length = wanted.chars().count();
    let most = (1 + length / 4).min(length / 2);
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // A part of a name is near to it, however long the rest is.
        let (short, long) = if name.len() < wanted.len() { (&name, &wanted) } else { (&wanted, &name) };
        if short.len() >= 3 && long.contains(short.as_str()) {
            return Some(0);
        }
        Some(strsim::damerau_levenshtein(&wanted, &name)).filter(|distance| *distance <= most)
    };
    let mut near: Vec<(usize, &str)> =
        names.filter_map(|name| likeness(name).map(|distance| (distance, name))).collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(TOLD);
    near.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Ids of which the wanted digits may be the beginning, but for a digit or two.
pub(crate) fn nearest_id<'n>(wanted: &str, ids: impl Iterator<Item = &'n str>) -> Vec<String> {
    let digits = wanted.chars().count();
    let near = |id: &&str| {
        let start: String = id.chars().take(digits).collect();
        digits >= 3 && strsim::damerau_levenshtein(wanted, &start) <= 1 + digits / 8
    };
    ids.filter(near).take(TOLD).map(|id| id.chars().take(10).collect()).collect()
}

/// Paths like one that a snapshot does not have: names beside the first part of it that is missing.
pub(crate) fn nearest_paths(view: &View, wanted: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;
    let mut at = b"/".to_vec();
    let mut node = view.root().clone();
    for name in wanted.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match view.child(&at, &node, name) {
            Ok(Some(child)) => {
                at = path::join(&at, name);
                node = child;
            }
            Ok(None) => {
                let Ok(listing) = view.list(&at, &node) else { return Vec::new() };
                let names: Vec<String> =
                    listing.iter().map(|node| String::from_utf8_lossy(&node.name).into_owned()).collect();
                let near = nearest(&String::from_utf8_lossy(name), names.iter().map(String::as_str));
                return near.iter().map(|name| path::show(&path::join(&at, name.as_bytes()))).collect();
            }
            // Something else is wrong than a name.
            Err(_) => return Vec::new(),
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_offered_and_what_is_not_is_not() {
        let names = ["imapd.conf", "cyrus.conf", "passwd", "mailboxes.db", "x"];
        let near = |wanted: &str| nearest(wanted, names.iter().copied());
        assert_eq!(near("impad.conf"), ["imapd.conf"]);
        assert_eq!(near("mailboxes"), ["mailboxes.db"]);
        assert_eq!(near("CYRUS.CONF"), ["cyrus.conf"]);
        for other in ["zebra", "q", "holiday.jpg", ""] {
            assert_eq!(near(other), Vec::<String>::new(), "{other}");
        }
        let ids = ["325b44dcf417716d", "cc36909e7e0fbf95"];
        let near = |wanted: &str| nearest_id(wanted, ids.iter().copied());
        assert_eq!(near("325b44dfc4"), ["325b44dcf4"]);
        assert_eq!(near("cc3690"), ["cc36909e7e"]);
        assert!(near("0000000000").is_empty() && near("a").is_empty());
    }
}
