//! Making a pairing, step by step, each taken back if a later one fails.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailkeep_mail::source::{CommandsDigest, SshTransport, Transport};
use mailkeep_mail::{Reach, Source};
use mailkeep_puller::transport::shell_quoted;
use mailkeep_puller::{ProcessTransport, Role, Survey, rehearse, try_restore_key};

use crate::host_key::{self, HostKey};
use crate::limits::AGENT_BYTES;
use crate::login::Login;
use crate::own_key::OwnKey;
use crate::server::{KeysFile, Server};
use crate::source_file::{self, Parts, What};
use crate::take_back::TakeBack;
use crate::{Destination, PairError, Talk, authorized, tool};

/// What is to be paired.
#[derive(Clone, Debug)]
pub struct Request {
    /// The server.
    pub server: Destination,
    /// Name of the source; the server's own name if there is none.
    pub name: Option<String>,
    /// The admin's key for the first login, if it is not one that ssh finds itself.
    pub identity: Option<PathBuf>,
    /// ssh may ask the person for passwords.
    pub asking: bool,
    /// How the host key is trusted.
    pub trust: HostKeyTrust,
    /// The folder in which each pairing has one of its own, for its key and its pinned host keys.
    pub pairings: PathBuf,
    /// The source file; `sources/NAME.toml` beside `pairings` if there is none.
    pub source_out: Option<PathBuf>,
    /// Where agents lie here.
    pub agent: AgentFile,
    /// The folder of the agent on the server.
    pub agent_folder: PathBuf,
    /// The server's file of keys, where sshd is not to be asked.
    pub authorized_keys: Option<String>,
    /// Cyrus's configuration, if it is not where distributions keep it.
    pub imapd_conf: Option<String>,
    /// Folders of another system; none: a mail system is looked for.
    pub folders: Vec<String>,
    /// Program and version, for the agent.
    pub program: String,
}

/// How a host key comes to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyTrust {
    /// By the person's known_hosts, else by asking.
    Ask,
    /// The one with this fingerprint.
    Fingerprint(String),
    /// Whatever it shows this first time.
    FirstSeen,
}

/// Where an agent for the server's machine is looked for.
#[derive(Clone, Debug)]
pub enum AgentFile {
    /// This file.
    Named(PathBuf),
    /// `mailkeep-agent.MACHINE` in one of these folders; `mailkeep-agent` too if the machine is like this one.
    Beside(Vec<PathBuf>),
}

/// A pairing that was made.
#[derive(Clone, Debug)]
pub struct Paired {
    /// Name of the source.
    pub name: String,
    /// The source file.
    pub source_file: PathBuf,
    /// It was there already and was left as it is.
    pub source_kept: bool,
    /// Fingerprints of the pinned host keys.
    pub host_keys: Vec<String>,
    /// The server's file that has the keys now.
    pub authorized_keys: String,
    /// The agent's path there.
    pub agent: String,
    /// The agent's own words.
    pub agent_version: String,
    /// Stands for the commands of the source file, which are allowed there.
    pub commands: CommandsDigest,
    /// The places of the server that the keys reach.
    pub reach: Reach,
    /// For how long they may have mail stopped.
    pub deadline: Duration,
    /// Those that are written out in it: key and command.
    pub written_out: Vec<(&'static str, String)>,
    /// What the rehearsal saw.
    pub survey: Survey,
    /// What the person should know.
    pub remarks: Vec<String>,
    /// Something has to be written into the source file before it can be used.
    pub unfinished: bool,
}

impl Paired {
    /// 0, or 2 if something is left to do or could not be looked at.
    pub fn exit_code(&self) -> u8 {
        if self.unfinished { 2 } else { self.survey.exit_code() }
    }
}

/// The files of one pairing on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    /// The key of every night.
    pub(crate) key: PathBuf,
    /// The key that may put a snapshot back.
    pub(crate) restore_key: PathBuf,
    pub(crate) known_hosts: PathBuf,
    /// The source file as it was written, to tell whether somebody has worked on it since.
    pub(crate) written: PathBuf,
    pub(crate) source: PathBuf,
}

impl Files {
    pub(crate) fn of(request: &Request, name: &str) -> Self {
        let folder = request.pairings.join(name);
        let beside = request.pairings.parent().unwrap_or(Path::new("/"));
        Files {
            key: folder.join("key"),
            restore_key: folder.join("restore-key"),
            known_hosts: folder.join("known_hosts"),
            written: folder.join("source.toml"),
            source: request
                .source_out
                .clone()
                .unwrap_or_else(|| beside.join("sources").join(format!("{name}.toml"))),
            folder,
        }
    }
}

/// Pairs this machine with a server. A pairing that is there already is renewed: the agent is replaced, and what the source
/// file has run is allowed on the server; key, host key and source file stay.
///
/// # Errors
/// See [`PairError`]; what was done has been taken back.
pub fn pair(request: &Request, talk: &dyn Talk) -> Result<Paired, PairError> {
    let server = &request.server;
    talk.step(&format!("asking {} port {} for its host key", server.host, server.port));
    let shown = host_key::shown(server)?;
    let scratch =
        tempfile::tempdir().map_err(|e| PairError::file("make a folder in", Path::new("/tmp"), e))?;
    // The name may come from the server, and which keys are pinned may depend on the name: so the first look is with
    // the keys that are trusted without it.
    let earlier = request.name.as_deref().map(|name| Files::of(request, name).known_hosts);
    let trusted = trusted(request, &shown, earlier.as_deref(), talk)?;
    let first = scratch.path().join("known_hosts");
    let pins: String = trusted.iter().map(|key| key.line(&server.known_as())).collect();
    fs::write(&first, &pins).map_err(|error| PairError::file("write", &first, error))?;

    talk.step(&format!("logging in as {}", server.user));
    let login = Login::open(server, &first, request.identity.as_deref(), request.asking)?;
    let far = Server::new(&login, &server.user, &request.agent_folder);
    let agent = agent_for(&request.agent, &far.machine()?)?;
    let bytes = read_agent(&agent)?;
    let keys_path = request.authorized_keys.clone().map_or_else(|| far.keys_path(), Ok)?;

    talk.step(&format!("copying the agent to {}", far.agent()));
    let had = far.read_keys(&keys_path)?;
    let fresh_agent = !authorized::calls(&had.text, &far.agent());
    let mut undo =
        TakeBack { far: &far, keys: None, agent: fresh_agent, files: Vec::new(), folder: None, armed: true };
    let agent_version = far.put_agent(&agent, &bytes)?;

    talk.step("looking at the mail system");
    let detected = far.detect(request.imapd_conf.as_deref())?;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => source_file::name_for(&detected.hostname)
            .ok_or_else(|| PairError::BadName { name: detected.hostname.clone() })?,
    };
    let files = Files::of(request, &name);
    check_pins(&files.known_hosts, &trusted, server)?;
    let what = if !request.folders.is_empty() {
        What::Folders(request.folders.clone())
    } else if let Some(cyrus) = detected.cyrus {
        What::Cyrus(cyrus)
    } else {
        return Err(PairError::NothingFound { host: server.host.clone(), looked_for: detected.looked_for });
    };

    talk.step("letting the box's two keys in, one for backups and one for restores, for the agent alone");
    if !files.folder.exists() {
        make_folder(&files.folder)?;
        undo.folder = Some(files.folder.clone());
    }
    let own = own_keys(&files, &name, &mut undo)?;
    fs::write(&files.known_hosts, &pins)
        .map_err(|error| PairError::file("write", &files.known_hosts, error))?;
    let parts = Parts {
        name: &name,
        server,
        identity: &files.key,
        restore_identity: &files.restore_key,
        known_hosts: &files.known_hosts,
        agent: &far.agent(),
        what: &what,
    };
    let (text, source) = source_file::text(&parts)?;
    let there = put_source(&files, &text, &mut undo)?;
    let source_kept = there.is_some();
    // One that is there is what backups go by, so that is what is allowed and tried.
    let source = there
        .map_or(Ok(source), |text| source_file::with_restore_key(&text, &files.source, &files.restore_key))?;
    let commands = source.commands_digest();
    let reach = far.reach(&source)?;

    let keys = far.read_keys(&keys_path)?;
    let mut text = keys.text.clone();
    let mut before = Vec::new();
    for (role, key) in &own {
        let agent = shell_quoted(Path::new(&far.agent()));
        let command = format!("{}{agent} serve --role {role} --commands {commands}", login.elevate());
        let command = command + &limits_of(&source, &reach);
        let line = authorized::line(&key.kind, &key.blob, &command, &format!("mailkeep {name} {role}"));
        before.push((key.blob.clone(), authorized::lines_of(&text, &key.blob)));
        text = authorized::with(&text, &key.blob, &line);
    }
    undo.keys = Some((keys_path.clone(), before));
    far.write_keys(&keys, &text)?;
    for (_, key) in &own {
        see_that_it_is_restricted(server, &key.file, &files, &keys)?;
    }

    talk.step("rehearsing: everything is walked, nothing is stopped");
    let transport = ProcessTransport::default();
    let never = AtomicBool::new(false);
    let survey = rehearse(&source, &transport, &request.program, &never).map_err(PairError::Rehearsal)?;
    talk.step("trying the key for restores");
    try_restore_key(&source, &transport, &request.program, &never).map_err(PairError::Rehearsal)?;
    undo.armed = false;
    drop(undo);
    let mut remarks = Vec::new();
    let mut unfinished = false;
    if let What::Cyrus(cyrus) = &what {
        remarks.extend(source_file::remark(cyrus.role).map(str::to_owned));
        if let (true, Some(problem)) = (cyrus.role.has_mailboxes() && !source_kept, &cyrus.quiesce_problem) {
            unfinished = true;
            remarks.push(format!(
                "how mail is stopped was not found: {problem}; say it in {}, then run this again, so that the server allows it",
                files.source.display()
            ));
        }
        if cyrus.role.has_mailboxes() && !source_kept && cyrus.probe.is_none() {
            let file = files.source.display();
            remarks.push(format!(
                "mail greets nowhere: see that it runs, or write a probe into [quiesce] of {file} and run this again"
            ));
        }
    }
    if source_kept {
        remarks.push(format!(
            "{} was there and was left as it is; what it has run on the server is allowed there from now on",
            files.source.display()
        ));
        if !names_restore_key(&files) {
            let (key, file) = (files.restore_key.display(), files.source.display());
            remarks.push(format!(
                "there is a key for restores now: write restore-identity-file = \"{key}\" into [transport] of {file}"
            ));
        }
    }
    Ok(Paired {
        name,
        source_file: files.source,
        source_kept,
        host_keys: trusted.iter().map(HostKey::fingerprint).collect::<Result<_, _>>()?,
        authorized_keys: keys_path,
        agent: far.agent(),
        agent_version,
        commands,
        reach,
        deadline: source.quiesce.deadline,
        written_out: source.commands_written_out(),
        survey,
        remarks,
        unfinished,
    })
}

/// The words of a forced command that say for how long mail may be stopped and which places are reached.
fn limits_of(source: &Source, reach: &Reach) -> String {
    // Of part of a second the whole.
    let deadline = source.quiesce.deadline.as_millis().div_ceil(1000);
    let mut words = format!(" --deadline {deadline}");
    for place in reach.places() {
        words.push_str(" --reach ");
        words.push_str(&shell_quoted(place));
    }
    words
}

/// Both keys, made if they are not there. A pairing of before there were two gets the second.
fn own_keys(files: &Files, name: &str, undo: &mut TakeBack<'_>) -> Result<[(Role, OwnKey); 2], PairError> {
    let mut obtain = |role: Role, file: &Path| -> Result<_, PairError> {
        if !file.exists() {
            undo.files.extend([file.to_owned(), file.with_extension("pub")]);
        }
        Ok((role, OwnKey::obtain(file, &format!("mailkeep {name} {role}"))?))
    };
    Ok([obtain(Role::Backup, &files.key)?, obtain(Role::Restore, &files.restore_key)?])
}

/// Those host keys that somebody vouches for.
pub(crate) fn trusted(
    request: &Request,
    shown: &[HostKey],
    earlier: Option<&Path>,
    talk: &dyn Talk,
) -> Result<Vec<HostKey>, PairError> {
    let server = &request.server;
    let host = server.host.clone();
    let prints = || shown.iter().map(HostKey::fingerprint).collect::<Result<Vec<_>, _>>();
    let other = |known_from: String| {
        let fingerprints = prints()?;
        Err(PairError::OtherHostKey { host: host.clone(), known_from, fingerprints })
    };
    if let Some(file) = earlier {
        let pinned = host_key::pinned(file)?;
        if !pinned.is_empty() {
            let same = host_key::both(shown, &pinned);
            return if same.is_empty() { other(file.display().to_string()) } else { Ok(same) };
        }
    }
    if let HostKeyTrust::Fingerprint(wanted) = &request.trust {
        for key in shown {
            if key.fingerprint()? == *wanted {
                return Ok(vec![key.clone()]);
            }
        }
        return other("--host-key".to_owned());
    }
    let known = host_key::known_to_person(server)?;
    let same = host_key::both(shown, &known);
    if !same.is_empty() {
        return Ok(same);
    }
    if !known.is_empty() {
        return other("known_hosts".to_owned());
    }
    let fingerprints = prints()?;
    if request.trust == HostKeyTrust::FirstSeen || talk.is_it_you(&host, &fingerprints) {
        return Ok(shown.to_vec());
    }
    Err(PairError::UnknownHostKey { host, fingerprints })
}

/// The keys of an earlier pairing of this name must be those that were trusted now: the name came from the server.
fn check_pins(file: &Path, trusted: &[HostKey], server: &Destination) -> Result<(), PairError> {
    let pinned = host_key::pinned(file)?;
    if pinned.is_empty() || !host_key::both(trusted, &pinned).is_empty() {
        return Ok(());
    }
    let fingerprints = trusted.iter().map(HostKey::fingerprint).collect::<Result<_, _>>()?;
    Err(PairError::OtherHostKey {
        host: server.host.clone(),
        known_from: file.display().to_string(),
        fingerprints,
    })
}

fn agent_for(place: &AgentFile, machine: &str) -> Result<PathBuf, PairError> {
    let looked_for: Vec<PathBuf> = match place {
        AgentFile::Named(file) => return Ok(file.clone()),
        AgentFile::Beside(folders) => folders
            .iter()
            .flat_map(|folder| {
                let like_here = (machine == std::env::consts::ARCH).then(|| folder.join("mailkeep-agent"));
                [Some(folder.join(format!("mailkeep-agent.{machine}"))), like_here].into_iter().flatten()
            })
            .collect(),
    };
    match looked_for.iter().find(|file| file.is_file()) {
        Some(file) => Ok(file.clone()),
        None => Err(PairError::NoAgent { machine: machine.to_owned(), looked_for }),
    }
}

fn read_agent(file: &Path) -> Result<Vec<u8>, PairError> {
    let failed = |error| PairError::file("read the agent", file, error);
    let length = fs::metadata(file).map_err(failed)?.len();
    if length > AGENT_BYTES {
        return Err(failed(std::io::Error::other("it is far too large for an agent")));
    }
    fs::read(file).map_err(failed)
}

/// Logs in with the new key and asks for a shell: only the agent may answer, and it says nothing to such a greeting.
fn see_that_it_is_restricted(
    server: &Destination,
    key: &Path,
    files: &Files,
    keys: &KeysFile,
) -> Result<(), PairError> {
    const WORD: &str = "mailkeep-has-a-shell";
    let mut words: Vec<String> =
        ["-F", "none", "-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
            .map(str::to_owned)
            .to_vec();
    let hosts = mailkeep_puller::transport::ssh_quoted(&files.known_hosts);
    words.extend([
        "-o".into(),
        format!("UserKnownHostsFile={hosts}"),
        "-o".into(),
        "GlobalKnownHostsFile=none".into(),
    ]);
    words.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into(), key.to_string_lossy().into_owned()]);
    words.extend(["-p".into(), server.port.to_string(), "-l".into(), server.user.clone()]);
    words.extend(["--".into(), server.host.clone(), format!("echo {WORD}")]);
    let told = tool::run("ssh", &words, b"")?;
    let authorized_keys = keys.path.clone();
    let host = server.host.clone();
    if told.text().contains(WORD) {
        return Err(PairError::KeyUnrestricted { host, authorized_keys });
    }
    // 255 is ssh's own failure; whatever else comes is the agent's.
    if told.code == Some(255) || told.code.is_none() {
        return Err(PairError::KeyIgnored { host, authorized_keys, why: told.last_line() });
    }
    Ok(())
}

/// Writes the source file. One that is there for the same server is left as it is; then this is its text.
fn put_source(files: &Files, text: &str, undo: &mut TakeBack<'_>) -> Result<Option<String>, PairError> {
    if let Some(folder) = files.source.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    let mut made = match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&files.source) {
        Ok(made) => made,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let there = fs::read_to_string(&files.source);
            let there = there.map_err(|error| PairError::file("read", &files.source, error))?;
            let ours = ssh_of(&there).is_some_and(|ssh| ssh.identity_file.as_deref() == Some(&files.key));
            return if ours {
                Ok(Some(there))
            } else {
                Err(PairError::AlreadyThere { path: files.source.clone() })
            };
        }
        Err(error) => return Err(PairError::file("make the source file", &files.source, error)),
    };
    undo.files.push(files.source.clone());
    let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
    written.map_err(|error| PairError::file("write", &files.source, error))?;
    fs::write(&files.written, text).map_err(|error| PairError::file("write", &files.written, error))?;
    Ok(None)
}

fn names_restore_key(files: &Files) -> bool {
    let text = fs::read_to_string(&files.source).unwrap_or_default();
    ssh_of(&text).is_some_and(|ssh| ssh.restore_identity_file.as_deref() == Some(&files.restore_key))
}

/// How the source file `text` reaches its server over ssh.
fn ssh_of(text: &str) -> Option<SshTransport> {
    match Source::parse(text, "the source file").ok()?.transport {
        Transport::Ssh(ssh) => Some(ssh),
        Transport::Local { .. } => None,
    }
}

/// A folder that only we enter, with those above it.
fn make_folder(folder: &Path) -> Result<(), PairError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| PairError::file("make the folder", folder, error))
}
