//! The change rule: may a file's contents be taken over from the base tree without reading it?
//!
//! A pure function of two nodes and two clocks. It promises that a file is only taken over when nothing that can be
//! seen from outside has moved since it was read, and when it could not have been written again unseen: time stamps
//! are coarse, so what was young when it was read is read again. The mtime alone proves nothing: Cyrus sets a message
//! file's mtime to its internal date, and rsync has lost flags by comparing whole seconds.

use mailkeep_format::{Node, NodeKind, Timestamp};

use crate::limits::RACY_SECONDS;

/// The clocks that the rule needs, both of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Start of the pass whose tree is the base.
    pub base: Timestamp,
    /// Start of this pass.
    pub now: Timestamp,
}

/// What the rule says of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The base's contents are this file's contents.
    Same,
    /// Looks the same, but could have been written again unseen: read it.
    Racy,
    /// Is another file or has changed: read it.
    Changed,
}

/// Compares a file as it is listed now with the same name in the base tree.
///
/// Anything that is not a regular file on both sides is [`Verdict::Changed`].
pub fn compare(base: &Node, now: &Node, clocks: Clocks) -> Verdict {
    let (NodeKind::File { size: base_size, .. }, NodeKind::File { size: now_size, .. }) =
        (&base.kind, &now.kind)
    else {
        return Verdict::Changed;
    };
    let (was, is) = (&base.meta, &now.meta);
    let same = base_size == now_size
        && was.mtime == is.mtime
        && was.ctime == is.ctime
        && was.inode == is.inode
        && was.mode == is.mode
        && was.uid == is.uid
        && was.gid == is.gid;
    if !same {
        return Verdict::Changed;
    }
    // A clock behind the base's can stamp a new change with the very time of an old one.
    let clock_went_back = clocks.now < clocks.base;
    let young = is.mtime.max(is.ctime) >= clocks.base.minus_seconds(RACY_SECONDS);
    if clock_went_back || young { Verdict::Racy } else { Verdict::Same }
}

#[cfg(test)]
mod tests {
    use mailkeep_format::Meta;

    use super::*;

    const OLD: i64 = 1_000;
    const BASE: Timestamp = Timestamp { seconds: 2_000, nanos: 500 };
    const CLOCKS: Clocks = Clocks { base: BASE, now: Timestamp { seconds: 2_100, nanos: 0 } };

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    fn file() -> Node {
        let meta = Meta {
            mode: 0o600,
            uid: 8,
            gid: 12,
            mtime: at(OLD, 7),
            ctime: at(OLD, 9),
            inode: 42,
            links: 1,
            ..Meta::default()
        };
        Node {
            name: b"cyrus.index".to_vec(),
            meta,
            kind: NodeKind::File { size: 100, sparse: false, content: Vec::new() },
        }
    }

    fn changed(alter: impl FnOnce(&mut Node)) -> Verdict {
        let mut now = file();
        alter(&mut now);
        compare(&file(), &now, CLOCKS)
    }

    #[test]
    fn an_old_file_that_looks_the_same_is_the_same() {
        assert_eq!(changed(|_| ()), Verdict::Same);
    }

    #[test]
    fn one_nanosecond_in_the_same_second_with_the_same_size_is_a_change() {
        assert_eq!(changed(|node| node.meta.mtime.nanos += 1), Verdict::Changed);
        assert_eq!(changed(|node| node.meta.mtime.nanos -= 1), Verdict::Changed);
        assert_eq!(changed(|node| node.meta.ctime.nanos += 1), Verdict::Changed);
    }

    #[test]
    fn each_attribute_alone_is_a_change() {
        let alterations: [fn(&mut Node); 8] = [
            |node| node.meta.ctime.seconds += 1, // ctime only: somebody has set the mtime back
            |node| node.meta.mtime.seconds -= 1,
            |node| node.meta.inode += 1, // another file was renamed over it with all its times kept
            |node| node.meta.mode = 0o640,
            |node| node.meta.uid += 1,
            |node| node.meta.gid += 1,
            |node| node.kind = NodeKind::File { size: 101, sparse: false, content: Vec::new() },
            |node| node.kind = NodeKind::Fifo,
        ];
        for (number, alter) in alterations.into_iter().enumerate() {
            assert_eq!(changed(alter), Verdict::Changed, "alteration {number}");
        }
    }

    #[test]
    fn what_the_rule_leaves_out_is_no_change() {
        assert_eq!(changed(|node| node.meta.links = 2), Verdict::Same);
        assert_eq!(changed(|node| node.meta.device = 9), Verdict::Same);
        assert_eq!(changed(|node| node.meta.xattrs.push((b"user.a".to_vec(), vec![1]))), Verdict::Same);
    }

    #[test]
    fn a_file_younger_than_the_base_pass_less_two_seconds_is_read_again() {
        let limit = BASE.minus_seconds(2);
        let just_before = at(limit.seconds, limit.nanos - 1);
        for (time, verdict) in [
            (just_before, Verdict::Same),
            (limit, Verdict::Racy),
            (BASE, Verdict::Racy),
            (at(9_999_999, 0), Verdict::Racy), // a mail dated in the future
        ] {
            for set in [
                |node: &mut Node, time| node.meta.mtime = time,
                |node: &mut Node, time| node.meta.ctime = time,
            ] {
                let mut node = file();
                set(&mut node, time);
                assert_eq!(compare(&node, &node, CLOCKS), verdict, "{time:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_went_back_makes_everything_suspect() {
        let node = file();
        let back = Clocks { base: BASE, now: at(BASE.seconds, BASE.nanos - 1) };
        assert_eq!(compare(&node, &node, back), Verdict::Racy);
        let equal = Clocks { base: BASE, now: BASE };
        assert_eq!(compare(&node, &node, equal), Verdict::Same);
    }

    #[test]
    fn times_at_the_ends_of_the_scale_do_not_overflow() {
        let node = file();
        let clocks = Clocks { base: at(i64::MIN, 0), now: at(i64::MIN, 0) };
        assert_eq!(compare(&node, &node, clocks), Verdict::Racy);
    }
}
