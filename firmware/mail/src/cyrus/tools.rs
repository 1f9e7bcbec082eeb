//! Cyrus' own programs: where they lie, which version they are, and how the mailbox list is exported.
//! Pure: the caller looks at the file system and runs what is returned here.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::MailError;
use crate::source::{Argv, CyrusOptions};

/// Folders that are searched for Cyrus' programs, in this order: Debian from bookworm on and before, Fedora
/// and Red Hat, SUSE, builds from source, and the places of the 2.x packages.
pub const BIN_DIRS: &[&str] = &[
    "/usr/lib/cyrus/bin",
    "/usr/lib/cyrus-imapd",
    "/usr/libexec/cyrus-imapd",
    "/usr/lib64/cyrus-imapd",
    "/usr/lib/cyrus",
    "/usr/cyrus/bin",
    "/usr/cyrus/sbin",
    "/usr/cyrus-imapd/sbin",
    "/usr/local/cyrus/bin",
    "/usr/local/cyrus/sbin",
    "/usr/local/libexec",
    "/usr/local/sbin",
    "/usr/sbin",
];

/// A version of Cyrus IMAP; orders as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CyrusVersion {
    /// The 3 of 3.6.1.
    pub major: u16,
    /// The 6 of 3.6.1.
    pub minor: u16,
    /// The 1 of 3.6.1; 0 where none is written.
    pub patch: u16,
}

impl CyrusVersion {
    /// The first version whose global lock makes a stop unnecessary (`cyr_withlock_run`).
    pub const GLOBAL_LOCK: CyrusVersion = CyrusVersion { major: 3, minor: 12, patch: 0 };

    /// Finds the version in what `cyr_info version` prints, or in the greeting of an IMAP, POP3 or LMTP
    /// server: the first dotted number after the word Cyrus, whatever else stands there.
    pub fn find(text: &str) -> Option<CyrusVersion> {
        let text = text.get(..4096).unwrap_or(text).to_ascii_lowercase();
        let after = &text[text.find("cyrus")?..];
        after.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut numbers = word.split('.').map_while(|part| part.parse::<u16>().ok());
            let (major, minor) = (numbers.next()?, numbers.next()?);
            Some(CyrusVersion { major, minor, patch: numbers.next().unwrap_or(0) })
        })
    }
}

impl fmt::Display for CyrusVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A program with the user whom it has to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCommand {
    /// Whom to run it as.
    pub user: String,
    /// The command itself.
    pub argv: Argv,
}

impl ToolCommand {
    /// The command for a caller who is root: `runuser` changes the user, without a shell in between.
    pub fn argv_for_root(&self) -> Argv {
        let words =
            ["-u".to_owned(), self.user.clone(), "--".to_owned()].into_iter().chain(self.argv.words());
        Argv::new("runuser", words)
    }
}

/// The folder that has `tool`, or an error that names the folders which were searched. `exists` is asked for
/// full paths.
pub fn find_tool(
    options: &CyrusOptions,
    tool: &str,
    exists: &mut dyn FnMut(&Path) -> bool,
) -> Result<PathBuf, MailError> {
    let folders: Vec<PathBuf> = match &options.bin_dir {
        Some(dir) => vec![dir.clone()],
        None => BIN_DIRS.iter().map(PathBuf::from).collect(),
    };
    if let Some(path) = folders.iter().map(|dir| dir.join(tool)).find(|path| exists(path)) {
        return Ok(path);
    }
    let searched: Vec<String> = folders.iter().map(|dir| dir.display().to_string()).collect();
    Err(MailError::ConfigUnusable {
        path: options.imapd_conf.clone(),
        problem: format!(
            "the Cyrus program {tool} is in none of {}; name its folder as bin-dir in [cyrus] of the source file",
            searched.join(", ")
        ),
    })
}

/// Exports the mailbox list to standard output; works with mail running and stopped. `ctl_mboxlist` is the
/// full path from [`find_tool`].
pub fn export_command(options: &CyrusOptions, ctl_mboxlist: &Path) -> ToolCommand {
    let conf = options.imapd_conf.display().to_string();
    let argv = Argv::new(ctl_mboxlist.display().to_string(), ["-C".to_owned(), conf, "-d".to_owned()]);
    ToolCommand { user: options.cyrus_user.clone(), argv }
}

/// Imports a list from standard input, in the form that this Cyrus exports. `ctl_mboxlist` is the full path from
/// [`find_tool`].
pub fn import_command(options: &CyrusOptions, ctl_mboxlist: &Path) -> ToolCommand {
    let conf = options.imapd_conf.display().to_string();
    let argv = Argv::new(ctl_mboxlist.display().to_string(), ["-C".to_owned(), conf, "-u".to_owned()]);
    ToolCommand { user: options.cyrus_user.clone(), argv }
}

/// Prints what a mailbox's index says, and of its messages the first only; `None` for a name that would be an option.
/// `mbexamine` is the full path from [`find_tool`], `external` the name as an admin sees it.
pub fn examine_command(options: &CyrusOptions, mbexamine: &Path, external: &str) -> Option<ToolCommand> {
    let conf = options.imapd_conf.display().to_string();
    let words = ["-C", &conf, "-s", "1", external].map(str::to_owned);
    let named = !external.starts_with('-') && !external.contains('\0');
    named.then(|| ToolCommand {
        user: options.cyrus_user.clone(),
        argv: Argv::new(mbexamine.display().to_string(), words),
    })
}

/// What `mbexamine` says of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// Messages that are there.
    pub messages: u64,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// The highest UID that was given.
    pub last_uid: u32,
}

/// Finds in what [`examine_command`] printed what is looked for; `None` if it says nothing of a mailbox.
pub fn examined(text: &str) -> Option<Examined> {
    // What comes after it is of messages, and theirs.
    let head = text.split("Message Info:").next()?;
    let number = |label: &str| {
        let rest = head.split(label).nth(1)?.trim_start();
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let small = |label: &str| number(label).and_then(|number| u32::try_from(number).ok());
    Some(Examined {
        messages: number("Number of Messages:")?,
        uid_validity: small("UIDValidity:")?,
        last_uid: small("Last UID:")?,
    })
}

/// Runs what is appended to it while the global lock is held, from 3.12 on. What it runs must be a full path, and finds
/// [`HAVE_LOCK`] in its environment. `cyr_withlock_run` is the full path from [`find_tool`].
pub fn lock_command(options: &CyrusOptions, cyr_withlock_run: &Path) -> ToolCommand {
    let conf = options.imapd_conf.display().to_string();
    let argv = Argv::new(cyr_withlock_run.display().to_string(), ["-C".to_owned(), conf]);
    ToolCommand { user: options.cyrus_user.clone(), argv }
}

/// What tells Cyrus' programs that the global lock is held on their behalf; without it they would wait for it.
pub const HAVE_LOCK: &str = "CYRUS_HAVELOCK_GLOBAL=1";

/// Prints the version, `cyrus-imapd 3.6.1-Debian-…`. It is `cyr_info` and never `master -V`: before 2.5 the
/// master ignores an option that it does not know, and **starts mail**. Where there is no `cyr_info` (2.3 and
/// older), the greeting of the probe has the version.
pub fn version_command(options: &CyrusOptions, cyr_info: &Path) -> ToolCommand {
    let conf = options.imapd_conf.display().to_string();
    let argv = Argv::new(cyr_info.display().to_string(), ["-C".to_owned(), conf, "version".to_owned()]);
    ToolCommand { user: options.cyrus_user.clone(), argv }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(bin_dir: Option<&str>) -> CyrusOptions {
        CyrusOptions {
            imapd_conf: "/etc/imapd.conf".into(),
            cyrus_user: "cyrus".into(),
            also: vec![],
            bin_dir: bin_dir.map(PathBuf::from),
        }
    }

    #[test]
    fn versions_are_found_in_what_servers_say() {
        let find = |text| CyrusVersion::find(text).map(|v| v.to_string());
        for (text, version) in [
            ("cyrus-imapd 3.6.1-Debian-3.6.1-4+deb12u5", Some("3.6.1")),
            (
                "* OK [CAPABILITY IMAP4rev1 ID] mail Cyrus IMAP 3.6.1-Debian-3.6.1-4+deb12u5 server ready",
                Some("3.6.1"),
            ),
            ("* OK mail Cyrus IMAP4 v2.2.13-Debian-2.2.13-14 server ready", Some("2.2.13")),
            ("+OK mail Cyrus POP3 v2.4.17 server ready <1@mail>", Some("2.4.17")),
            ("cyrus-imapd 3.12.0", Some("3.12.0")),
            ("cyrus-imapd 3.13", Some("3.13.0")),
            ("* OK Dovecot 2.3.19 ready", None),
            ("cyrus", None),
            ("cyrus 99999999999.1", None),
        ] {
            assert_eq!(find(text).as_deref(), version, "{text}");
        }
        let old = CyrusVersion::find("cyrus 3.9.9").unwrap();
        assert!(old < CyrusVersion::GLOBAL_LOCK, "12 is more than 9");
    }

    #[test]
    fn tools_are_searched_unless_their_folder_is_named() {
        let found = find_tool(&options(None), "ctl_mboxlist", &mut |p| p.starts_with("/usr/libexec"));
        assert_eq!(found.unwrap(), Path::new("/usr/libexec/cyrus-imapd/ctl_mboxlist"));
        let found = find_tool(&options(Some("/opt/cyrus")), "ctl_mboxlist", &mut |_| true);
        assert_eq!(found.unwrap(), Path::new("/opt/cyrus/ctl_mboxlist"));
        let said =
            find_tool(&options(Some("/opt/cyrus")), "cyr_info", &mut |_| false).unwrap_err().to_string();
        assert!(said.contains("cyr_info is in none of /opt/cyrus") && said.contains("bin-dir"), "{said}");
    }

    #[test]
    fn what_a_mailbox_has_is_found_in_what_is_printed() {
        let text = "Examining user/alice... Mailbox Header Info:\n  Path to mailbox: /s/UIDValidity/x\n\n Index Header Info:\n  \
                    Number of Messages: 3  Mailbox Size: 9 bytes\n  UIDValidity: 1795454183  Last UID: 20\n\n Message Info:\n  \
                    Number of Messages: 7\n";
        let found = Examined { messages: 3, uid_validity: 1_795_454_183, last_uid: 20 };
        assert_eq!(examined(text), Some(found));
        assert_eq!(examined(""), None);
        assert_eq!(examined(&text.replace("Last UID: 20", "Last UID: 4294967296")), None);
        let of = |name| examine_command(&options(None), Path::new("/b/mbexamine"), name);
        assert_eq!(of("user/a").unwrap().argv.to_string(), "/b/mbexamine -C /etc/imapd.conf -s 1 user/a");
        assert_eq!(of("-q"), None);
    }

    #[test]
    fn the_list_is_exported_as_the_cyrus_user() {
        let command = export_command(&options(None), Path::new("/usr/lib/cyrus/bin/ctl_mboxlist"));
        assert_eq!(
            command.argv_for_root().to_string(),
            "runuser -u cyrus -- /usr/lib/cyrus/bin/ctl_mboxlist -C /etc/imapd.conf -d"
        );
    }
}
