//! `promote`: mail is started on a standby, and it takes over.

use mailkeep_puller::{ProcessTransport, Role};
use mailkeep_rebuild::Server;
use serde::Serialize;

use super::restore_server::{PROGRAM, read_source};
use crate::App;
use crate::args::{Event, Promote};
use crate::exit::{self, Failure};
use crate::signal;
use crate::units::counted;

#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    hooks: u64,
    problems: &'a [String],
}

pub(crate) fn run(app: &App, args: &Promote) -> Result<u8, Failure> {
    let cancel = signal::cancel_first(&app.console)?;
    let source = read_source(&args.source)?;
    let transport = ProcessTransport { role: Role::Restore, ..ProcessTransport::default() };
    let mut server = Server::connect(&source, &transport, PROGRAM, &cancel)?;
    let event = match args.event {
        Event::Start => "START",
        Event::Failover => "FAILOVER",
    };
    let done = server.promote(event)?;
    let remarks = server.take_remarks();
    server.close();
    for (what, _) in &remarks {
        app.console.note(&format!("mailkeep: {what}"));
    }
    for problem in &done.problems {
        app.console.problem("", problem, false);
    }
    if app.console.json {
        let line = SummaryLine { message_type: "summary", hooks: done.count, problems: &done.problems };
        app.console.object(&line)?;
    }
    app.console
        .say(&format!("Mail runs there and answers; {} done.", counted(done.count, "hook", "hooks")))?;
    Ok(if done.problems.is_empty() { exit::DONE } else { exit::PARTLY })
}
