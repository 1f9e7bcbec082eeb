//! One node of a snapshot: as a line like `ls -l` writes it, or as an object.

use mailkeep_repository::format::manifest::Manifest;
use mailkeep_repository::format::{Node, NodeKind};
use mailkeep_restorer::path;
use serde::Serialize;

use crate::units;

/// Names of owners, from a manifest.
pub(crate) struct Names<'a> {
    users: &'a [(u32, String)],
    groups: &'a [(u32, String)],
}

impl<'a> Names<'a> {
    /// The names that a snapshot knows.
    pub(crate) fn of(manifest: &'a Manifest) -> Self {
        Names { users: &manifest.users, groups: &manifest.groups }
    }

    fn find(table: &'a [(u32, String)], number: u32) -> Option<&'a str> {
        table.iter().find(|(have, _)| *have == number).map(|(_, name)| name.as_str())
    }
}

/// A node as JSON, in restic's fields where there are any.
#[derive(Serialize)]
pub(crate) struct NodeLine<'a> {
    pub(crate) message_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<String>,
    name: String,
    path: String,
    /// The path's bytes in hexadecimal, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    r#type: &'static str,
    size: u64,
    mode: u32,
    permissions: String,
    uid: u32,
    gid: u32,
    user: Option<&'a str>,
    group: Option<&'a str>,
    mtime: String,
    links: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl<'a> NodeLine<'a> {
    /// The object for a node.
    pub(crate) fn new(message_type: &'static str, at: &[u8], node: &Node, names: &Names<'a>) -> Self {
        let meta = &node.meta;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let hex = || at.iter().map(|byte| format!("{byte:02x}")).collect();
        NodeLine {
            message_type,
            snapshot: None,
            name: lossy(&node.name),
            path: lossy(at),
            path_hex: std::str::from_utf8(at).is_err().then(hex),
            r#type: word(node),
            size: node.size(),
            mode: meta.mode,
            permissions: permissions(node),
            uid: meta.uid,
            gid: meta.gid,
            user: Names::find(names.users, meta.uid),
            group: Names::find(names.groups, meta.gid),
            mtime: units::utc_nanos(meta.mtime.seconds, meta.mtime.nanos),
            links: meta.links,
            target: match &node.kind {
                NodeKind::Symlink { target } => Some(lossy(target)),
                _ => None,
            },
        }
    }
}

/// Cells of a long listing; `shown` is the name or path.
pub(crate) fn cells(shown: &[u8], node: &Node, names: &Names<'_>) -> [String; 6] {
    let owner = |table, number: u32| {
        Names::find(table, number).map_or_else(|| number.to_string(), |name| path::show(name.as_bytes()))
    };
    let mut name = path::show(shown);
    let size = match &node.kind {
        NodeKind::File { size, .. } => units::size(*size),
        NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
            format!("{major}, {minor}")
        }
        NodeKind::Symlink { target } => {
            name = format!("{name} -> {}", path::show(target));
            String::new()
        }
        NodeKind::Directory { .. } => {
            name.push('/');
            String::new()
        }
        NodeKind::Fifo | NodeKind::Socket => String::new(),
    };
    [
        permissions(node),
        owner(names.users, node.meta.uid),
        owner(names.groups, node.meta.gid),
        size,
        units::local(node.meta.mtime.seconds),
        name,
    ]
}

/// `-rw-r-----`, with `+` behind it where there is an ACL.
fn permissions(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::File { .. } => '-',
        NodeKind::Directory { .. } => 'd',
        NodeKind::Symlink { .. } => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::CharDevice { .. } => 'c',
        NodeKind::BlockDevice { .. } => 'b',
    };
    let mode = node.meta.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    if node.meta.xattrs.iter().any(|(name, _)| name.starts_with(b"system.posix_acl_")) {
        text.push('+');
    }
    text
}

/// The kind in one word, as restic says it.
fn word(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::File { .. } => "file",
        NodeKind::Directory { .. } => "dir",
        NodeKind::Symlink { .. } => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice { .. } => "chardev",
        NodeKind::BlockDevice { .. } => "dev",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailkeep_repository::format::Meta;

    #[test]
    fn permissions_read_as_ls_writes_them() {
        let node = |mode, kind| Node { name: b"n".to_vec(), meta: Meta { mode, ..Meta::default() }, kind };
        let file = || NodeKind::File { size: 0, sparse: false, content: Vec::new() };
        assert_eq!(permissions(&node(0o640, file())), "-rw-r-----");
        assert_eq!(permissions(&node(0o6755, file())), "-rwsr-sr-x");
        assert_eq!(permissions(&node(0o1776, NodeKind::Directory { content: Vec::new() })), "drwxrwxrwT");
        assert_eq!(permissions(&node(0o4644, NodeKind::Fifo)), "prwSr--r--");
        let mut with_acl = node(0o600, file());
        with_acl.meta.xattrs.push((b"system.posix_acl_access".to_vec(), Vec::new()));
        assert_eq!(permissions(&with_acl), "-rw-------+");
    }
}
