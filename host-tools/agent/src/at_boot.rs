//! Whether a server's own boot starts mail. On a standby it must not: mail would be delivered to a copy, and be gone with the
//! next snapshot. After a promotion it should: a reboot would leave mail down.
//!
//! Looks only, and says what a person has to do: what a boot does is never changed by Mailkeep. What is looked at are
//! systemd's units, the links of System V and the runlevels of OpenRC, for the service that the source stops; where that is
//! stopped by commands, for the names that distributions give Cyrus.

use std::fs;
use std::path::Path;

use mailkeep_mail::quiesce::{INIT_SCRIPTS, Rung, SYSTEMD_MARK, UNIT_NAMES};
use mailkeep_mail::source::Argv;

use crate::command;
use crate::limits;

/// Folders with the links of System V, by which a server comes up with its services.
const LINKS: [&str; 8] = [
    "etc/rc2.d",
    "etc/rc3.d",
    "etc/rc4.d",
    "etc/rc5.d",
    "etc/rc.d/rc2.d",
    "etc/rc.d/rc3.d",
    "etc/rc.d/rc4.d",
    "etc/rc.d/rc5.d",
];
/// Folders of OpenRC's runlevels.
const RUNLEVELS: [&str; 2] = ["etc/runlevels/default", "etc/runlevels/boot"];

/// What a boot would start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    /// What it is, in words.
    what: String,
    /// What takes it out.
    out: String,
}

/// Whether a boot of this server starts mail; which of its services could, and which do.
#[derive(Debug, Default)]
pub struct AtBoot {
    starters: Vec<Starter>,
    /// What would put the service in, where it is known which one that is.
    put_in: Option<String>,
}

impl AtBoot {
    /// Looks at this server.
    pub fn of(rung: &Rung) -> AtBoot {
        let by_systemd = Path::new(SYSTEMD_MARK).is_dir();
        let names = names(rung);
        let starters = if by_systemd {
            names.iter().filter_map(|name| unit(name)).collect()
        } else {
            links(Path::new("/"), &names)
        };
        let put_in = match rung {
            Rung::Systemd { unit } => Some(format!("systemctl enable {unit}")),
            Rung::Init { script } => script.file_name().map(|name| {
                let name = name.to_string_lossy();
                match manner(Path::new("/")) {
                    Manner::OpenRc => format!("rc-update add {name} default"),
                    Manner::Chkconfig => format!("chkconfig {name} on"),
                    Manner::UpdateRc => format!("update-rc.d {name} enable"),
                }
            }),
            _ => None,
        };
        AtBoot { starters, put_in }
    }

    /// What the admin of a standby has to know.
    pub fn on_standby(&self) -> Option<String> {
        let first = self.starters.first()?;
        let what: Vec<&str> = self.starters.iter().map(|starter| starter.what.as_str()).collect();
        Some(format!(
            "this server's own boot starts mail ({}), and a standby must come up without: run `{}` there; after `mailkeep \
             promote` it has to be put back",
            what.join(", "),
            first.out
        ))
    }

    /// What the admin of a server that has taken over has to know.
    pub fn after_promotion(&self) -> Option<String> {
        let put_in = self.put_in.as_ref().filter(|_| self.starters.is_empty())?;
        Some(format!(
            "this server's own boot does not start mail, so a reboot would leave it down: run `{put_in}` there"
        ))
    }
}

/// Names of the services that could start mail.
fn names(rung: &Rung) -> Vec<String> {
    let of_script = |script: &Path| script.file_name().map(|name| name.to_string_lossy().into_owned());
    match rung {
        Rung::Systemd { unit } => vec![unit.clone()],
        Rung::Init { script } => of_script(script).into_iter().collect(),
        Rung::GlobalLock { .. } | Rung::Command { .. } | Rung::Nothing => {
            let scripts = INIT_SCRIPTS.iter().filter_map(|script| of_script(Path::new(script)));
            let mut names: Vec<String> =
                UNIT_NAMES.iter().map(|unit| (*unit).to_owned()).chain(scripts).collect();
            names.sort();
            names.dedup();
            names
        }
    }
}

/// A unit of systemd, if something that the boot reaches wants it.
fn unit(name: &str) -> Option<Starter> {
    let service = format!("{name}.service");
    let argv = Argv::new("systemctl", ["show", "-p", "UnitFileState,WantedBy,RequiredBy", &service]);
    let done = command::run(&argv, limits::ASK_BOUND, &|| false).ok()?;
    is_in(&done.output)
        .then(|| Starter { what: format!("systemd unit {name}"), out: format!("systemctl disable {name}") })
}

/// Whether a unit of which `systemctl show` says this is started at boot.
fn is_in(shown: &str) -> bool {
    shown.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| match key {
        "UnitFileState" => matches!(value, "enabled" | "enabled-runtime"),
        "WantedBy" | "RequiredBy" => !value.trim().is_empty(),
        _ => false,
    })
}

/// Whose tools put services in and out.
enum Manner {
    OpenRc,
    Chkconfig,
    UpdateRc,
}

fn manner(root: &Path) -> Manner {
    if root.join("etc/runlevels").is_dir() {
        Manner::OpenRc
    } else if root.join("etc/rc.d/rc3.d").is_dir() {
        Manner::Chkconfig
    } else {
        Manner::UpdateRc
    }
}

/// The services of which there is a link that starts them.
fn links(root: &Path, names: &[String]) -> Vec<Starter> {
    let there = |folder: &&str| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let started: Vec<String> = LINKS.iter().flat_map(there).collect();
    let in_runlevels: Vec<String> = RUNLEVELS.iter().flat_map(there).collect();
    let starts = |link: &String, name: &str| {
        // S20cyrus-imapd; K is for stopping.
        let rest = link
            .strip_prefix('S')
            .map(|rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        rest == Some(name)
    };
    let found = |name: &String| {
        let is_in = started.iter().any(|link| starts(link, name)) || in_runlevels.contains(name);
        let out = match manner(root) {
            Manner::OpenRc => format!("rc-update del {name}"),
            Manner::Chkconfig => format!("chkconfig {name} off"),
            Manner::UpdateRc => format!("update-rc.d {name} disable"),
        };
        is_in.then(|| Starter { what: format!("/etc/init.d/{name}"), out })
    };
    names.iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_unit_is_in_if_it_is_enabled_or_something_wants_it() {
        for (shown, expected) in [
            ("UnitFileState=enabled\nWantedBy=multi-user.target\nRequiredBy=\n", true),
            ("RequiredBy=\nWantedBy=\nUnitFileState=enabled-runtime\n", true),
            ("RequiredBy=mail.target\nWantedBy=\nUnitFileState=static\n", true),
            ("RequiredBy=\nWantedBy=graphical.target multi-user.target\nUnitFileState=generated\n", true),
            ("RequiredBy=\nWantedBy=\nUnitFileState=disabled\n", false),
            ("RequiredBy=\nWantedBy=\nUnitFileState=masked\n", false),
            ("RequiredBy=\nWantedBy=\nUnitFileState=\n", false),
            ("", false),
        ] {
            assert_eq!(is_in(shown), expected, "{shown}");
        }
    }

    fn root(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn a_link_that_starts_is_told_and_one_that_stops_is_not() {
        let names = |rung: &Rung| super::names(rung);
        let script = |name: &str| Rung::Init { script: PathBuf::from(format!("/etc/init.d/{name}")) };
        let debian =
            root(&["etc/rc2.d/S20cyrus22", "etc/rc2.d/K80cyrus21", "etc/rc3.d/S20cyrus-imapd-extra"]);
        let found = links(debian.path(), &names(&script("cyrus22")));
        assert_eq!(found[0].out, "update-rc.d cyrus22 disable");
        assert_eq!(links(debian.path(), &names(&script("cyrus21"))), []);
        assert_eq!(links(debian.path(), &names(&script("cyrus-imapd"))), []);
        let suse = root(&["etc/rc.d/rc3.d/S12cyrus"]);
        assert_eq!(links(suse.path(), &names(&script("cyrus")))[0].out, "chkconfig cyrus off");
        let gentoo = root(&["etc/runlevels/default/cyrus"]);
        assert_eq!(links(gentoo.path(), &names(&script("cyrus")))[0].out, "rc-update del cyrus");
        // Stopped by commands: all names that it may have.
        let any =
            Rung::Command { stop: Argv::new("/s", [""; 0]), start: Argv::new("/t", [""; 0]), running: None };
        assert_eq!(links(debian.path(), &names(&any)).len(), 1);
    }

    #[test]
    fn what_is_to_be_done_is_said_in_one_line() {
        let out = "systemctl disable cyrus-imapd".to_owned();
        let starter = Starter { what: "systemd unit cyrus-imapd".to_owned(), out };
        let put_in = Some("systemctl enable cyrus-imapd".to_owned());
        let inside = AtBoot { starters: vec![starter], put_in: put_in.clone() };
        let said = inside.on_standby().unwrap();
        assert!(said.contains("`systemctl disable cyrus-imapd`") && said.lines().count() == 1, "{said}");
        assert_eq!(inside.after_promotion(), None);
        let outside = AtBoot { starters: Vec::new(), put_in };
        assert_eq!(outside.on_standby(), None);
        let said = outside.after_promotion().unwrap();
        assert!(said.contains("`systemctl enable cyrus-imapd`") && said.lines().count() == 1, "{said}");
        assert_eq!(AtBoot::default().after_promotion(), None);
    }
}
