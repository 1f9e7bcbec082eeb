//! `repair`: brings back what can be brought back. The plan is shown first; with `--dry-run` that is all.

use mailkeep_repository::{Monitor, Phase, Problem, RepairOptions, RepairPlan, WriterOptions};
use serde::Serialize;

use crate::App;
use crate::args::Repair;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::text::report;
use crate::{repo, signal};

#[derive(Serialize)]
struct PlanLine {
    message_type: &'static str,
    restore: Vec<String>,
    quarantine: Vec<String>,
    reindex: bool,
    lost: u64,
    lost_snapshots: Vec<String>,
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    dry_run: bool,
    restored: u64,
    quarantined: u64,
    salvaged_chunks: u64,
    undone: u64,
    lost: u64,
    lost_snapshots: Vec<String>,
}

/// Damage is what a repair is for: it is told as the plan, in the words of the plan, and not as it is met.
struct Quietly<'a>(&'a Ear);

impl Monitor for Quietly<'_> {
    fn problem(&self, problem: &Problem) {
        tracing::debug!(path = problem.path, "{}", problem.what);
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        Monitor::progress(self.0, phase, done, total);
    }
}

pub(crate) fn run(app: &App, args: &Repair) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let (repository, key) = repo::open_with(app, &Quietly(&ear))?;
    let options = RepairOptions { dry_run: args.dry_run, key, writer: WriterOptions::default() };
    let mut shown = Ok(());
    let mut show = |plan: &RepairPlan| {
        app.console.settle();
        shown = show_plan(app, plan);
    };
    let done = repository.repair(&options, &mut show, &Quietly(&ear))?;
    shown?;
    app.console.settle();
    for problem in &done.undone {
        app.console.problem(&problem.path, &problem.what, false);
    }
    for problem in &done.plan.lost {
        app.console.problem(&problem.path, &problem.what, true);
    }
    let lost = done.plan.lost.len() as u64;
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            dry_run: args.dry_run,
            restored: done.restored.len() as u64,
            quarantined: done.quarantined.len() as u64,
            salvaged_chunks: done.salvaged,
            undone: done.undone.len() as u64,
            lost,
            lost_snapshots: done.plan.lost_snapshots.iter().map(|id| id.hex()).collect(),
        })?;
    } else {
        for line in report::repaired(&done, args.dry_run) {
            app.console.line(&line)?;
        }
    }
    Ok(match (done.lost(), done.partly()) {
        (true, _) => exit::DAMAGED,
        (false, true) => exit::PARTLY,
        (false, false) => exit::DONE,
    })
}

fn show_plan(app: &App, plan: &RepairPlan) -> Result<(), Failure> {
    if app.console.json {
        return app.console.object(&PlanLine {
            message_type: "plan",
            restore: plan.to_restore(),
            quarantine: plan.to_quarantine(),
            reindex: plan.index || !plan.packs.is_empty(),
            lost: plan.lost.len() as u64,
            lost_snapshots: plan.lost_snapshots.iter().map(|id| id.hex()).collect(),
        });
    }
    report::repair_plan(plan).iter().try_for_each(|line| app.console.line(line))?;
    // Before the work begins, also into a pipe.
    app.console.flush()
}
