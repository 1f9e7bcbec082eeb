//! The ladder: which way to stop and start mail is the gentlest that a server offers. A pure function from the
//! source file and the facts of the server to a rung; the agent gathers the facts and runs the commands.
//!
//! No rung ever disables or masks a service: a server that reboots inside the window must come up with mail.

use std::path::PathBuf;

use crate::cyrus::tools::{self, CyrusVersion, ToolCommand};
use crate::error::MailError;
use crate::source::{Argv, ProbeProtocol, QuiesceMode, Source, System};

/// Names of the systemd units that distributions give Cyrus, in the order in which they are preferred.
pub const UNIT_NAMES: &[&str] = &["cyrus-imapd", "cyrus"];

/// Init scripts that distributions give Cyrus, the newest first.
pub const INIT_SCRIPTS: &[&str] =
    &["/etc/init.d/cyrus-imapd", "/etc/init.d/cyrus", "/etc/init.d/cyrus22", "/etc/init.d/cyrus21"];

/// The folder that is there exactly when systemd is the running init (sd_booted(3)).
pub const SYSTEMD_MARK: &str = "/run/systemd/system";

/// What the agent found out about its server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// [`SYSTEMD_MARK`] is a folder.
    pub systemd_runs: bool,
    /// Those of [`UNIT_NAMES`] whose `systemctl show -p LoadState --value` is `loaded`.
    pub units: Vec<String>,
    /// Those of [`INIT_SCRIPTS`] that are there and can be executed.
    pub init_scripts: Vec<PathBuf>,
    /// The version of Cyrus, where it could be found.
    pub cyrus_version: Option<CyrusVersion>,
    /// `cyr_withlock_run`, where it is there and can be executed.
    pub lock_tool: Option<PathBuf>,
}

/// A way to stop mail, to start it, and to ask whether it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// Cyrus' own global lock: nothing is stopped, and nothing writes while it is held.
    GlobalLock {
        /// `cyr_withlock_run` with its options; what is to run while the lock is held comes after them.
        run: ToolCommand,
        /// The configuration of that Cyrus.
        imapd_conf: PathBuf,
    },
    /// A systemd unit.
    Systemd {
        /// Its name, without `.service`.
        unit: String,
    },
    /// A script in /etc/init.d, where systemd does not run.
    Init {
        /// Its full path.
        script: PathBuf,
    },
    /// The commands of the source file.
    Command {
        /// Stops mail.
        stop: Argv,
        /// Starts mail.
        start: Argv,
        /// Exits 0 while mail runs.
        running: Option<Argv>,
    },
    /// Nothing has to be stopped: a generic source without commands.
    Nothing,
}

impl Rung {
    /// Stops mail; returns when it is stopped. `None` if there is nothing to stop, or nothing that a command stops.
    pub fn stop(&self) -> Option<Argv> {
        match self {
            Rung::GlobalLock { .. } => None,
            Rung::Systemd { unit } => Some(systemctl("stop", unit)),
            Rung::Init { script } => Some(Argv::new(script.display().to_string(), ["stop"])),
            Rung::Command { stop, .. } => Some(stop.clone()),
            Rung::Nothing => None,
        }
    }

    /// What to run before each start, its result ignored: a unit that failed too often is not started again
    /// until its failures are forgotten.
    pub fn before_start(&self) -> Option<Argv> {
        match self {
            Rung::Systemd { unit } => Some(systemctl("reset-failed", unit)),
            _ => None,
        }
    }

    /// Starts mail. That it answers again is proved by the probe only, not by the exit code.
    pub fn start(&self) -> Option<Argv> {
        match self {
            Rung::GlobalLock { .. } => None,
            Rung::Systemd { unit } => Some(systemctl("start", unit)),
            Rung::Init { script } => Some(Argv::new(script.display().to_string(), ["start"])),
            Rung::Command { start, .. } => Some(start.clone()),
            Rung::Nothing => None,
        }
    }

    /// Exits 0 while mail runs. Where there is no such command, the probe has to tell.
    pub fn running(&self) -> Option<Argv> {
        match self {
            Rung::GlobalLock { .. } => None,
            Rung::Systemd { unit } => Some(Argv::new("systemctl", ["is-active", "--quiet", &service(unit)])),
            Rung::Init { script } => Some(Argv::new(script.display().to_string(), ["status"])),
            Rung::Command { running, .. } => running.clone(),
            Rung::Nothing => None,
        }
    }

    /// Prints a text that changes whenever something else starts the service: the same text at the begin
    /// and at the end of the freeze says that nobody started mail and stopped it again in between.
    pub fn instance(&self) -> Option<Argv> {
        match self {
            Rung::Systemd { unit } => Some(Argv::new(
                "systemctl",
                ["show", "-p", "InvocationID,ActiveState,MainPID", &service(unit)],
            )),
            _ => None,
        }
    }

    /// Which service it is, the same for all who stop it; `None` if there is nothing to stop.
    pub fn service(&self) -> Option<Vec<String>> {
        match self {
            Rung::GlobalLock { imapd_conf, .. } => {
                Some(vec!["global-lock".to_owned(), imapd_conf.display().to_string()])
            }
            _ => self.start().map(|start| start.words()),
        }
    }

    /// What to call it in messages and in the manifest.
    pub fn describe(&self) -> String {
        match self {
            Rung::GlobalLock { run, .. } => format!("global lock by {}", run.argv.program()),
            Rung::Systemd { unit } => format!("systemd unit {unit}"),
            Rung::Init { script } => format!("init script {}", script.display()),
            Rung::Command { stop, .. } => format!("command {}", stop.program()),
            Rung::Nothing => "nothing to stop".to_owned(),
        }
    }
}

fn service(unit: &str) -> String {
    format!("{unit}.service")
}

fn systemctl(verb: &str, unit: &str) -> Argv {
    Argv::new("systemctl", [verb, &service(unit)])
}

/// Why this rung is the one, in words: what was found, and why the gentler ones are not taken. For the dry run and the
/// manifest.
pub fn why(source: &Source, facts: &Facts, rung: &Rung) -> String {
    if source.quiesce.mode != QuiesceMode::Auto {
        return "mode in [quiesce] of the source file says so".to_owned();
    }
    let lock = match (facts.cyrus_version, &facts.lock_tool) {
        (Some(version), Some(_)) if version >= CyrusVersion::GLOBAL_LOCK => {
            format!("Cyrus {version} can be held still without a stop")
        }
        (Some(version), None) if version >= CyrusVersion::GLOBAL_LOCK => {
            format!("Cyrus {version} has a global lock, but its cyr_withlock_run is not installed")
        }
        (Some(version), _) => format!("Cyrus {version} has no global lock"),
        (None, _) => "the version of Cyrus is not known, so no global lock".to_owned(),
    };
    match rung {
        Rung::GlobalLock { .. } => lock,
        Rung::Systemd { .. } => format!("{lock}; systemd runs and has this unit"),
        Rung::Init { .. } => format!("{lock}; systemd does not run"),
        Rung::Command { .. } if matches!(source.system, System::Cyrus(_)) => {
            format!("{lock}; {}", looked_for(facts))
        }
        Rung::Command { .. } => "the source file has commands".to_owned(),
        Rung::Nothing => "the source file has no commands".to_owned(),
    }
}

/// The rung for a source on a server with these facts.
pub fn choose(source: &Source, facts: &Facts) -> Result<Rung, MailError> {
    let quiesce = &source.quiesce;
    let commands = || match (&quiesce.stop, &quiesce.start) {
        (Some(stop), Some(start)) => {
            Some(Rung::Command { stop: stop.clone(), start: start.clone(), running: quiesce.running.clone() })
        }
        _ => None,
    };
    let cyrus = matches!(source.system, System::Cyrus(_));
    let lock = || {
        let System::Cyrus(options) = &source.system else { return None };
        let new_enough = facts.cyrus_version.is_some_and(|version| version >= CyrusVersion::GLOBAL_LOCK);
        let tool = facts.lock_tool.as_ref().filter(|_| new_enough)?;
        let run = tools::lock_command(options, tool);
        Some(Rung::GlobalLock { run, imapd_conf: options.imapd_conf.clone() })
    };
    let systemd = || {
        let unit = UNIT_NAMES.iter().find(|name| facts.units.iter().any(|unit| unit == *name))?;
        (cyrus && facts.systemd_runs).then(|| Rung::Systemd { unit: (*unit).to_owned() })
    };
    let init = || {
        let known =
            INIT_SCRIPTS.iter().map(PathBuf::from).find(|script| facts.init_scripts.contains(script))?;
        // Under systemd the script would hide from it what runs; the unit made from the script is the rung.
        (cyrus && !facts.systemd_runs).then_some(Rung::Init { script: known })
    };
    let none = |looked_for: String, hint: &str| MailError::NoRung { looked_for, hint: hint.to_owned() };
    const WRITE: &str = "write mode = \"command\" with stop and start into [quiesce] of the source file";
    match quiesce.mode {
        QuiesceMode::Auto => match lock().or_else(systemd).or_else(init).or_else(commands) {
            Some(rung) => Ok(rung),
            None if cyrus => Err(none(looked_for(facts), WRITE)),
            None => Ok(Rung::Nothing),
        },
        QuiesceMode::Command => {
            commands().ok_or_else(|| none("the source file has no stop and start commands".to_owned(), WRITE))
        }
        QuiesceMode::GlobalLock => lock().ok_or_else(|| match facts.cyrus_version {
            Some(version) if version >= CyrusVersion::GLOBAL_LOCK => none(
                format!(
                    "Cyrus {version} has the global lock, but its program cyr_withlock_run was not found"
                ),
                "install it, or name its folder as bin-dir in [cyrus] of the source file",
            ),
            Some(version) => none(
                format!("Cyrus {version} has no global lock, which came with {}", CyrusVersion::GLOBAL_LOCK),
                "write mode = \"auto\" into [quiesce] of the source file",
            ),
            None => none(
                "mode = \"global-lock\" needs Cyrus 3.12, and no Cyrus version could be found out".to_owned(),
                "write mode = \"auto\" into [quiesce] of the source file",
            ),
        }),
        QuiesceMode::Systemd if !cyrus => Err(none(
            "mode = \"systemd\" looks for a Cyrus service, and this source is not Cyrus".to_owned(),
            WRITE,
        )),
        QuiesceMode::Init if !cyrus => Err(none(
            "mode = \"init\" looks for a Cyrus script, and this source is not Cyrus".to_owned(),
            WRITE,
        )),
        QuiesceMode::Systemd => systemd().ok_or_else(|| none(looked_for(facts), WRITE)),
        QuiesceMode::Init => init().ok_or_else(|| none(looked_for(facts), WRITE)),
    }
}

/// What the ladder looked for, and what it saw.
fn looked_for(facts: &Facts) -> String {
    let systemd = if facts.systemd_runs {
        format!("systemd runs, but has none of the units {}", UNIT_NAMES.join(", "))
    } else {
        format!("systemd does not run ({SYSTEMD_MARK} is missing)")
    };
    let init = match (facts.systemd_runs, facts.init_scripts.first()) {
        (true, Some(script)) => format!("{} is not used beside systemd", script.display()),
        (_, _) => format!("none of {} is there", INIT_SCRIPTS.join(", ")),
    };
    format!("{systemd}; {init}")
}

/// Whether the first line that a server sends proves that mail is back. A refusal (`* BYE`, `-ERR`, `421`) and
/// silence do not.
pub fn greeting_ok(protocol: ProbeProtocol, first_line: &str) -> bool {
    let mut words = first_line.split_ascii_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match protocol {
        ProbeProtocol::Imap => {
            first == "*" && ["OK", "PREAUTH"].iter().any(|word| second.eq_ignore_ascii_case(word))
        }
        ProbeProtocol::Pop3 => first.eq_ignore_ascii_case("+OK"),
        // `220-` begins a greeting of several lines.
        ProbeProtocol::Smtp => first == "220" || first.starts_with("220-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(system: &str, quiesce: &str) -> Source {
        let text = format!(
            "name = \"m\"\nsystem = \"{system}\"\n[transport]\nkind = \"local\"\n[generic]\npaths = [\"/srv\"]\n[quiesce]\n{quiesce}"
        );
        Source::parse(&text, "m.toml").unwrap()
    }

    fn facts(systemd_runs: bool, units: &[&str], scripts: &[&str]) -> Facts {
        Facts {
            systemd_runs,
            units: units.iter().map(|u| (*u).to_owned()).collect(),
            init_scripts: scripts.iter().map(PathBuf::from).collect(),
            cyrus_version: None,
            lock_tool: None,
        }
    }

    fn words(argv: Option<Argv>) -> String {
        argv.unwrap().to_string()
    }

    const COMMANDS: &str = "stop = [\"/opt/stop\"]\nstart = [\"/opt/start\", \"-v\"]\n";

    #[test]
    fn auto_takes_the_gentlest_rung_that_is_there() {
        let auto = source("cyrus", COMMANDS);
        let all = ["/etc/init.d/cyrus21", "/etc/init.d/cyrus22"];
        let choose = |facts: Facts| choose(&auto, &facts).unwrap();
        assert_eq!(
            choose(facts(true, &["cyrus", "cyrus-imapd"], &all)),
            Rung::Systemd { unit: "cyrus-imapd".into() }
        );
        assert_eq!(choose(facts(true, &["cyrus"], &all)), Rung::Systemd { unit: "cyrus".into() });
        assert_eq!(
            choose(facts(false, &["cyrus"], &all)),
            Rung::Init { script: "/etc/init.d/cyrus22".into() }
        );
        assert!(matches!(choose(facts(false, &[], &[])), Rung::Command { .. }));
        assert!(matches!(choose(facts(true, &[], &all)), Rung::Command { .. }));
    }

    #[test]
    fn without_any_rung_the_error_says_what_was_looked_for_and_what_to_write() {
        let said = choose(&source("cyrus", ""), &facts(true, &[], &["/etc/init.d/cyrus21"]))
            .unwrap_err()
            .to_string();
        for part in
            ["systemd runs", "cyrus-imapd, cyrus", "cyrus21 is not used", "mode = \"command\"", "[quiesce]"]
        {
            assert!(said.contains(part), "{said}");
        }
        let said = choose(&source("cyrus", ""), &facts(false, &[], &[])).unwrap_err().to_string();
        assert!(said.contains("/run/systemd/system") && said.contains("/etc/init.d/cyrus22"), "{said}");
    }

    #[test]
    fn a_mode_that_is_asked_for_is_never_replaced_by_another() {
        let everything = facts(true, &["cyrus-imapd"], &["/etc/init.d/cyrus22"]);
        let command = source("cyrus", &format!("mode = \"command\"\n{COMMANDS}"));
        assert!(matches!(choose(&command, &everything).unwrap(), Rung::Command { .. }));
        assert!(choose(&source("cyrus", "mode = \"init\""), &everything).is_err());
        assert!(choose(&source("cyrus", "mode = \"systemd\""), &facts(true, &[], &[])).is_err());
        assert!(choose(&source("generic", "mode = \"systemd\""), &everything).is_err());
        assert!(
            choose(&source("generic", "mode = \"init\""), &facts(false, &[], &["/etc/init.d/cyrus22"]))
                .is_err()
        );
    }

    #[test]
    fn the_global_lock_is_the_gentlest_rung_from_3_12_on() {
        let auto = source("cyrus", COMMANDS);
        let with = |version: &str, tool: Option<&str>| Facts {
            cyrus_version: CyrusVersion::find(version),
            lock_tool: tool.map(PathBuf::from),
            ..facts(true, &["cyrus-imapd"], &[])
        };
        let tool = Some("/usr/lib/cyrus/bin/cyr_withlock_run");
        let new = with("cyrus 3.12.0", tool);
        let rung = choose(&auto, &new).unwrap();
        let Rung::GlobalLock { run, .. } = &rung else { panic!("{rung:?}") };
        assert_eq!(
            run.argv_for_root().to_string(),
            "runuser -u cyrus -- /usr/lib/cyrus/bin/cyr_withlock_run -C /etc/imapd.conf"
        );
        assert_eq!((rung.stop(), rung.start(), rung.running()), (None, None, None));
        assert_eq!(rung.service().unwrap(), ["global-lock", "/etc/imapd.conf"]);
        assert!(why(&auto, &new, &rung).contains("3.12.0"), "{}", why(&auto, &new, &rung));
        for (other, said) in [
            (with("cyrus 3.10.2", tool), "3.10.2 has no global lock; systemd runs"),
            (with("cyrus 3.12.1", None), "cyr_withlock_run is not installed; systemd runs"),
            (with("", tool), "not known"),
        ] {
            let rung = choose(&auto, &other).unwrap();
            assert!(matches!(rung, Rung::Systemd { .. }), "{rung:?}");
            assert!(why(&auto, &other, &rung).contains(said), "{}", why(&auto, &other, &rung));
        }
        let asked = source("cyrus", "mode = \"global-lock\"");
        assert!(matches!(choose(&asked, &new).unwrap(), Rung::GlobalLock { .. }));
        assert!(choose(&source("generic", "mode = \"global-lock\""), &new).is_err());
    }

    #[test]
    fn no_rung_touches_what_a_boot_does() {
        let rungs =
            [Rung::Systemd { unit: "cyrus".into() }, Rung::Init { script: "/etc/init.d/cyrus22".into() }];
        for rung in rungs {
            let all = [rung.stop(), rung.start(), rung.before_start(), rung.running(), rung.instance()];
            for argv in all.into_iter().flatten() {
                let harmless = ["stop", "start", "status", "reset-failed", "is-active", "show"];
                assert!(harmless.contains(&argv.arguments()[0].as_str()), "{argv}");
            }
        }
    }

    #[test]
    fn the_global_lock_is_known_and_refused_by_name() {
        let locked = source("cyrus", "mode = \"global-lock\"");
        let said = |version: &str| {
            let facts = Facts { cyrus_version: CyrusVersion::find(version), ..Facts::default() };
            choose(&locked, &facts).unwrap_err().to_string()
        };
        assert!(said("cyrus 3.12.1").contains("cyr_withlock_run was not found"));
        assert!(said("cyrus 3.6.1").contains("3.6.1 has no global lock"));
        assert!(said("").contains("no Cyrus version"));
    }

    #[test]
    fn a_generic_source_never_stops_cyrus() {
        let everything = facts(true, &["cyrus-imapd"], &["/etc/init.d/cyrus22"]);
        assert_eq!(choose(&source("generic", ""), &everything).unwrap(), Rung::Nothing);
        assert!(matches!(choose(&source("generic", COMMANDS), &everything).unwrap(), Rung::Command { .. }));
    }

    #[test]
    fn what_each_rung_runs() {
        let systemd = Rung::Systemd { unit: "cyrus-imapd".into() };
        assert_eq!(words(systemd.stop()), "systemctl stop cyrus-imapd.service");
        assert_eq!(words(systemd.before_start()), "systemctl reset-failed cyrus-imapd.service");
        assert_eq!(words(systemd.start()), "systemctl start cyrus-imapd.service");
        assert_eq!(words(systemd.running()), "systemctl is-active --quiet cyrus-imapd.service");
        let init = Rung::Init { script: "/etc/init.d/cyrus22".into() };
        assert_eq!(words(init.stop()), "/etc/init.d/cyrus22 stop");
        assert_eq!(words(init.running()), "/etc/init.d/cyrus22 status");
        assert_eq!(Rung::Nothing.stop(), None);
    }

    #[test]
    fn only_a_real_greeting_counts() {
        use ProbeProtocol::{Imap, Pop3, Smtp};
        for (protocol, line, good) in [
            (Imap, "* OK [CAPABILITY IMAP4rev1] ready", true),
            (Imap, "* PREAUTH hi\r\n", true),
            (Imap, "* BYE shutting down", false),
            (Imap, "* OKAY", false),
            (Imap, "", false),
            (Pop3, "+OK ready", true),
            (Pop3, "-ERR busy", false),
            (Smtp, "220 mail ESMTP", true),
            (Smtp, "220-mail ESMTP", true),
            (Smtp, "2200", false),
            (Smtp, "421 too busy", false),
        ] {
            assert_eq!(greeting_ok(protocol, line), good, "{line}");
        }
    }
}
