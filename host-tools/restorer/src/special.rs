//! What lends power to whoever can reach it: device files, setuid and setgid programs, file capabilities.
//!
//! A snapshot is as hostile as the server may have been that it was taken of, and a restore runs as root as a rule: a mail
//! server that has been broken into must not get a root shell on the machine that its mail is looked at on. So these are
//! left out unless they are asked for; of trees that have them by right (a machine's system) they are part of what is
//! restored. A folder's setgid lends nothing: it says whose group new files get, and stays.

use mailkeep_format::{Node, NodeKind};

/// What becomes of device files, setuid, setgid and file capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// They are left out, and that is told.
    #[default]
    LeaveOut,
    /// They are restored as they were; devices by root only.
    Keep,
}

/// Why a name is passed over, or what it lacks.
pub(crate) const DEVICE: &str = "a device file, left out";
const BITS: &str = "its setuid, setgid or capabilities, left out";

const SETUID_SETGID: u32 = 0o6000;
const CAPABILITIES: &[u8] = b"security.capability";

impl Special {
    /// What becomes of them unless somebody says otherwise, by the system that the snapshot is of: a mail server's folders
    /// have nothing of it by right, and a server may have been broken into before it was backed up.
    pub fn of_system(system: &str) -> Special {
        if system == "generic" { Special::Keep } else { Special::LeaveOut }
    }

    /// Whether a name is passed over altogether.
    pub(crate) fn passes_over(self, node: &Node) -> bool {
        let device = matches!(node.kind, NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. });
        self == Special::LeaveOut && device
    }

    /// Takes from a name what is left out; what that was, if anything.
    pub(crate) fn strip(self, node: &mut Node) -> Option<&'static str> {
        if self == Special::Keep || !node.is_file() {
            return None;
        }
        let before = (node.meta.mode, node.meta.xattrs.len());
        node.meta.mode &= !SETUID_SETGID;
        node.meta.xattrs.retain(|(name, _)| name != CAPABILITIES);
        (before != (node.meta.mode, node.meta.xattrs.len())).then_some(BITS)
    }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::Meta;

    use super::*;

    fn node(kind: NodeKind, mode: u32) -> Node {
        let xattrs = vec![(b"security.capability".to_vec(), vec![1]), (b"user.a".to_vec(), vec![2])];
        Node { name: b"x".to_vec(), meta: Meta { mode, xattrs, ..Meta::default() }, kind }
    }

    #[test]
    fn a_mail_server_brings_nothing_that_lends_power() {
        for system in ["cyrus", "what comes next"] {
            assert_eq!(Special::of_system(system), Special::LeaveOut);
        }
        assert_eq!(Special::of_system("generic"), Special::Keep);
    }

    #[test]
    fn power_is_taken_from_files_and_from_nothing_else() {
        let mut file = node(NodeKind::File { size: 0, sparse: false, content: Vec::new() }, 0o6755);
        assert_eq!(Special::Keep.strip(&mut file), None);
        assert_eq!((file.meta.mode, file.meta.xattrs.len()), (0o6755, 2));
        assert!(Special::LeaveOut.strip(&mut file).is_some());
        assert_eq!((file.meta.mode, file.meta.xattrs.len()), (0o755, 1));
        assert_eq!(file.meta.xattrs[0].0, b"user.a");
        assert_eq!(Special::LeaveOut.strip(&mut file), None, "nothing is left to take");
        let mut folder = node(NodeKind::Directory { content: Vec::new() }, 0o2775);
        assert_eq!(Special::LeaveOut.strip(&mut folder), None);
        assert_eq!(folder.meta.mode, 0o2775);
        for (kind, passed) in [
            (NodeKind::CharDevice { major: 1, minor: 3 }, true),
            (NodeKind::BlockDevice { major: 8, minor: 0 }, true),
            (NodeKind::Fifo, false),
        ] {
            assert_eq!(Special::LeaveOut.passes_over(&node(kind.clone(), 0o600)), passed, "{kind:?}");
            assert!(!Special::Keep.passes_over(&node(kind, 0o600)));
        }
    }
}
