//! What the verbs say that look into snapshots: `find`, `diff`, and what is told where a name is not known.

use crate::units::{counted, size};

/// Over the lines of `diff`; the sizes are as wide as below.
pub(crate) const CHANGES: &str = "      BEFORE      AFTER  PATH";

/// A line of `diff`: what happened, and how long the file was and is.
pub(crate) fn change(sign: &str, before: Option<u64>, after: Option<u64>, path: &str) -> String {
    let cell = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    format!("{sign} {:>10} {:>10}  {path}", cell(before), cell(after))
}

/// How much `diff` has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: u64,
    pub(crate) added_bytes: u64,
    pub(crate) removed: u64,
    pub(crate) removed_bytes: u64,
    pub(crate) content: u64,
    pub(crate) kind: u64,
    pub(crate) metadata: u64,
}

/// The last lines of `diff`.
pub(crate) fn differences(all: &Changes) -> Vec<String> {
    let Changes { added, removed, content, kind, metadata, .. } = *all;
    if added + removed + content + kind + metadata == 0 {
        return vec!["No differences.".to_owned()];
    }
    let mut lines = vec![String::new()];
    let mut tell = |number: u64, what: &str, bytes: Option<u64>| {
        if number > 0 {
            let bytes = bytes.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
            lines.push(format!("{:>10} {what}{bytes}", crate::units::count(number)));
        }
    };
    tell(added, "added", Some(all.added_bytes));
    tell(removed, "removed", Some(all.removed_bytes));
    tell(content, "with other contents", None);
    tell(kind, "of another kind", None);
    tell(metadata, "with other metadata only", None);
    lines
}

/// The last line of `find`.
pub(crate) fn found(hits: u64, snapshots: u64, bytes: u64) -> String {
    let place = counted(snapshots, "snapshot", "snapshots");
    format!("\n{} in {place}, {} in all", counted(hits, "match", "matches"), size(bytes))
}

/// What may have been meant.
pub(crate) fn nearest(names: &[String]) -> String {
    format!("nearest: {}", names.join(", "))
}
