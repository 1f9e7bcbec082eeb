//! imapd.conf and cyrus.conf of the Cyrus that is started on rebuilt files (imapd.conf(5), cyrus.conf(5)).
//!
//! Of the snapshot's imapd.conf only those keys are taken that say how mail is laid out and named. All others are left out by
//! not being listed: sockets, logins, TLS, delivery, replication, Murder, notification, search, what is run by itself.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mailkeep_mail::cyrus::profile::CyrusProfile;

/// Where our own files lie, seen from inside.
pub(super) const HOME: &str = "/.mailkeep-drill";
/// Who asks. He is an administrator of this Cyrus and of no other one.
pub(super) const ASKER: &str = "mailkeep-drill";

/// Beside the kinds of databases and what [`CyrusProfile::shape`] names.
const LAYOUT: &[&str] = &[
    "altnamespace",
    "annotation_db_path",
    "archive_enabled",
    "configdirectory",
    "conversations",
    "defaultdomain",
    "delete_mode",
    "deletedprefix",
    "expunge_mode",
    "mboxkey_db_path",
    "mboxlist_db_path",
    "quota_db_path",
    "sharedprefix",
    "sievedir",
    "userdeny_db_path",
    "userprefix",
    "username_tolower",
];
const PARTITIONS: &[&str] = &["partition-", "metapartition-", "archivepartition-"];

/// What is written for it.
pub(super) struct Config {
    /// The text of imapd.conf.
    pub(super) imapd: Vec<u8>,
    /// The configuration folder, seen from inside.
    pub(super) folder: PathBuf,
    /// Folders and databases that it names.
    pub(super) named: Vec<PathBuf>,
    /// Whom the files belong to.
    pub(super) user: String,
}

impl Config {
    /// Takes from the snapshot's what may be taken.
    ///
    /// # Errors
    /// A server with these settings cannot be started apart; says why.
    pub(super) fn of(profile: &CyrusProfile) -> Result<Config, String> {
        let conf = profile.conf();
        let shape = profile.shape();
        if let Some((key, _)) = shape.iter().find(|(key, kind)| key.ends_with("_db") && kind == "sql") {
            return Err(format!("{key} of the snapshot lies in an SQL server"));
        }
        let folder = conf.path("configdirectory").ok_or("its imapd.conf names no configdirectory")?;
        let mut imapd = Vec::new();
        let mut named = vec![folder.clone()];
        for (key, value) in conf.iter() {
            let is_shape = shape.iter().any(|(known, _)| known == key);
            let is_partition = PARTITIONS.iter().any(|kind| key.starts_with(kind));
            if is_shape || is_partition || LAYOUT.contains(&key) {
                imapd.extend_from_slice(key.as_bytes());
                imapd.extend_from_slice(b": ");
                imapd.extend_from_slice(value.as_bytes());
                imapd.push(b'\n');
                let is_path = is_partition || key == "sievedir" || key.ends_with("_path");
                named.extend(conf.path(key).filter(|_| is_path));
            }
        }
        let user = conf.text("cyrus_user").unwrap_or("cyrus").to_owned();
        let ours = format!(
            "admins: {ASKER}\nallowplaintext: yes\nsasl_mech_list: PLAIN\ncyrus_user: {user}\ntemp_path: {HOME}/tmp\n\
             servername: mailkeep-drill\n"
        );
        imapd.extend_from_slice(ours.as_bytes());
        Ok(Config { imapd, folder, named, user })
    }

    /// cyrus.conf: imapd on a socket and nothing else. `-N` takes everybody for whom he says he is: who reaches that socket
    /// can read the files themselves.
    pub(super) fn services() -> String {
        format!(
            "START {{\n  recover cmd=\"ctl_cyrusdb -C {HOME}/imapd.conf -r\"\n}}\nSERVICES {{\n  imap cmd=\"imapd -C \
             {HOME}/imapd.conf -N\" listen=\"{HOME}/imap\" prefork=0 maxchild=4\n}}\nEVENTS {{\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use mailkeep_mail::source::CyrusOptions;

    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let options = CyrusOptions {
            imapd_conf: "/etc/imapd.conf".into(),
            cyrus_user: "cyrus".into(),
            also: Vec::new(),
            bin_dir: None,
        };
        let profile = CyrusProfile::new(&options, &mut |path| match path.to_str() {
            Some("/etc/imapd.conf") => Ok(text.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        Config::of(&profile.unwrap())
    }

    #[test]
    fn only_what_says_how_mail_is_laid_out_is_taken() {
        let text = "configdirectory: /var/lib/cyrus\npartition-default: /var/spool/cyrus/mail\nmboxlist_db: skiplist\n\
                    archivepartition-default: /srv/old\nunixhierarchysep: no\nsievedir: /var/sieve\ncyrus_user: mailer\n\
                    lmtpsocket: /run/cyrus/lmtp\nidlesocket: /run/cyrus/idle\nsync_host: other\nmupdate_server: master\n\
                    sasl_pwcheck_method: saslauthd\nadmins: cyrus\nproc_path: /run/cyrus/proc\ntls_server_key: /etc/key\n\
                    duplicate_db_path: /run/cyrus/deliver.db\nnotifysocket: /run/notify\nevent_notifier: pusher\n";
        let config = config(text).unwrap();
        let made = String::from_utf8(config.imapd).unwrap();
        for there in [
            "configdirectory: /var/lib/cyrus\n",
            "partition-default: /var/spool/cyrus/mail\n",
            "archivepartition-default: /srv/old\n",
            "mboxlist_db: skiplist\n",
            "unixhierarchysep: no\n",
            "admins: mailkeep-drill\n",
            "cyrus_user: mailer\n",
        ] {
            assert!(made.contains(there), "{there} {made}");
        }
        for gone in ["/run", "sync", "mupdate", "saslauthd", "tls", "admins: cyrus\n", "event"] {
            assert!(!made.contains(gone), "{gone} {made}");
        }
        assert!(config.named.contains(&"/srv/old".into()) && config.user == "mailer");
        let services = Config::services();
        assert!(!services.contains("lmtp") && !services.contains(':') && services.contains("imapd"));
    }

    #[test]
    fn databases_in_a_server_are_not_started() {
        let text = "configdirectory: /c\npartition-default: /s\nmboxlist_db: sql\n";
        assert!(config(text).err().unwrap().contains("mboxlist_db"));
    }
}
