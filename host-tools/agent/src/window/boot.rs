//! The rescue at boot: what makes a server that went down inside a window start mail when it comes up, installed and
//! seen enabled before anything is stopped.
//!
//! Where systemd runs it is a unit wanted by `multi-user.target`; elsewhere, where a cron daemon runs, a file in
//! `/etc/cron.d` that runs at each boot and looks again every five minutes, should guard and agent both be killed.
//! The unit asks systemd to *start* mail, as a person would; no unit of the mail service is ever enabled or disabled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mailkeep_format::ContentHash;
use mailkeep_mail::quiesce::{SYSTEMD_MARK, UNIT_NAMES};
use mailkeep_mail::source::Argv;
use rustix::process::geteuid;

use super::state::{self, STATE_ENV};
use super::stragglers;
use crate::command;
use crate::error::AgentError;
use crate::limits;
use crate::swap::journal::JOURNAL;

/// With the value `no`, and only beside [`STATE_ENV`]: no rescue is installed. For labs, whose state folder is gone
/// long before the next boot.
pub const BOOT_ENV: &str = "MAILKEEP_AGENT_BOOT";

const UNIT_FOLDER: &str = "/etc/systemd/system";
const CRON_FOLDER: &str = "/etc/cron.d";
const CRON_NAMES: [&str; 4] = ["cron", "crond", "cronie", "fcron"];

/// Where a rescue is installed on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A systemd unit.
    Systemd,
    /// A file for the cron daemon.
    Cron,
    /// A lab, which has none.
    Lab,
    /// There is none, for this reason.
    Nowhere(&'static str),
}

impl Place {
    /// Looks at this server.
    pub fn find() -> Place {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if set(STATE_ENV).is_some() && set(BOOT_ENV).is_some_and(|value| value == "no") {
            Place::Lab
        } else if !geteuid().is_root() {
            Place::Nowhere("the agent does not run as root")
        } else if Path::new(SYSTEMD_MARK).is_dir() {
            Place::Systemd
        } else if Path::new(CRON_FOLDER).is_dir() && stragglers::is_running(&CRON_NAMES) {
            Place::Cron
        } else {
            Place::Nowhere("neither systemd nor a cron daemon runs here")
        }
    }

    /// What the admin has to know of a server that has no place for it.
    pub fn remark(&self) -> Option<String> {
        let Place::Nowhere(why) = self else { return None };
        Some(format!(
            "no rescue at boot could be installed ({why}): should this server go down while mail is stopped, mail has to \
             be started by the server's own boot, or by `mailkeep-agent rescue`"
        ))
    }

    /// Installs the rescue, if it is not there, and sees that it will run.
    ///
    /// # Errors
    /// [`AgentError::Boot`]; then nothing may be stopped.
    pub fn install(&self) -> Result<(), AgentError> {
        match self {
            Place::Systemd => install_unit(),
            Place::Cron => install_cron(),
            Place::Lab | Place::Nowhere(_) => Ok(()),
        }
    }
}

impl Place {
    /// Sees that trees which are being exchanged when the server goes down are brought to one side before its boot starts
    /// mail. Where systemd does not run the boot's own start cannot be waited for: the rescue stops mail for it.
    ///
    /// # Errors
    /// [`AgentError::Boot`]; then nothing may be exchanged.
    pub fn install_settling(&self) -> Result<(), AgentError> {
        match self {
            Place::Systemd => enable_unit(&settling(), &settling_text(&program()?, &state::base())),
            Place::Cron | Place::Lab | Place::Nowhere(_) => Ok(()),
        }
    }
}

fn install_unit() -> Result<(), AgentError> {
    enable_unit(&format!("{}.service", name()), &unit_text(&program()?, &state::base()))
}

/// Name of the unit that comes before mail.
fn settling() -> String {
    format!("{}.service", name().replacen("rescue", "settle", 1))
}

/// Writes a unit, enables it, and sees that it is.
fn enable_unit(unit: &str, text: &str) -> Result<(), AgentError> {
    let path = Path::new(UNIT_FOLDER).join(unit);
    let systemctl = |words: &[&str]| {
        let argv = Argv::new("systemctl", words.iter().copied());
        match command::run(&argv, limits::ASK_BOUND, &|| false) {
            Ok(done) if done.ok => Ok(()),
            Ok(done) => Err(failed(&done.describe())),
            Err(error) => Err(failed(&crate::error::one_line(&error))),
        }
    };
    let enabled = || systemctl(&["is-enabled", "--quiet", unit]);
    let changed = write_if_new(&path, text)?;
    if changed || enabled().is_err() {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--quiet", unit])?;
    }
    enabled()
}

fn install_cron() -> Result<(), AgentError> {
    let path = Path::new(CRON_FOLDER).join(name());
    write_if_new(&path, &cron_text(&program()?, &state::base())).map(drop)
}

/// Takes the rescue away, wherever it was installed: the server is no longer backed up.
///
/// # Errors
/// [`AgentError::Boot`] if a file of it stays.
pub fn remove() -> Result<(), AgentError> {
    let units = [format!("{}.service", name()), settling()];
    for unit in units.iter().filter(|unit| Path::new(UNIT_FOLDER).join(unit).exists()) {
        // Only our own units; if systemd does not run, the link that wants one goes with the file.
        let disable = Argv::new("systemctl", ["disable", "--quiet", unit.as_str()]);
        let _ = command::run(&disable, limits::ASK_BOUND, &|| false);
    }
    let files = units.iter().map(|unit| Path::new(UNIT_FOLDER).join(unit));
    for file in files.chain([Path::new(CRON_FOLDER).join(name())]) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&format!("cannot remove {}: {error}", file.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The usual state folder has the plain name, any other one a name of its own.
fn name() -> String {
    let base = state::base();
    if base == Path::new(state::SYSTEM_BASE) {
        return "mailkeep-rescue".to_owned();
    }
    let hash = ContentHash::of(base.as_os_str().as_encoded_bytes()).hex();
    format!("mailkeep-rescue-{}", &hash[..8])
}

fn program() -> Result<PathBuf, AgentError> {
    std::env::current_exe().map_err(|error| failed(&format!("its own path is not known: {error}")))
}

/// The unit. It comes after the mail service, which most often is started by the boot itself: then there is nothing
/// left to do but to see that it greets.
pub fn unit_text(program: &Path, state: &Path) -> String {
    let after: Vec<String> = UNIT_NAMES.iter().map(|unit| format!("{unit}.service")).collect();
    format!(
        "# Made by mailkeep-agent. Starts mail if this server went down while mail was stopped for a backup.\n\
         [Unit]\n\
         Description=Mailkeep: start mail again after an interrupted backup\n\
         After=local-fs.target network.target {after}\n\n\
         [Service]\n\
         Type=simple\n\
         Environment={state_env}\n\
         ExecStart={program} rescue --keep-trying\n\
         KillMode=process\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        after = after.join(" "),
        state_env = unit_word(&format!("{STATE_ENV}={}", state.display())),
        program = unit_word(&program.display().to_string()),
    )
}

/// The unit that brings trees to one side. It comes before the mail service, which the boot starts by itself.
pub fn settling_text(program: &Path, state: &Path) -> String {
    let before: Vec<String> = UNIT_NAMES.iter().map(|unit| format!("{unit}.service")).collect();
    format!(
        "# Made by mailkeep-agent. Ends an exchange of mail's folders that was broken off, before mail is started.\n\
         [Unit]\n\
         Description=Mailkeep: end an interrupted restore before mail starts\n\
         ConditionPathExistsGlob={journals}\n\
         After=local-fs.target\n\
         Before={before}\n\n\
         [Service]\n\
         Type=oneshot\n\
         Environment={state_env}\n\
         ExecStart={program} settle\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        before = before.join(" "),
        journals = state.join("service-*").join(JOURNAL).display().to_string().replace('%', "%%"),
        state_env = unit_word(&format!("{STATE_ENV}={}", state.display())),
        program = unit_word(&program.display().to_string()),
    )
}

/// A word of a unit file: `%` begins a specifier, and in quotes `\` and `"` are special; a `$` is a variable.
fn unit_word(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// The file for cron, in which a `%` would end the command.
pub fn cron_text(program: &Path, state: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let percent = |text: String| text.replace('%', "\\%");
    let rescue = percent(format!("{STATE_ENV}={} {} rescue", quoted(state), quoted(program)));
    let intents = percent(format!("ls {}/service-*/intent.json >/dev/null 2>&1", quoted(state)));
    format!(
        "# Made by mailkeep-agent. Starts mail if this server went down while mail was stopped for a backup.\n\
         SHELL=/bin/sh\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         @reboot root {rescue} --keep-trying\n\
         */5 * * * * root {intents} && {rescue}\n"
    )
}

/// Writes a file durably unless it is there word for word; tells whether it did. What is there half-way would keep a
/// boot from being rescued, so it comes by a rename; the name before that is none that systemd or cron reads.
fn write_if_new(path: &Path, text: &str) -> Result<bool, AgentError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let write = || -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
        fs::create_dir_all(folder)?;
        let new = folder.join(".mailkeep-rescue.new");
        let mut file = fs::File::create(&new)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed(&format!("cannot write {}: {error}", path.display())))?;
    Ok(true)
}

fn failed(why: &str) -> AgentError {
    AgentError::Boot { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_comes_after_mail_and_survives_strange_paths() {
        let text = unit_text(Path::new("/opt/50% \"x\"/agent"), Path::new("/var/lib/mailkeep-agent"));
        for part in [
            "After=local-fs.target network.target cyrus-imapd.service cyrus.service\n",
            "ExecStart=\"/opt/50%% \\\"x\\\"/agent\" rescue --keep-trying\n",
            "Environment=\"MAILKEEP_AGENT_STATE=/var/lib/mailkeep-agent\"\n",
            "WantedBy=multi-user.target\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn trees_are_settled_before_the_boot_starts_mail() {
        let text = settling_text(Path::new("/opt/agent"), Path::new("/var/lib/50%"));
        for part in [
            "Before=cyrus-imapd.service cyrus.service\n",
            "ConditionPathExistsGlob=/var/lib/50%%/service-*/swap.json\n",
            "ExecStart=\"/opt/agent\" settle\n",
            "Type=oneshot\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_ne!(settling(), format!("{}.service", name()));
    }

    #[test]
    fn cron_runs_the_agent_at_boot_and_later_only_where_there_is_an_intent() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("it's state");
        fs::create_dir_all(state.join("service-1")).unwrap();
        let program = dir.path().join("agent");
        let script = format!("#!/bin/sh\necho \"$@\" >> {}/ran\n", dir.path().display());
        // Made by a child: what this process has open for writing is inherited by whatever another test forks at this
        // moment, and cannot be run until that has gone ("text file busy").
        let mut writer = std::process::Command::new("/bin/sh");
        writer.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&program).arg(script);
        assert!(writer.status().unwrap().success());
        let text = cron_text(&program, &state);
        let run = |start: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap();
            let _ = std::process::Command::new("/bin/sh").args(["-c", line]).status().unwrap();
            fs::read_to_string(dir.path().join("ran")).unwrap_or_default()
        };
        assert_eq!(run("*/5 * * * * root "), "");
        assert_eq!(run("@reboot root "), "rescue --keep-trying\n");
        fs::write(state.join("service-1/intent.json"), "{}").unwrap();
        assert_eq!(run("*/5 * * * * root "), "rescue --keep-trying\nrescue\n");
        assert!(cron_text(Path::new("/a%b"), &state).contains("'/a\\%b'"));
    }

    #[test]
    fn a_file_is_written_once_and_again_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/cron.d/x");
        assert!(write_if_new(&path, "one").unwrap());
        assert!(!write_if_new(&path, "one").unwrap());
        assert!(write_if_new(&path, "two").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert!(write_if_new(Path::new("/proc/none/x"), "one").is_err());
    }

    #[test]
    fn a_server_without_a_place_is_told() {
        let said = Place::Nowhere("because").remark().unwrap();
        assert!(said.contains("because") && said.contains("mailkeep-agent rescue"), "{said}");
        assert_eq!(Place::Systemd.remark(), None);
    }
}
