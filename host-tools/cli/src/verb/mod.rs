//! The verbs, one file each.

mod backup;
mod diff;
mod drill;
mod eject;
mod find;
mod generate;
mod guards;
mod init;
mod key;
mod ls;
mod mail;
mod mount;
mod pair;
mod promote;
mod prune;
mod reindex;
mod repair;
mod rescue_kit;
mod restore;
mod restore_server;
mod show;
mod snapshots;
mod stats;
mod status;
mod unlock;
mod verify;

use crate::App;
use crate::args::{Generate, Verb};
use crate::exit::Failure;

/// Runs a verb; gives the exit code of a run that came to its end.
pub(crate) fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Init(args) => init::run(app, args),
        Verb::Backup(args) => backup::run(app, &args),
        Verb::Pair(args) => pair::run(app, args),
        Verb::Snapshots(args) => snapshots::run(app, &args),
        Verb::Show(args) => show::run(app, &args),
        Verb::Ls(args) => ls::run(app, &args),
        Verb::Find(args) => find::run(app, &args),
        Verb::Diff(args) => diff::run(app, &args),
        Verb::Mail { verb } => mail::run(app, &verb),
        Verb::Mount(args) => mount::run(app, &args),
        Verb::Restore(args) => restore::run(app, args),
        Verb::RestoreServer(args) => restore_server::run(app, &args),
        Verb::Promote(args) => promote::run(app, &args),
        Verb::Drill(args) => drill::run(app, &args),
        Verb::Verify(args) => verify::run(app, &args),
        Verb::Prune(args) => prune::run(app, &args),
        Verb::Stats => stats::run(app),
        Verb::Reindex => reindex::run(app),
        Verb::Repair(args) => repair::run(app, &args),
        Verb::Key { verb } => key::run(app, verb),
        Verb::Guards { verb } => guards::run(app, &verb),
        Verb::RescueKit(args) => rescue_kit::run(app, &args),
        Verb::Unlock => unlock::run(app),
        Verb::Status(args) => status::run(app, &args),
        Verb::Eject(args) => eject::run(app, &args),
        Verb::Generate { what: Generate::Man { out } } => generate::man(app, out.as_deref()),
        Verb::Generate { what: Generate::Completions { shell } } => generate::completions(app, shell),
    }
}
