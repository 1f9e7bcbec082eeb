//! Tables for people: one per figure, each cell with its ratio, and at the end what was reached.

use crate::options::Options;
use crate::results::{Results, Run};
use crate::rows::{ROWS, Row};
use crate::targets::Verdict;
use crate::tools::OURS;

/// Prints everything.
pub(crate) fn print(options: &Options, results: &Results, verdicts: &[Verdict]) {
    print_figure(results, "CPU s (user + system)", |run| run.cost.cpu);
    print_figure(results, "wall s", |run| run.cost.wall);
    print_figure(results, "peak MiB, all processes", |run| run.cost.peak_mib);
    println!("\n{:<26}{}", "repository MB", header(results));
    print_row(results, "after the first backup", |tool| results.size(tool, Row::First));
    print_row(results, "growth on the day", |tool| results.growth(tool, Row::Day));
    print_row(results, "after prune", |tool| results.size(tool, Row::Prune));
    println!(
        "\nset {}, {} round(s), medians; in brackets the ratio to {OURS}'s figure (above 1: {OURS} is better). \
         rsync keeps no history and does not encrypt.",
        options.shape.name, options.rounds
    );
    if !results.missing.is_empty() {
        println!("not installed, so not compared: {}", results.missing.join(", "));
    }
    println!("\n{:<58}{:>9}{:>9}{:>9}{:>9}", "target", "ours", "theirs", "is", "may be");
    for verdict in verdicts {
        let theirs = verdict.theirs.map_or("–".to_owned(), figure);
        let value = verdict.value.map_or("–".to_owned(), |value| format!("{value:.2}"));
        let name = match verdict.peer {
            Some(peer) if !verdict.what.ends_with(peer) => format!("{} ({peer})", verdict.what),
            _ => verdict.what.clone(),
        };
        let judgement = match verdict.reached {
            Some(true) => "reached",
            Some(false) => "NOT REACHED",
            None => "no such peer here",
        };
        println!("{name:<52}{:>9.2}{theirs:>9}{value:>9}{:>9.2}  {judgement}", verdict.ours, verdict.limit);
    }
    let judged = verdicts.iter().filter_map(|verdict| verdict.reached);
    println!("{} of {} reached", judged.clone().filter(|&reached| reached).count(), judged.count());
}

fn print_figure(results: &Results, title: &str, of: impl Fn(&Run) -> f64) {
    println!("\n{title:<26}{}", header(results));
    for row in ROWS {
        print_row(results, row.name(), |tool| results.median(tool, row, &of));
    }
}

fn header(results: &Results) -> String {
    results.tools.iter().map(|name| format!("{name:>18}")).collect()
}

fn print_row(results: &Results, label: &str, value: impl Fn(&str) -> Option<f64>) {
    let ours = value(OURS);
    let cells: Vec<String> = results
        .tools
        .iter()
        .map(|tool| match (value(tool), ours) {
            (Some(value), _) if *tool == OURS => figure(value),
            (Some(value), Some(ours)) => format!("{} ({:.2})", figure(value), value / ours.max(1e-9)),
            (Some(value), None) => figure(value),
            (None, _) => "–".to_owned(),
        })
        .collect();
    if cells.iter().any(|cell| cell != "–") {
        let cells: String = cells.iter().map(|cell| format!("{cell:>18}")).collect();
        println!("{label:<26}{cells}");
    }
}

/// Small figures with a digit more.
fn figure(value: f64) -> String {
    if value.abs() < 1.0 { format!("{value:.3}") } else { format!("{value:.2}") }
}
