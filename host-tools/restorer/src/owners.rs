//! Owners by name: a snapshot's numbers become the numbers that the same names have on this machine.
//!
//! A number without a name in the snapshot, or whose name nobody has here, stays what it was.

use std::collections::HashMap;
use std::process::{Command, Stdio};

/// Translates owners and groups of a snapshot to this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl Owners {
    /// Keeps every number as it is.
    pub fn numeric() -> Self {
        Owners::default()
    }

    /// Translates by the names in a manifest's tables, asking `find_user` and `find_group` for the numbers here.
    pub fn by_name(
        users: &[(u32, String)],
        groups: &[(u32, String)],
        find_user: impl Fn(&str) -> Option<u32>,
        find_group: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let map = |table: &[(u32, String)], find: &dyn Fn(&str) -> Option<u32>| {
            table
                .iter()
                .filter_map(|(number, name)| find(name).map(|here| (*number, here)))
                .filter(|(number, here)| number != here)
                .collect()
        };
        Owners { users: map(users, &find_user), groups: map(groups, &find_group) }
    }

    /// Translates by the names that this machine's account databases know.
    pub fn of_this_machine(users: &[(u32, String)], groups: &[(u32, String)]) -> Self {
        Owners::by_name(users, groups, |name| find("passwd", name), |name| find("group", name))
    }

    /// The user number to use here.
    pub fn user(&self, number: u32) -> u32 {
        self.users.get(&number).copied().unwrap_or(number)
    }

    /// The group number to use here.
    pub fn group(&self, number: u32) -> u32 {
        self.groups.get(&number).copied().unwrap_or(number)
    }

    /// Rewrites the numbers inside of a POSIX ACL attribute; every other attribute passes as it is.
    pub fn translate_xattr(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if !name.starts_with(b"system.posix_acl_") || (self.users.is_empty() && self.groups.is_empty()) {
            return value;
        }
        // linux/posix_acl_xattr.h: u32 version, then entries of u16 tag, u16 permissions, u32 id, little-endian.
        for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let here = match tag {
                ACL_USER => self.user(id),
                ACL_GROUP => self.group(id),
                _ => id,
            };
            entry[4..].copy_from_slice(&here.to_le_bytes());
        }
        value
    }
}

const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// Looks a name up in `/etc/passwd` or `/etc/group`, then asks `getent`, which knows LDAP and the like.
fn find(database: &str, name: &str) -> Option<u32> {
    let number = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    let local = std::fs::read(format!("/etc/{database}")).unwrap_or_default();
    let local = String::from_utf8_lossy(&local).lines().find_map(number);
    // A name that starts with a dash would be taken for an option; no system has such accounts.
    if local.is_some() || name.starts_with('-') || name.is_empty() {
        return local;
    }
    let asked =
        Command::new("getent").args([database, name]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    String::from_utf8_lossy(&asked.ok()?.stdout).lines().find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> Owners {
        let users = [(76, "cyrus".to_owned()), (1000, "gone".to_owned()), (0, "root".to_owned())];
        let groups = [(12, "mail".to_owned())];
        let here = |name: &str| match name {
            "cyrus" => Some(104),
            "root" => Some(0),
            _ => None,
        };
        Owners::by_name(&users, &groups, here, |name| (name == "mail").then_some(8))
    }

    #[test]
    fn names_win_over_numbers_where_both_machines_know_them() {
        let owners = owners();
        assert_eq!((owners.user(76), owners.user(1000), owners.user(5), owners.user(0)), (104, 1000, 5, 0));
        assert_eq!((owners.group(12), owners.group(76)), (8, 76));
        assert_eq!(Owners::numeric().user(76), 76);
    }

    #[test]
    fn the_owners_inside_of_an_acl_are_translated_too() {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let acl = |user, group| {
            [&2u32.to_le_bytes()[..], &entry(1, u32::MAX), &entry(2, user), &entry(8, group)].concat()
        };
        let owners = owners();
        assert_eq!(owners.translate_xattr(b"system.posix_acl_access", &acl(76, 12)), acl(104, 8));
        assert_eq!(owners.translate_xattr(b"user.note", &acl(76, 12)), acl(76, 12));
        for cut in 0..12 {
            owners.translate_xattr(b"system.posix_acl_access", &acl(76, 12)[..cut]);
        }
    }

    #[test]
    fn this_machine_knows_root() {
        assert_eq!((find("passwd", "root"), find("group", "root")), (Some(0), Some(0)));
        assert_eq!(find("passwd", "no-such-account-here"), None);
        assert_eq!(find("passwd", "--help"), None);
    }
}
