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
    fn the_list_is_exported_as_the_cyrus_user() {
        let command = export_command(&options(None), Path::new("/usr/lib/cyrus/bin/ctl_mboxlist"));
        assert_eq!(
            command.argv_for_root().to_string(),
            "runuser -u cyrus -- /usr/lib/cyrus/bin/ctl_mboxlist -C /etc/imapd.conf -d"
        );
    }
}
