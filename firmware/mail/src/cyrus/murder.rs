//! Which part a server has in a Cyrus Murder (an aggregator of several servers), by its configuration alone.
//!
//! Source: Cyrus' own guide "Cyrus Murder: Installation" (doc/source/imap/reference/admin/murder). A backend pushes its
//! list to the master when it starts (`ctl_mboxlist -m` in START of cyrus.conf); the master runs `mupdate -m`; a frontend
//! runs `mupdate` without it, or proxies (`proxyd`, `lmtpproxyd`). A unified server is a backend that proxies too, and
//! is treated as a backend: it has mailboxes.

use serde::{Deserialize, Serialize};

use super::cyrus_conf::CyrusConf;
use super::imapd_conf::ImapdConf;

/// A part in a Murder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A server of its own.
    Standalone,
    /// It has mailboxes, and its list is also at the master.
    Backend,
    /// It only passes on: nothing but its configuration is worth a copy.
    Frontend,
    /// It has the list of all backends and gets it back from them.
    Master,
}

impl Role {
    /// The part of a server with this configuration.
    pub fn of(imapd_conf: &ImapdConf, cyrus_conf: &CyrusConf) -> Role {
        let runs = |program: &str| cyrus_conf.entries.iter().find(|entry| entry.program() == program);
        let mupdate = runs("mupdate").map(|entry| entry.has_option('m'));
        let pushes =
            cyrus_conf.entries.iter().any(|entry| entry.program() == "ctl_mboxlist" && entry.has_option('m'));
        let proxies = ["proxyd", "lmtpproxyd", "pop3proxyd"].iter().any(|program| runs(program).is_some());
        let unified = matches!(imapd_conf.text("mupdate_config"), Some("unified" | "replicated"));
        match (imapd_conf.get("mupdate_server").is_some(), mupdate) {
            (_, Some(true)) if !pushes => Role::Master,
            (true, _) if pushes || unified => Role::Backend,
            (true, Some(false)) => Role::Frontend,
            (true, _) if proxies => Role::Frontend,
            (true, _) => Role::Backend,
            (false, _) => Role::Standalone,
        }
    }

    /// Whether there is mail to back up.
    pub fn has_mailboxes(self) -> bool {
        matches!(self, Role::Standalone | Role::Backend)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn role(imapd_conf: &str, cyrus_conf: &str) -> Role {
        let text = imapd_conf.as_bytes().to_vec();
        let conf = ImapdConf::read(Path::new("/etc/imapd.conf"), &mut |_| Ok(text.clone())).unwrap();
        Role::of(&conf, &CyrusConf::parse(cyrus_conf))
    }

    const MURDER: &str = "configdirectory: /var/lib/cyrus\nmupdate_server: mupdate.example.org\n";

    #[test]
    fn each_part_is_told_by_what_it_runs() {
        let plain = "START {\n recover cmd=\"ctl_cyrusdb -r\"\n}\nSERVICES {\n imap cmd=\"imapd -U 30\" listen=\"imap\"\n}\n";
        let backend = "START {\n  mupdatepush cmd=\"ctl_mboxlist -m\"\n}\n";
        let master = "SERVICES {\n  mupdate cmd=\"mupdate -m\" listen=3905 prefork=1\n}\n";
        let frontend = "SERVICES {\n  mupdate cmd=\"mupdate\" listen=3905 prefork=1\n  imap cmd=\"proxyd\" listen=\"imap\"\n}\n";
        assert_eq!(role("configdirectory: /v\n", plain), Role::Standalone);
        assert_eq!(role(MURDER, backend), Role::Backend);
        assert_eq!(role(MURDER, plain), Role::Backend);
        assert_eq!(role("configdirectory: /v\n", master), Role::Master);
        assert_eq!(role(MURDER, frontend), Role::Frontend);
        assert_eq!(role(MURDER, "SERVICES {\n imap cmd=\"proxyd\" listen=\"imap\"\n}\n"), Role::Frontend);
        let unified = format!("{MURDER}mupdate_config: unified\n");
        assert_eq!(role(&unified, frontend), Role::Backend);
    }

    #[test]
    fn what_is_commented_out_does_not_run() {
        assert_eq!(role(MURDER, "SERVICES {\n # mupdate cmd=\"mupdate -m\"\n}\n"), Role::Backend);
        assert!(Role::Backend.has_mailboxes() && !Role::Master.has_mailboxes());
    }
}
