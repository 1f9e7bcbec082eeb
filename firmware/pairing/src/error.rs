//! The one error type of this crate, the exit code that fits each error, and what to do.

use std::path::{Path, PathBuf};

use mailkeep_mail::MailError;
use mailkeep_puller::PullError;
use thiserror::Error;

/// Why a pairing was not made, or not undone. Each text is one line; the cause is left to `source()`.
///
/// Whatever the error: what had been done was taken back, as far as the server could still be reached.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PairError {
    /// No server can be read out of what was typed.
    #[error("\"{text}\" is no USER@HOST")]
    BadDestination {
        /// What was typed.
        text: String,
    },
    /// A name that cannot be one of a source.
    #[error("\"{name}\" cannot be the name of a source")]
    BadName {
        /// The name.
        name: String,
    },
    /// A program of this machine cannot be run or fails.
    #[error("{program} fails here: {why}")]
    Program {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
    /// The server cannot be reached.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// The server.
        host: String,
        /// The last line that ssh said.
        why: String,
    },
    /// Nobody has said yet which host key is the right one.
    #[error("the host key of {host} is not known here; it shows {}", fingerprints.join(", "))]
    UnknownHostKey {
        /// The server.
        host: String,
        /// What it shows.
        fingerprints: Vec<String>,
    },
    /// The server shows other keys than are known of it: another machine, or somebody in between.
    #[error("{host} shows another host key than {known_from} has: {}", fingerprints.join(", "))]
    OtherHostKey {
        /// The server.
        host: String,
        /// Where the known one is from.
        known_from: String,
        /// What it shows.
        fingerprints: Vec<String>,
    },
    /// The admin's login fails.
    #[error("the login as {user} on {host} fails: {why}")]
    Login {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// The last line that ssh said.
        why: String,
    },
    /// The login is not root's and cannot become root.
    #[error("{user} on {host} is not root and `sudo -n` does not make it so: {why}")]
    NotRoot {
        /// The server.
        host: String,
        /// The user.
        user: String,
        /// What sudo said.
        why: String,
    },
    /// Something failed on the server.
    #[error("{host}: cannot {doing}: {why}")]
    Server {
        /// The server.
        host: String,
        /// What was done.
        doing: &'static str,
        /// The last line of its words.
        why: String,
    },
    /// There is no agent for that machine here.
    #[error("there is no mailkeep-agent for {machine} here: looked for {}", listed(looked_for))]
    NoAgent {
        /// The server's machine word, like `x86_64`.
        machine: String,
        /// Where it was looked for.
        looked_for: Vec<PathBuf>,
    },
    /// The agent does not run there.
    #[error("the agent {} does not run on {host}: {why}", agent.display())]
    AgentUnfit {
        /// The server.
        host: String,
        /// The agent's file here.
        agent: PathBuf,
        /// The last line of its words.
        why: String,
    },
    /// The server's answer makes no sense.
    #[error("{host} answers with something else than {wanted}")]
    Garbled {
        /// The server.
        host: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Nothing to back up was found.
    #[error("no mail system was found on {host}: {looked_for}")]
    NothingFound {
        /// The server.
        host: String,
        /// What was looked for.
        looked_for: String,
    },
    /// The source file is there and belongs to something else.
    #[error("{} is there already and is not of this pairing", path.display())]
    AlreadyThere {
        /// The file.
        path: PathBuf,
    },
    /// The server does not let the new key in.
    #[error("{host} does not let the new key in although {authorized_keys} has it: {why}")]
    KeyIgnored {
        /// The server.
        host: String,
        /// The file that was written there.
        authorized_keys: String,
        /// The last line that ssh said.
        why: String,
    },
    /// The new key can do more than talk to the agent.
    #[error("{host} gives the new key a shell: its sshd does not heed the options in {authorized_keys}")]
    KeyUnrestricted {
        /// The server.
        host: String,
        /// The file that was written there.
        authorized_keys: String,
    },
    /// The rehearsal failed.
    #[error("the rehearsal failed, and the pairing was taken back")]
    Rehearsal(#[source] PullError),
    /// What was written cannot be read as a source file.
    #[error("the source file for this server would be wrong")]
    Source(#[source] MailError),
    /// A file of this machine.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is nothing to undo.
    #[error("{} is no pairing: it has no key", folder.display())]
    NotPaired {
        /// Where the key would be.
        folder: PathBuf,
    },
    /// The agent on the server says that mail might be stopped.
    #[error("{host}: mail may still be stopped by an unfinished backup ({why}); nothing was undone")]
    MailMayBeStopped {
        /// The server.
        host: String,
        /// What the agent said.
        why: String,
    },
}

impl PairError {
    /// The exit code of INTERFACES.md that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            PairError::BadDestination { .. } | PairError::BadName { .. } => 64,
            PairError::Unreachable { .. } => 75,
            PairError::Rehearsal(error) => error.exit_code(),
            PairError::Source(_) => 78,
            _ => 1,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PairError::BadDestination { .. } => "write it like root@mail1.example.org or root@10.0.0.5:2222".to_owned(),
            PairError::BadName { .. } => {
                "give another with --name: letters, digits, `-`, `_`, `.`, beginning with a letter or digit".to_owned()
            }
            PairError::Program { .. } => "install OpenSSH's client programs (Debian: openssh-client)".to_owned(),
            PairError::UnknownHostKey { .. } => {
                "compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the server, then add --host-key SHA256:…"
                    .to_owned()
            }
            PairError::OtherHostKey { .. } => {
                "if the server was really made anew, remove the old key there (ssh-keygen -R) and pair again".to_owned()
            }
            PairError::Login { .. } => {
                "log in with a key (--identity FILE or ssh-agent), or run this in a terminal to be asked for the password"
                    .to_owned()
            }
            PairError::NotRoot { .. } => "log in as root, or allow this user sudo without a password".to_owned(),
            PairError::NoAgent { .. } => "name the agent for that machine with --agent FILE".to_owned(),
            PairError::AgentUnfit { .. } => {
                "use the static agent (`make agent`), built for that machine, and --agent-dir where programs may run"
                    .to_owned()
            }
            PairError::NothingFound { .. } => {
                "name the configuration with --imapd-conf FILE, or the folders of another system with --path DIR".to_owned()
            }
            PairError::AlreadyThere { .. } => "name another file with --source-out, or another --name".to_owned(),
            PairError::KeyIgnored { .. } => {
                "see AuthorizedKeysFile and PermitRootLogin in its sshd_config; the right file can be named with \
                 --authorized-keys FILE"
                    .to_owned()
            }
            PairError::KeyUnrestricted { .. } => "its sshd must be OpenSSH 7.2 or newer".to_owned(),
            PairError::NotPaired { .. } => "name the pairing with --name as when it was made".to_owned(),
            PairError::MailMayBeStopped { .. } => "see whether mail runs there, then run it again".to_owned(),
            _ => return None,
        })
    }

    pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        PairError::File { doing, path: path.to_owned(), source }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
