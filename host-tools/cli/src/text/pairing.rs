//! The words of `pair`: help, the question about the host key, reports.

use mailkeep_pairing::{Paired, Undone};
use mailkeep_restorer::path;

use super::report;
use crate::units::{counted, duration, size};

pub(crate) const ABOUT: &str =
    "Make a mail server known to this box: agent, restricted keys, source file, rehearsal";
pub(crate) const LONG: &str = "\
Make a mail server known to this box.

Logs in once as USER (root, or one who may sudo without a password), pins the host key, copies the agent there, lets two
new keys of this box in that can do nothing but talk to the agent, one for backups and one for restores, finds the mail
system, writes the source file, and rehearses a backup without stopping or copying anything. What fails on the way is
taken back. With these keys nothing else is run on the server than what the source file says now of stopping, starting and
looking at mail, of Cyrus's tools, and of a standby's hooks; no other files are read or put back than those that it comes to
now (with Cyrus: those that imapd.conf names); and mail stops for no longer than its deadline. Pair again when you have changed
that, or when the server got a new partition. Pairing again renews the agent and what is allowed, and keeps the rest; --undo
takes the keys and the agent away again.";
pub(crate) const SERVER: &str =
    "The mail server: USER@HOST, USER@HOST:PORT, or a name from ssh_config; USER is root if not named";
pub(crate) const OUT: &str = "Write the source file here [default: sources/NAME.toml in the config folder]";
pub(crate) const NAME: &str = "Name of the source [default: the server's own name]";
pub(crate) const PORT: &str = "Port of its SSH server";
pub(crate) const IDENTITY: &str = "The admin's own key for this login [default: as ssh finds it]";
pub(crate) const HOST_KEY: &str = "Fingerprint of the right host key, instead of being asked";
pub(crate) const ACCEPT: &str = "Trust whatever host key is shown this first time";
pub(crate) const AGENT: &str =
    "The agent to install [default: mailkeep-agent.MACHINE or mailkeep-agent beside this program]";
pub(crate) const AGENT_DIR: &str = "Folder of the agent on the server";
pub(crate) const KEYS: &str = "The server's authorized_keys file [default: sshd is asked]";
pub(crate) const PAIRINGS: &str =
    "Folder here for the box's keys, one folder per server [default: pairings in the config folder]";
pub(crate) const IMAPD: &str = "Cyrus's configuration, if it is not where distributions keep it";
pub(crate) const PATH: &str = "A folder to back up, of a server without Cyrus; may be given several times";
pub(crate) const UNDO: &str = "Take the pairing back; snapshots stay";

/// The question that a person has to answer with `yes`.
pub(crate) fn is_it_you(host: &str, fingerprints: &[String]) -> String {
    let mut text = format!("{} shows these host keys:\n", shown(host));
    for print in fingerprints {
        text.push_str(&format!("  {print}\n"));
    }
    text.push_str(
        "Compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` (and ecdsa, rsa) at the server's own console.\n\
         Is it the right server? Write yes or no: ",
    );
    text
}

/// What a pairing has come to.
pub(crate) fn paired(paired: &Paired, source_file: &str) -> Vec<String> {
    let survey = &paired.survey;
    let stop = match &survey.quiesce {
        Some(how) => format!("by {}", shown(how)),
        None => "not at all".to_owned(),
    };
    let mut lines = vec![
        format!("Paired with {} as source {}", shown(&survey.host), paired.name),
        format!("  host key     {}", paired.host_keys.join(", ")),
        format!("  agent        {} ({})", shown(&paired.agent), shown(&paired.agent_version)),
        format!("  keys         one for backups, one for restores, in {}", shown(&paired.authorized_keys)),
        format!("  source file  {source_file}"),
        "  allowed      what that file says of stopping, starting and looking at mail; pair again after a change of it"
            .to_owned(),
    ];
    let written_out = paired.written_out.iter();
    lines.extend(written_out.map(|(key, command)| format!("               {key}: {}", shown(command))));
    let places = paired.reach.places().iter().map(|place| shown(&place.display().to_string()));
    lines.extend([
        format!("               mail may stop for {}", duration(paired.deadline.as_secs_f64())),
        format!("  reach        {}", places.collect::<Vec<_>>().join(", ")),
    ]);
    lines.extend([
        "Rehearsed: both keys reach the agent; nothing was stopped, read or stored. A backup would"
            .to_owned(),
        format!(
            "  walk         {}",
            survey.roots.iter().map(|root| shown(root)).collect::<Vec<_>>().join(", ")
        ),
        format!("  stop mail    {stop}"),
        format!("  read         {} ({})", counted(survey.files, "file", "files"), size(survey.bytes)),
    ]);
    let away = survey.window.iter().flat_map(report::window);
    lines.extend(away.map(|(heading, text)| format!("  {heading:<11}  {text}")));
    for problem in &survey.problems {
        lines.push(format!("Could not be looked at: {}: {}", shown(&problem.path), shown(&problem.what)));
    }
    lines.extend(paired.remarks.iter().map(|remark| format!("Note: {}", shown(remark))));
    lines.push(format!("Next: mailkeep backup --source {source_file}"));
    lines
}

/// What was taken back.
pub(crate) fn unpaired(undone: &Undone, host: &str) -> Vec<String> {
    let mut lines = vec![format!(
        "{} lets this box in no longer: its keys are out of {}",
        shown(host),
        shown(&undone.authorized_keys)
    )];
    if undone.agent_stays {
        lines.push("The agent stays there: another box's key calls it.".to_owned());
    }
    if let Some(file) = &undone.source_stays {
        lines.push(format!("{} was changed by somebody and stays.", file.display()));
    }
    lines
}

/// Text from the server, fit for a terminal.
fn shown(text: &str) -> String {
    path::show(text.as_bytes())
}
