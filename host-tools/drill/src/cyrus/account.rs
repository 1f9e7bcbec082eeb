//! The account that Cyrus runs as on this machine.

use std::process::{Command, Stdio};

/// A user with his group, as the account databases of this machine have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The name of the group.
    pub(super) group: String,
}

impl Account {
    /// Asks `getent`, which knows files, LDAP and the like.
    pub(super) fn find(name: &str) -> Option<Account> {
        // A name that starts with a dash would be taken for an option; no system has such accounts.
        if name.is_empty() || name.starts_with('-') {
            return None;
        }
        let user = entry("passwd", name)?;
        let mut fields = user.split(':');
        let (found, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let group = entry("group", gid)?;
        let account = Account {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            group: group.split(':').next()?.to_owned(),
        };
        (found == name && account.uid != 0).then_some(account)
    }

    /// As chown and chroot take it.
    pub(super) fn numbers(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// A whole /etc/passwd: root, and this one.
    pub(super) fn passwd(&self) -> String {
        let Account { name, uid, gid, .. } = self;
        format!("root:x:0:0:root:/:/bin/false\n{name}:x:{uid}:{gid}::/:/bin/false\n")
    }

    /// A whole /etc/group.
    pub(super) fn group(&self) -> String {
        let Account { gid, group, .. } = self;
        format!("root:x:0:\n{group}:x:{gid}:\n")
    }
}

fn entry(database: &str, key: &str) -> Option<String> {
    let mut getent = Command::new("getent");
    let told = getent.args([database, key]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let line = String::from_utf8(told.stdout).ok()?;
    line.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_here_and_who_is_not() {
        for nobody in ["", "--help", "no-such-account-here", "root"] {
            assert_eq!(Account::find(nobody), None, "{nobody}");
        }
        // On every Debian, and on most others.
        if let Some(account) = Account::find("daemon") {
            assert!(account.uid > 0 && account.passwd().contains(&format!("daemon:x:{}", account.numbers())));
            assert!(account.group().contains(&account.group));
        }
    }
}
