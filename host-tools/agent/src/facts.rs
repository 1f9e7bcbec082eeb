//! What this server is: which ways to stop mail it offers, and the versions that a restore may want to know.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mailkeep_mail::Source;
use mailkeep_mail::cyrus::tools::{self, CyrusVersion, ToolCommand};
use mailkeep_mail::quiesce::{Facts, INIT_SCRIPTS, SYSTEMD_MARK, UNIT_NAMES};
use mailkeep_mail::source::{Argv, CyrusOptions, Probe, ProbeProtocol, System};
use rustix::process::geteuid;

use crate::command;
use crate::limits;
use crate::probe::{greeting, greets};

/// Names with versions.
pub type Versions = Vec<(String, String)>;

/// Looks at the server.
pub fn gather(source: &Source) -> (Facts, Versions) {
    let mut versions = Vec::new();
    let mut facts = Facts { systemd_runs: Path::new(SYSTEMD_MARK).is_dir(), ..Facts::default() };
    if let System::Cyrus(options) = &source.system {
        if facts.systemd_runs {
            facts.units =
                UNIT_NAMES.iter().filter(|unit| is_loaded(unit)).map(|unit| (*unit).to_owned()).collect();
        }
        facts.init_scripts =
            INIT_SCRIPTS.iter().map(PathBuf::from).filter(|script| is_executable(script)).collect();
        facts.cyrus_version = cyrus_version(options, source.quiesce.probe.as_ref());
        facts.lock_tool = tools::find_tool(options, "cyr_withlock_run", &mut |path| is_executable(path)).ok();
        if let Some(version) = facts.cyrus_version {
            versions.push(("cyrus".to_owned(), version.to_string()));
        }
    }
    let uname = rustix::system::uname();
    versions.push(("kernel".to_owned(), uname.release().to_string_lossy().into_owned()));
    if let Some(system) = os_name() {
        versions.push(("system".to_owned(), system));
    }
    versions.push(("mailkeep-agent".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    (facts, versions)
}

/// The probe of the source file, else the first usual port on which something greets as mail does. Found while mail
/// runs, it proves that mail is back later.
pub fn probe(source: &Source) -> Option<Probe> {
    let named = source.quiesce.probe.clone();
    if named.is_some() || !matches!(source.system, System::Cyrus(_)) {
        return named;
    }
    [(ProbeProtocol::Imap, 143), (ProbeProtocol::Pop3, 110)]
        .into_iter()
        .map(|(protocol, port)| Probe { protocol, host: "127.0.0.1".to_owned(), port })
        .find(greets)
}

/// The first line of a file of the kernel's.
pub fn kernel_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A command of Cyrus for whoever we are.
pub fn as_its_user(command: &ToolCommand) -> Argv {
    if geteuid().is_root() { command.argv_for_root() } else { command.argv.clone() }
}

fn cyrus_version(options: &CyrusOptions, probe: Option<&Probe>) -> Option<CyrusVersion> {
    let by_tool = || {
        let tool = tools::find_tool(options, "cyr_info", &mut |path| is_executable(path)).ok()?;
        let argv = as_its_user(&tools::version_command(options, &tool));
        let done = command::run(&argv, limits::ASK_BOUND, &|| false).ok()?;
        CyrusVersion::find(&done.output)
    };
    by_tool().or_else(|| CyrusVersion::find(&greeting(probe?)?))
}

/// Whether a file is there and can be executed.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}

fn is_loaded(unit: &str) -> bool {
    let name = format!("{unit}.service");
    let argv = Argv::new("systemctl", ["show", "-p", "LoadState", "--value", name.as_str()]);
    command::run(&argv, limits::ASK_BOUND, &|| false).is_ok_and(|done| done.output.trim() == "loaded")
}

fn os_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}
