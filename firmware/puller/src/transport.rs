//! How the box reaches an agent: a child process on this machine, or the system's `ssh`.
//!
//! Promises: the child is in a process group of its own, so that Ctrl-C in a terminal reaches the run and not the
//! agent in the middle of its window; its error output is kept for the error message; it is always reaped, input
//! closed first, then a bounded wait, then a kill (upon which the guard on the server starts mail).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mailkeep_link::LinkError;
pub use mailkeep_link::Role;
use mailkeep_mail::Source;
use mailkeep_mail::source::{SshTransport, Transport as Way};

use crate::limits::{
    FRUGAL_ALLOCATOR, PIPE_SIZE, REAP_WAIT, SSH_ALIVE_SECONDS, SSH_CONNECT_SECONDS, STDERR_LINES, TEXT_MAX,
};
use crate::{PullError, text};

/// Name of the agent's program.
pub const AGENT: &str = "mailkeep-agent";

/// Reaches agents. Contract: the streams of [`Far`] end when the far end does, and the far end notices when they are
/// dropped.
pub trait Transport {
    /// Starts the agent of `source`; does not wait for its greeting.
    ///
    /// # Errors
    /// The program cannot be started. That a server cannot be reached shows at the greeting.
    fn connect(&self, source: &Source) -> Result<Far, PullError>;
}

/// A started far end.
pub struct Far {
    /// What the agent says.
    pub input: Box<dyn Read + Send>,
    /// What is said to it.
    pub output: Box<dyn Write + Send>,
    /// The process behind, if there is one.
    pub process: Option<FarProcess>,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Far").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Child processes as the source file asks for them.
#[derive(Clone, Debug, Default)]
pub struct ProcessTransport {
    /// The agent's program on this machine, where the source file names none; else it is looked for beside the
    /// running program and then in the PATH.
    pub local_agent: Option<PathBuf>,
    /// What the agent is called for. Over ssh each role has its key, and that key's forced command decides.
    pub role: Role,
}

impl Transport for ProcessTransport {
    fn connect(&self, source: &Source) -> Result<Far, PullError> {
        match &source.transport {
            Way::Local { agent_path } => {
                let program =
                    agent_path.clone().or_else(|| self.local_agent.clone()).unwrap_or_else(beside_us);
                let mut command = Command::new(&program);
                command.args(call(self.role)).envs(FRUGAL_ALLOCATOR);
                start(command, &program, "this machine", false)
            }
            Way::Ssh(ssh) => start(ssh_command(ssh, self.role), Path::new("ssh"), &ssh.host, true),
        }
    }
}

fn beside_us() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|folder| folder.join(AGENT)))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from(AGENT))
}

/// What the agent is called with. Those that are older than roles know the first word only, and what it means.
fn call(role: Role) -> &'static [&'static str] {
    match role {
        Role::Backup => &["serve"],
        Role::Restore => &["serve", "--role", "restore"],
    }
}

fn ssh_command(ssh: &SshTransport, role: Role) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
    command.args(["-o", "ClearAllForwardings=yes", "-o", "ServerAliveCountMax=3"]);
    command.arg("-o").arg(format!("ServerAliveInterval={SSH_ALIVE_SECONDS}"));
    command.arg("-o").arg(format!("ConnectTimeout={SSH_CONNECT_SECONDS}"));
    if let Some(file) = &ssh.known_hosts_file {
        command.arg("-o").arg(format!("UserKnownHostsFile={}", ssh_quoted(file)));
        // The pinned file alone decides.
        command.args(["-o", "GlobalKnownHostsFile=none"]);
    }
    // Where no key is named for restores, the one that is may do both.
    let restoring = ssh.restore_identity_file.as_ref().filter(|_| role == Role::Restore);
    if let Some(file) = restoring.or(ssh.identity_file.as_ref()) {
        command.arg("-i").arg(file).args(["-o", "IdentitiesOnly=yes"]);
    }
    command.arg("-p").arg(ssh.port.to_string()).arg("-l").arg(&ssh.user).arg("--").arg(&ssh.host);
    let agent = ssh.agent_path.as_deref().map_or_else(|| AGENT.to_owned(), shell_quoted);
    command.arg(format!("{agent} {}", call(role).join(" ")));
    command
}

/// A path as a value of an ssh option: spaces need quotes, `%` starts a token.
pub fn ssh_quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

/// A path as one word of a shell.
pub fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

fn start(mut command: Command, program: &Path, host: &str, is_ssh: bool) -> Result<Far, PullError> {
    let failed = |source| PullError::AgentStart { program: program.to_owned(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let process = FarProcess {
        child,
        host: host.to_owned(),
        is_ssh,
        said: Arc::default(),
        listener: None,
        patience: REAP_WAIT,
        greeted: false,
    };
    let (Some(input), Some(output), Some(errors)) = streams else {
        return Err(failed(std::io::Error::other("its pipes are missing")));
    };
    // One write and one read carry sixteen times as much then. Where it is not allowed, the usual size does as well.
    for pipe in [input.as_fd(), output.as_fd()] {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
    }
    let mut far = Far { input: Box::new(output), output: Box::new(input), process: None };
    far.process = Some(process.listening_to(errors).map_err(failed)?);
    Ok(far)
}

/// The process of a far end.
#[derive(Debug)]
pub struct FarProcess {
    child: Child,
    host: String,
    is_ssh: bool,
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    patience: Duration,
    greeted: bool,
}

impl FarProcess {
    fn listening_to(mut self, errors: impl Read + Send + 'static) -> std::io::Result<Self> {
        let said = Arc::clone(&self.said);
        let listener =
            std::thread::Builder::new().name("agent-stderr".into()).spawn(move || listen(errors, &said))?;
        self.listener = Some(listener);
        Ok(self)
    }

    /// The machine that the agent runs on, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether another machine is behind it.
    pub(crate) fn is_ssh(&self) -> bool {
        self.is_ssh
    }

    /// Sets how long the process may take to end once its input is closed.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Notes that the agent has answered: what fails from now on is no failure to reach it.
    pub fn greeted(&mut self) {
        self.greeted = true;
    }

    /// The last line of the error output.
    fn last_line(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// Waits for the end, at most `patience`.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }

    /// Turns the failure of the link into what really happened, by the exit status and the last words.
    pub fn explain(&mut self, failure: LinkError) -> PullError {
        let ended =
            matches!(failure, LinkError::Closed | LinkError::Cut | LinkError::Write(_) | LinkError::Read(_));
        let status = if ended { self.wait(Duration::from_secs(2)) } else { None };
        if status.is_some() {
            // All that it said is here once the pipe has ended; a grandchild that holds it open is not waited for.
            let until = Instant::now() + Duration::from_millis(500);
            while self.listener.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let host = self.host.clone();
        let said = self.last_line();
        let or_nothing = |said: Option<String>| said.unwrap_or_else(|| "it said nothing".to_owned());
        let Some(status) = status else { return PullError::Link { host, said, source: failure } };
        match status.code() {
            // ssh's own failures, a signal among them: of the agent nothing is known.
            Some(255) | None if self.is_ssh => {
                let why = said.unwrap_or_else(|| format!("ssh ended ({status})"));
                if self.greeted {
                    PullError::Lost { host, why }
                } else {
                    PullError::Unreachable { host, why }
                }
            }
            Some(126 | 127) if self.is_ssh => PullError::AgentMissing { host, said: or_nothing(said) },
            _ => PullError::AgentEnded { host, status: status.to_string(), said: or_nothing(said) },
        }
    }
}

impl Drop for FarProcess {
    fn drop(&mut self) {
        // The streams are gone by now, so the agent knows. If it is starting mail it needs its time.
        if self.wait(self.patience).is_none() {
            tracing::warn!(
                host = self.host,
                "the agent does not end; it is killed, the guard on the server takes over"
            );
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn listen(errors: impl Read, said: &Mutex<VecDeque<String>>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without an end must not grow for ever.
        match (&mut errors).take(4 * TEXT_MAX as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = text::line(&String::from_utf8_lossy(&line));
        if text.is_empty() {
            continue;
        }
        tracing::debug!(line = text, "agent says");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= STDERR_LINES {
            said.pop_front();
        }
        said.push_back(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(transport: &str) -> Source {
        let text = format!(
            "name = \"t\"\nsystem = \"generic\"\n[transport]\n{transport}\n[generic]\npaths = [\"/srv\"]\n"
        );
        Source::parse(&text, "test").unwrap()
    }

    fn arguments(transport: &str) -> Vec<String> {
        arguments_for(transport, Role::Backup)
    }

    fn arguments_for(transport: &str, role: Role) -> Vec<String> {
        let Way::Ssh(ssh) = source(transport).transport else { panic!("not ssh") };
        ssh_command(&ssh, role).get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn ssh_is_called_with_pinned_keys_and_never_asks() {
        let words = arguments(
            "kind = \"ssh\"\nhost = \"mail1\"\nuser = \"bak\"\nport = 2222\nidentity-file = \"/k/id\"\n\
             known-hosts-file = \"/k/known %h\"\nagent-path = \"/opt/it's/agent\"",
        );
        let joined = words.join("\n");
        for needed in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=\"/k/known %%h\"",
            "GlobalKnownHostsFile=none",
            "-i\n/k/id\n-o\nIdentitiesOnly=yes",
            "-p\n2222\n-l\nbak\n--\nmail1\n'/opt/it'\\''s/agent' serve",
        ] {
            assert!(joined.contains(needed), "{needed} in {joined}");
        }
    }

    #[test]
    fn each_role_has_its_key() {
        let both =
            "kind = \"ssh\"\nhost = \"m\"\nidentity-file = \"/k/key\"\nrestore-identity-file = \"/k/other\"";
        let key = |words: &[String]| words.iter().skip_while(|word| *word != "-i").nth(1).cloned();
        let (backup, restore) = (arguments(both), arguments_for(both, Role::Restore));
        assert_eq!((key(&backup).as_deref(), key(&restore).as_deref()), (Some("/k/key"), Some("/k/other")));
        assert_eq!(restore.last().map(String::as_str), Some("mailkeep-agent serve --role restore"));
        let one = arguments_for("kind = \"ssh\"\nhost = \"m\"\nidentity-file = \"/k/key\"", Role::Restore);
        assert_eq!(key(&one).as_deref(), Some("/k/key"));
    }

    #[test]
    fn without_an_agent_path_the_far_path_is_searched() {
        assert_eq!(
            arguments("kind = \"ssh\"\nhost = \"m\"").last().map(String::as_str),
            Some("mailkeep-agent serve")
        );
    }

    fn script(text: &str) -> Far {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        start(command, Path::new("sh"), "h", true).unwrap()
    }

    fn explained(text: &str) -> PullError {
        let Far { input, output, process } = script(text);
        drop((input, output));
        process.unwrap().explain(LinkError::Closed)
    }

    #[test]
    fn the_exit_status_tells_what_happened() {
        let gone = explained("echo noise >&2; echo 'no route to host' >&2; exit 255");
        assert!(matches!(&gone, PullError::Unreachable { why, .. } if why == "no route to host"), "{gone}");
        assert_eq!(gone.exit_code(), 75);
        let missing = explained("echo 'not found' >&2; exit 127");
        assert!(matches!(missing, PullError::AgentMissing { .. }), "{missing}");
        let killed = explained("kill -9 $$");
        assert!(
            matches!(&killed, PullError::Unreachable { why, .. } if why.contains("signal: 9")),
            "{killed}"
        );
        let ended = explained("exit 3");
        assert!(matches!(&ended, PullError::AgentEnded { said, .. } if said == "it said nothing"), "{ended}");
        let Far { input, output, process } = script("exit 255");
        drop((input, output));
        let mut process = process.unwrap();
        process.greeted();
        let lost = process.explain(LinkError::Cut);
        assert!(matches!(lost, PullError::Lost { .. }), "{lost}");
        assert_eq!(lost.exit_code(), 75);
    }

    #[test]
    fn a_child_that_does_not_end_is_killed_and_reaped() {
        let Far { input, output, process } = script("trap '' HUP TERM; exec sleep 1000");
        drop((input, output));
        let mut process = process.unwrap();
        let pid = process.child.id();
        process.set_patience(Duration::from_millis(50));
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let wanted = source("kind = \"local\"\nagent-path = \"/nowhere/agent\"");
        let error = ProcessTransport::default().connect(&wanted).unwrap_err();
        assert!(error.to_string().contains("/nowhere/agent"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}
