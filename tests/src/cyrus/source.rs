//! Writes Mailkeep source files (INTERFACES: "Source file") for lab servers and local trees.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::server::{BIN_DIR, Cyrus};
use crate::process::write_script;
use crate::programs::bin;
use crate::ssh::Sshd;

/// How the box reaches the agent.
#[derive(Debug)]
pub enum Transport<'a> {
    /// As a child process.
    Local,
    /// Through a loopback sshd of the lab.
    Ssh(&'a Sshd),
}

/// What a test may want to differ from the usual.
#[derive(Debug)]
pub struct Options<'a> {
    /// How the agent is reached.
    pub transport: Transport<'a>,
    /// `outage-budget`.
    pub outage_budget: &'a str,
    /// `deadline` of the restart guard.
    pub deadline: &'a str,
    /// Another program than the built agent.
    pub agent: Option<PathBuf>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { transport: Transport::Local, outage_budget: "60s", deadline: "2m", agent: None }
    }
}

/// Writes the source file of a lab server and returns its path.
pub fn cyrus_source(path: &Path, server: &Cyrus, options: &Options<'_>) -> Result<PathBuf> {
    let mut text = String::new();
    let root = server.root().display();
    writeln!(text, "name = \"lab\"\nsystem = \"cyrus\"\noutage-budget = \"{}\"\n", options.outage_budget)?;
    let agent = match &options.agent {
        Some(path) => path.clone(),
        None => own_agent(server)?,
    };
    text.push_str(&transport(&options.transport, &agent));
    writeln!(
        text,
        "\n[cyrus]\nimapd-conf = \"{root}/imapd.conf\"\ncyrus-user = \"cyrus\"\nalso = [\"{root}/cyrus.conf\"]\nbin-dir = \"{BIN_DIR}\"\n"
    )?;
    writeln!(
        text,
        "[quiesce]\nmode = \"command\"\nstop = [\"{root}/bin/stop\"]\nstart = [\"{root}/bin/start\"]\nrunning = [\"{root}/bin/running\"]\n\
         probe = \"imap://127.0.0.1:{}\"\ndeadline = \"{}\"",
        server.ports().imap,
        options.deadline
    )?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_owned())
}

/// Writes the source file of a tree that belongs to no mail system.
pub fn generic_source(path: &Path, name: &str, tree: &Path, more: &str) -> Result<PathBuf> {
    let agent = transport(&Transport::Local, &bin("mailkeep-agent")?);
    let text = format!(
        "name = \"{name}\"\nsystem = \"generic\"\n\n{agent}\n[generic]\npaths = [\"{}\"]\n{more}",
        tree.display()
    );
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_owned())
}

/// The built agent behind a script that gives it a state folder of its own: servers of one machine that are called
/// alike must not be taken for each other.
fn own_agent(server: &Cyrus) -> Result<PathBuf> {
    let script = server.script("agent");
    let (state, agent) = (server.agent_state(), bin("mailkeep-agent")?);
    let text = format!(
        "#!/bin/sh\nexport MAILKEEP_AGENT_STATE='{}' MAILKEEP_AGENT_BOOT=no\nexec '{}' \"$@\"\n",
        state.display(),
        agent.display()
    );
    write_script(&script, &text)?;
    Ok(script)
}

fn transport(transport: &Transport<'_>, agent: &Path) -> String {
    let agent = agent.display();
    match transport {
        Transport::Local => format!("[transport]\nkind = \"local\"\nagent-path = \"{agent}\"\n"),
        Transport::Ssh(sshd) => format!(
            "[transport]\nkind = \"ssh\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"root\"\nidentity-file = \"{}\"\n\
             known-hosts-file = \"{}\"\nagent-path = \"{agent}\"\n",
            sshd.port(),
            sshd.identity().display(),
            sshd.known_hosts().display()
        ),
    }
}
