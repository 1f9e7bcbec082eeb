//! The profile of Cyrus: roots, files and the class of every kind of name.

use super::*;
use crate::profile::Profile;
use crate::source::Source;

const DEBIAN: &str = "configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
partition-news: /var/spool/cyrus/news
sieveusehomedir: false
sievedir: /var/spool/sieve
tls_client_ca_dir: /etc/ssl/certs
lmtpsocket: /run/cyrus/socket/lmtp
";

fn profile(conf: &str) -> Result<Profile, MailError> {
    let source =
        Source::parse("name = \"m\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n", "m.toml").unwrap();
    Profile::new(&source, &mut |path| match path.to_str() {
        Some("/etc/imapd.conf") => Ok(conf.as_bytes().to_vec()),
        Some("/etc/cyrus/tls.conf") => Ok(b"tls_server_cert: /etc/ssl/rsa.pem,/etc/ssl/ec.pem\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn roots(profile: &Profile) -> Vec<(&str, Presence)> {
    profile.roots().iter().map(|root| (root.path.to_str().unwrap(), root.presence)).collect()
}

fn files(profile: &Profile) -> Vec<&str> {
    profile.files().iter().map(|file| file.path.to_str().unwrap()).collect()
}

fn class(profile: &Profile, path: &str) -> FileClass {
    // A path that ends with a slash is a directory.
    profile.classify(Path::new(path.trim_end_matches('/')), path.ends_with('/'))
}

#[test]
fn debians_own_configuration() {
    let debian = profile(DEBIAN).unwrap();
    assert_eq!(
        roots(&debian),
        [
            ("/var/lib/cyrus", Presence::Required),
            ("/var/spool/cyrus/mail", Presence::Required),
            ("/var/spool/cyrus/news", Presence::Optional),
            ("/var/spool/sieve", Presence::Optional),
        ]
    );
    assert_eq!(files(&debian), ["/etc/cyrus.conf", "/etc/imapd.conf", "/etc/sasldb2"]);
    assert!(debian.has_mailbox_list());
    assert_eq!(debian.roots()[0].named_by, "configdirectory in /etc/imapd.conf");
}

#[test]
fn every_kind_of_partition_and_every_named_file() {
    let full = profile(
        "configdirectory: /c
defaultpartition: Main
partition-main: /p/main
partition-old: /p/main/old
metapartition-main: /m
archivepartition-main: /a
t1searchpartition-main: /c/search
backuppartition-x: /b
sasl_sasldb_path: {configdirectory}/sasldb2
@include: /etc/cyrus/tls.conf
tls_server_key: /etc/ssl/key.pem
imap_tls_server_key: /etc/ssl/imap.pem
tls_client_ca_file: /etc/ssl/ca.pem
tls_client_ca_dir: /etc/ssl/certs
tls_client_certs: off
tls_versions: tls1_2
annotation_db_path: /dbs/annotations.db
statuscache_db_path: /c/fast/status.db
quota_db_path: /q
",
    )
    .unwrap();
    assert_eq!(
        roots(&full),
        [
            ("/a", Presence::Optional),
            ("/c", Presence::Required),
            ("/m", Presence::Optional),
            ("/p/main", Presence::Required),
            ("/q", Presence::Optional),
            ("/usr/sieve", Presence::Optional),
        ]
    );
    assert_eq!(
        files(&full),
        [
            "/dbs/annotations.db",
            "/etc/cyrus/tls.conf",
            "/etc/cyrus.conf",
            "/etc/imapd.conf",
            "/etc/ssl/ca.pem",
            "/etc/ssl/ec.pem",
            "/etc/ssl/imap.pem",
            "/etc/ssl/key.pem",
            "/etc/ssl/rsa.pem",
        ]
    );
    assert_eq!(class(&full, "/c/search/"), FileClass::ExcludeContents);
    assert_eq!(class(&full, "/c/search/user/x/xapian/"), FileClass::ExcludeContents);
    assert_eq!(class(&full, "/c/fast/status.db"), FileClass::Exclude);
    assert_eq!(class(&full, "/p/main/old/user/john/7."), FileClass::Message);
    assert_eq!(class(&full, "/a/user/john/7."), FileClass::Message);
    assert_eq!(class(&full, "/q/j/user.john.NEW"), FileClass::Mutable);
    assert_eq!(full.notes().len(), 2, "{:?}", full.notes());
}

#[test]
fn the_measured_table() {
    let debian = profile(DEBIAN).unwrap();
    let (spool, conf) = ("/var/spool/cyrus/mail", "/var/lib/cyrus");
    for (name, wanted) in [
        ("uuid/a/b/abc/1.", FileClass::Message),
        ("uuid/a/b/abc/4294967295.", FileClass::Message),
        ("uuid/a/b/abc/4294967296.", FileClass::Mutable),
        ("uuid/a/b/abc/01.", FileClass::Mutable),
        ("uuid/a/b/abc/1.NEW", FileClass::Exclude),
        ("uuid/a/b/abc/cyrus.index", FileClass::Mutable),
        ("uuid/a/b/abc/cyrus.header", FileClass::Mutable),
        ("uuid/a/b/abc/cyrus.annotations", FileClass::Mutable),
        ("uuid/a/b/abc/cyrus.expunge", FileClass::Mutable),
        ("uuid/a/b/abc/cyrus.cache", FileClass::Rebuildable),
        ("uuid/a/b/abc/cyrus.squat", FileClass::Rebuildable),
        ("uuid/a/b/abc/cyrus.index.NEW", FileClass::Exclude),
        ("uuid/a/b/abc/cyrus.lock", FileClass::Exclude),
        ("stage./", FileClass::ExcludeContents),
        ("sync./", FileClass::ExcludeContents),
        ("j/user/john/lock/", FileClass::Mutable),
        ("j/user/john/NEW.NEW/", FileClass::Mutable),
        ("j/user/john/proc/5.", FileClass::Message),
    ] {
        assert_eq!(class(&debian, &format!("{spool}/{name}")), wanted, "{name}");
    }
    for (name, wanted) in [
        ("mailboxes.db", FileClass::Mutable),
        ("annotations.db", FileClass::Mutable),
        ("user_deny.db", FileClass::Mutable),
        ("user/uuid/a/b/abc/seen.db", FileClass::Mutable),
        ("user/uuid/a/b/abc/sub.db", FileClass::Mutable),
        ("user/uuid/a/b/abc/dav.db", FileClass::Mutable),
        ("user/uuid/a/b/abc/conversations.db", FileClass::Rebuildable),
        ("user/uuid/a/b/abc/counters.db", FileClass::Rebuildable),
        ("user/j/john.seen", FileClass::Mutable),
        ("user/j/john.conversations", FileClass::Rebuildable),
        ("quota/j/user.john", FileClass::Mutable),
        ("quota/j/user.john.NEW", FileClass::Mutable),
        ("quota/u/user.lock", FileClass::Mutable),
        ("deliver.db", FileClass::Exclude),
        ("tls_sessions.db", FileClass::Exclude),
        ("statuscache.db", FileClass::Exclude),
        ("mailboxes.db.NEW", FileClass::Exclude),
        ("user/j/john.seen.NEW", FileClass::Exclude),
        ("db/skipstamp", FileClass::Rebuildable),
        ("db/", FileClass::Mutable),
        ("db.backup1/", FileClass::ExcludeContents),
        ("db.backup2/", FileClass::ExcludeContents),
        ("lock/", FileClass::ExcludeContents),
        ("proc/", FileClass::ExcludeContents),
        ("socket/", FileClass::ExcludeContents),
        ("log/", FileClass::ExcludeContents),
        ("user/log/", FileClass::Mutable),
        ("msg/motd", FileClass::Mutable),
        ("", FileClass::Mutable),
    ] {
        assert_eq!(class(&debian, &format!("{conf}/{name}")), wanted, "{name}");
    }
    assert_eq!(class(&debian, "/var/spool/sieve/uuid/a/b/abc/x.bc"), FileClass::Mutable);
    assert_eq!(class(&debian, "/var/spool/sieve/uuid/a/b/abc/x.bc.NEW"), FileClass::Exclude);
    assert_eq!(class(&debian, "/etc/imapd.conf"), FileClass::Mutable);
}

#[test]
fn custom_places_of_locks_and_sockets_are_respected() {
    let custom = profile(
        "configdirectory: /c
partition-default: /p
proc_path: /c/run/proc
mboxname_lockpath: {configdirectory}/locks
temp_path: /c
idlesocket: /c/sock/idle
ptloader_sock: /p/pts
ext_sync_cache_db_path: /c/cache/x.db
",
    )
    .unwrap();
    assert_eq!(class(&custom, "/c/run/proc/"), FileClass::ExcludeContents);
    assert_eq!(class(&custom, "/c/locks/"), FileClass::ExcludeContents);
    assert_eq!(class(&custom, "/c/"), FileClass::Mutable, "a folder that holds a root is never emptied");
    assert_eq!(class(&custom, "/c/sock/idle"), FileClass::Exclude);
    assert_eq!(class(&custom, "/p/pts"), FileClass::Exclude);
    assert_eq!(class(&custom, "/c/cache/x.db"), FileClass::Exclude);
}

#[test]
fn a_partition_in_an_unlikely_place_is_still_entered() {
    let odd = profile(
        "configdirectory: /c\npartition-default: /c/lock/spool\nproc_path: /c/run\npartition-b: /c/run/b\ntemp_path: /\n",
    )
    .unwrap();
    assert_eq!(roots(&odd)[0], ("/c", Presence::Required));
    for folder in ["/", "/c/", "/c/lock/", "/c/lock/spool/", "/c/run/", "/c/run/b/"] {
        assert_eq!(class(&odd, folder), FileClass::Mutable, "{folder}");
    }
    assert_eq!(class(&odd, "/c/run/b/j/user/john/1."), FileClass::Message);
    assert_eq!(class(&odd, "/c/proc/"), FileClass::ExcludeContents);
}

proptest::proptest! {
    #[test]
    fn any_path_has_a_class(path in "(/[a-z.0-9]{0,6}){0,6}", is_dir in proptest::prelude::any::<bool>()) {
        let class = profile(DEBIAN).unwrap().classify(Path::new(&path), is_dir);
        proptest::prop_assert_eq!(is_dir && class == FileClass::Message, false);
        proptest::prop_assert_eq!(!is_dir && class == FileClass::ExcludeContents, false);
    }
}

#[test]
fn a_vanished_file_proves_a_writer_only_if_it_was_wanted() {
    let debian = profile(DEBIAN).unwrap();
    assert!(debian.vanish_is_error_in_final(Path::new("/var/spool/cyrus/mail/j/user/john/1.")));
    assert!(debian.vanish_is_error_in_final(Path::new("/var/lib/cyrus/mailboxes.db")));
    assert!(!debian.vanish_is_error_in_final(Path::new("/var/lib/cyrus/mailboxes.db.NEW")));
}

#[test]
fn configurations_that_cannot_be_backed_up_are_refused() {
    for conf in [
        "partition-default: /p\n",
        "configdirectory: /c\n",
        "configdirectory: /\npartition-default: /p\n",
        "configdirectory: c\npartition-default: /p\n",
        "configdirectory: /c\npartition-default: ../p\n",
    ] {
        let said = profile(conf).unwrap_err().to_string();
        assert!(said.starts_with("/etc/imapd.conf: "), "{said}");
    }
}

#[test]
fn filters_in_home_folders_are_spoken_of() {
    let homes =
        profile("configdirectory: /c\npartition-default: /p\nsieveusehomedir: yes\nsievedir: /s\n").unwrap();
    assert!(!roots(&homes).iter().any(|(path, _)| *path == "/s"));
    assert!(homes.notes()[0].contains("home folders"));
}
