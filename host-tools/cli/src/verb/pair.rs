//! `pair`: makes a mail server known to this box, and forgets it again.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use mailkeep_pairing::{
    AgentFile, Destination, HostKeyTrust, PairError, Paired, Request, Talk, Undone, pair, source_file, undo,
};
use serde::Serialize;

use crate::args::Pair;
use crate::exit::{self, Failure};
use crate::text::pairing;
use crate::{App, config};

#[derive(Serialize)]
struct Made<'a> {
    message_type: &'static str,
    source: &'a str,
    source_file: String,
    source_kept: bool,
    host: &'a str,
    port: u16,
    user: &'a str,
    host_keys: &'a [String],
    authorized_keys: &'a str,
    agent: &'a str,
    agent_version: &'a str,
    commands: String,
    reach: Vec<String>,
    deadline_seconds: u64,
    quiesce: Option<&'a str>,
    files: u64,
    bytes: u64,
    problem_count: u64,
    remarks: &'a [String],
}

#[derive(Serialize)]
struct Forgotten<'a> {
    message_type: &'static str,
    source: &'a str,
    host: &'a str,
    authorized_keys: &'a str,
    agent_stays: bool,
    source_stays: Option<String>,
}

pub(crate) fn run(app: &App, args: Pair) -> Result<u8, Failure> {
    let server = Destination::resolve(&args.server, args.port)?;
    if let Some(name) = args.name.as_deref().filter(|name| !source_file::is_name(name)) {
        return Err(PairError::BadName { name: name.to_owned() }.into());
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let request = Request {
        name: args.name.clone(),
        identity: args.identity.map(absolute),
        asking: io::stdin().is_terminal(),
        trust: match args.host_key {
            Some(print) => HostKeyTrust::Fingerprint(print),
            None if args.accept_new_host_key => HostKeyTrust::FirstSeen,
            None => HostKeyTrust::Ask,
        },
        pairings: args.pairings.map_or_else(|| config::folder().join("pairings"), absolute),
        source_out: args.source_out.map(absolute),
        agent: args.agent.map_or_else(beside_us, AgentFile::Named),
        agent_folder: args.agent_dir,
        authorized_keys: args.authorized_keys,
        imapd_conf: args.imapd_conf,
        folders: args.paths,
        program: concat!("mailkeep ", env!("CARGO_PKG_VERSION")).to_owned(),
        server,
    };
    let talk = Person { app };
    if args.undo {
        let name = args.name.or_else(|| source_file::name_for(&request.server.host)).ok_or_else(|| {
            Failure::new(exit::USAGE, "which pairing is to be undone?").hint("name it with --name")
        })?;
        let undone = undo(&request, &name, &talk)?;
        tell_undone(app, &request, &undone)?;
        return Ok(exit::DONE);
    }
    let paired = pair(&request, &talk)?;
    tell(app, &request, &paired)?;
    Ok(paired.exit_code())
}

fn tell(app: &App, request: &Request, paired: &Paired) -> Result<(), Failure> {
    let source_file = paired.source_file.display().to_string();
    if app.console.json {
        return app.console.object(&Made {
            message_type: "summary",
            source: &paired.name,
            source_file,
            source_kept: paired.source_kept,
            host: &request.server.host,
            port: request.server.port,
            user: &request.server.user,
            host_keys: &paired.host_keys,
            authorized_keys: &paired.authorized_keys,
            agent: &paired.agent,
            agent_version: &paired.agent_version,
            commands: paired.commands.to_string(),
            reach: paired.reach.places().iter().map(|place| place.display().to_string()).collect(),
            deadline_seconds: paired.deadline.as_secs(),
            quiesce: paired.survey.quiesce.as_deref(),
            files: paired.survey.files,
            bytes: paired.survey.bytes,
            problem_count: paired.survey.problem_count,
            remarks: &paired.remarks,
        });
    }
    pairing::paired(paired, &source_file).iter().try_for_each(|line| app.console.say(line))
}

fn tell_undone(app: &App, request: &Request, undone: &Undone) -> Result<(), Failure> {
    let host = &request.server.host;
    let source_stays = undone.source_stays.as_ref().map(|path| path.display().to_string());
    if app.console.json {
        return app.console.object(&Forgotten {
            message_type: "summary",
            source: &undone.name,
            host,
            authorized_keys: &undone.authorized_keys,
            agent_stays: undone.agent_stays,
            source_stays,
        });
    }
    pairing::unpaired(undone, host).iter().try_for_each(|line| app.console.say(line))
}

/// Agents lie beside this program, or where a package puts them for other machines.
fn beside_us() -> AgentFile {
    let own = std::env::current_exe().ok().and_then(|own| own.parent().map(PathBuf::from));
    AgentFile::Beside(own.into_iter().chain([PathBuf::from("/usr/lib/mailkeep/agents")]).collect())
}

/// The person at the terminal.
struct Person<'a> {
    app: &'a App,
}

impl Talk for Person<'_> {
    fn step(&self, what: &str) {
        if self.app.console.verbose() || io::stderr().is_terminal() {
            self.app.console.note(&format!("{what} …"));
        }
    }

    fn is_it_you(&self, host: &str, fingerprints: &[String]) -> bool {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return false;
        }
        let mut answer = String::new();
        let asked = write!(io::stderr(), "{}", pairing::is_it_you(host, fingerprints))
            .and_then(|()| io::stdin().read_line(&mut answer));
        asked.is_ok() && answer.trim() == "yes"
    }
}
