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

/// A Murder, known by its master: the servers that name the same one share one space of mailbox names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Murder(String);

impl Murder {
    /// Under which name a snapshot's manifest says among its versions which Murder its mailboxes belong to.
    pub const RECORD: &str = "murder";
    /// Port of a master where none is named.
    const PORT: &str = ":3905";

    /// The Murder in which each mailbox has to be on one server alone. None for a server of its own, and for one whose
    /// mailboxes are on all servers by intent (`mupdate_config: replicated`).
    pub fn of(imapd_conf: &ImapdConf) -> Option<Murder> {
        if imapd_conf.text("mupdate_config") == Some("replicated") {
            return None;
        }
        let master = imapd_conf.text("mupdate_server")?.trim().to_ascii_lowercase();
        let host = master.strip_suffix(Self::PORT).unwrap_or(&master);
        (!host.is_empty()).then(|| Murder(host.to_owned()))
    }

    /// As it stands in a manifest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What has to be done, in this order, after a server of this Murder was restored, one line each. `murder` is what its
    /// manifest says.
    ///
    /// On a restored backend `ctl_mboxlist -m` removes every local mailbox that the master places elsewhere: 183 of 183 in
    /// a test.
    pub fn after_restore(murder: &str) -> [String; 3] {
        [
            format!(
                "This was a backend of the Murder of {murder}: before it is started take `ctl_mboxlist -m` out of START in cyrus.conf."
            ),
            "Then run `ctl_mboxlist -m -w` as the user of Cyrus: it only tells. If it says \"Remove Local Mailbox\", those mailboxes live on another backend by now: do not go on before that is settled."
                .to_owned(),
            "If it removes nothing run `ctl_mboxlist -m`; where this backend is to be right in everything, `ctl_mboxlist -m -a`. Then put it back into START."
                .to_owned(),
        ]
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
    fn servers_with_the_same_master_are_one_murder() {
        let murder = |text: &str| {
            let text = text.as_bytes().to_vec();
            let conf = ImapdConf::read(Path::new("/etc/imapd.conf"), &mut |_| Ok(text.clone())).unwrap();
            Murder::of(&conf).map(|murder| murder.as_str().to_owned())
        };
        let name = Some("mupdate.example.org".to_owned());
        assert_eq!(murder(MURDER), name);
        assert_eq!(murder("mupdate_server: Mupdate.Example.org:3905\n"), name);
        assert_eq!(murder("mupdate_server: mupdate.example.org:3906\n"), name.map(|name| name + ":3906"));
        assert_eq!(murder("configdirectory: /v\n"), None);
        assert_eq!(murder(&format!("{MURDER}mupdate_config: replicated\n")), None);
    }

    #[test]
    fn nothing_is_removed_before_it_was_shown() {
        let steps = Murder::after_restore("m").concat();
        assert!(
            steps.contains("of m:")
                && steps.find("-m -w").unwrap() < steps.find("run `ctl_mboxlist -m`").unwrap()
        );
    }

    #[test]
    fn what_is_commented_out_does_not_run() {
        assert_eq!(role(MURDER, "SERVICES {\n # mupdate cmd=\"mupdate -m\"\n}\n"), Role::Backend);
        assert!(Role::Backend.has_mailboxes() && !Role::Master.has_mailboxes());
    }
}
