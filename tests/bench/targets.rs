//! What Mailkeep wants to reach, as ratios to a peer in the same run, and whether it does.

use serde::Serialize;

use crate::results::{Results, Run};
use crate::rows::{ROWS, Row};
use crate::tools::OURS;

/// Most memory that a run may hold, MiB.
const MEMORY_MIB: f64 = 64.0;
/// How long it may take to mount, to list the spool and one folder, and to unmount, seconds.
const FIRST_LS: f64 = 1.0;
/// Least speed of reading everything through the mount, to that of a restore.
const MOUNT_SPEED: f64 = 0.6;
/// Peers that deduplicate; a mirror is no match where they are meant.
const DEDUPLICATING: &[&str] = &["restic", "borg", "bupstash", "rustic"];

/// What a target is about.
#[derive(Clone, Copy)]
enum Figure {
    Cpu(Row),
    Wall(Row),
    Size,
    Growth,
}

/// At most `limit` times what the best of `peers` takes, on these sets.
struct Target {
    figure: Figure,
    peers: &'static [&'static str],
    limit: f64,
    sets: &'static [&'static str],
}

const MAIL: &[&str] = &["XS", "S", "M", "L", "own"];
const MIXED: &[&str] = &["XS", "S", "M", "own"];

const TARGETS: &[Target] = &[
    Target { figure: Figure::Cpu(Row::First), peers: &["bupstash"], limit: 0.85, sets: MIXED },
    Target { figure: Figure::Wall(Row::First), peers: &["bupstash"], limit: 0.6, sets: MIXED },
    Target { figure: Figure::Cpu(Row::First), peers: &["restic"], limit: 0.30, sets: MIXED },
    Target { figure: Figure::Cpu(Row::NoChange), peers: &["rsync"], limit: 1.0, sets: MAIL },
    Target { figure: Figure::Cpu(Row::NoChange), peers: &["restic"], limit: 0.12, sets: MAIL },
    Target { figure: Figure::Cpu(Row::Day), peers: &["restic"], limit: 0.20, sets: MAIL },
    Target { figure: Figure::Growth, peers: &["borg"], limit: 1.0, sets: MAIL },
    Target { figure: Figure::Cpu(Row::Restore), peers: &["bupstash"], limit: 0.6, sets: MAIL },
    Target { figure: Figure::Cpu(Row::Folder), peers: DEDUPLICATING, limit: 0.5, sets: MAIL },
    Target { figure: Figure::Cpu(Row::Verify), peers: DEDUPLICATING, limit: 0.7, sets: MAIL },
    Target { figure: Figure::Size, peers: &["bupstash"], limit: 0.82, sets: MIXED },
    Target { figure: Figure::Size, peers: &["bupstash"], limit: 1.0, sets: &["L"] },
    Target { figure: Figure::Size, peers: &["bupstash"], limit: 0.02, sets: &["blast"] },
];

/// How a target was met.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// What it is about.
    pub(crate) what: String,
    /// The peer that it was compared with; `None` if none of them took part.
    pub(crate) peer: Option<&'static str>,
    /// Ours, in the figure's unit.
    pub(crate) ours: f64,
    /// The peer's.
    pub(crate) theirs: Option<f64>,
    /// Ours to theirs, or ours itself for memory.
    pub(crate) value: Option<f64>,
    /// What it may be.
    pub(crate) limit: f64,
    /// Whether it is.
    pub(crate) reached: Option<bool>,
}

/// All verdicts that this run allows, in the order of the targets.
pub(crate) fn judge(results: &Results, set: &str) -> Vec<Verdict> {
    let targets = TARGETS.iter().filter(|target| target.sets.contains(&set));
    let mut verdicts: Vec<Verdict> = targets.filter_map(|target| target.judge(results)).collect();
    verdicts.extend(mounted(results));
    for row in ROWS {
        let Some(ours) = results.median(OURS, row, |run| run.cost.peak_mib) else { continue };
        verdicts.push(Verdict {
            what: format!("{} memory, MiB", row.name()),
            peer: None,
            ours,
            theirs: None,
            value: Some(ours),
            limit: MEMORY_MIB,
            reached: Some(ours <= MEMORY_MIB),
        });
    }
    verdicts
}

/// A figure of a run.
type Of = fn(&Run) -> f64;

/// What a mount is to reach: beside nobody, or beside our own restore.
fn mounted(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Some(ours) = results.median(OURS, Row::FirstLs, |run| run.cost.wall) {
        verdicts.push(Verdict {
            what: "first ls in a new mount, wall s".to_owned(),
            peer: None,
            ours,
            theirs: None,
            value: Some(ours),
            limit: FIRST_LS,
            reached: Some(ours <= FIRST_LS),
        });
    }
    let figures: [(&str, Of); 2] = [("CPU", |run| run.cost.cpu), ("wall", |run| run.cost.wall)];
    for (name, figure) in figures {
        let (Some(ours), Some(restore)) =
            (results.median(OURS, Row::Mount, figure), results.median(OURS, Row::Restore, figure))
        else {
            continue;
        };
        let value = ours / restore.max(1e-9);
        verdicts.push(Verdict {
            what: format!("all through the mount, {name}, to our restore"),
            peer: None,
            ours,
            theirs: Some(restore),
            value: Some(value),
            limit: 1.0 / MOUNT_SPEED,
            reached: Some(value <= 1.0 / MOUNT_SPEED),
        });
    }
    verdicts
}

impl Target {
    fn judge(&self, results: &Results) -> Option<Verdict> {
        let figure = |tool: &str| match self.figure {
            Figure::Cpu(row) => results.median(tool, row, |run| run.cost.cpu),
            Figure::Wall(row) => results.median(tool, row, |run| run.cost.wall),
            Figure::Size => results.size(tool, Row::First),
            Figure::Growth => results.growth(tool, Row::Day),
        };
        let ours = figure(OURS)?;
        let peers = self.peers.iter().filter_map(|&peer| Some((peer, figure(peer)?)));
        let best = peers.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let value = best.map(|(_, theirs)| ours / theirs.max(1e-9));
        Some(Verdict {
            what: match self.figure {
                Figure::Cpu(row) => format!("{} CPU, to {}", row.name(), self.peer_text()),
                Figure::Wall(row) => format!("{} wall, to {}", row.name(), self.peer_text()),
                Figure::Size => format!("size, to {}", self.peer_text()),
                Figure::Growth => format!("growth on the day, to {}", self.peer_text()),
            },
            peer: best.map(|(peer, _)| peer),
            ours,
            theirs: best.map(|(_, theirs)| theirs),
            value,
            limit: self.limit,
            reached: value.map(|value| value <= self.limit),
        })
    }

    fn peer_text(&self) -> &'static str {
        match self.peers {
            [one] => one,
            _ => "the best deduplicating peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;

    fn results(figures: &[(&'static str, f64)]) -> Results {
        let runs = figures.iter().map(|&(tool, cpu)| Run {
            set: "S",
            round: 0,
            row: Row::Verify,
            tool,
            cost: Cost { cpu, wall: 1.0, peak_mib: 65.0, agent_mib: 0.0 },
            before: 0,
            after: 0,
        });
        Results { runs: runs.collect(), ..Results::default() }
    }

    #[test]
    fn the_best_peer_counts() {
        let verdicts = judge(&results(&[(OURS, 1.0), ("restic", 9.0), ("borg", 1.25)]), "S");
        assert_eq!(verdicts[0].peer, Some("borg"));
        assert_eq!((verdicts[0].value, verdicts[0].reached), (Some(0.8), Some(false)));
    }

    #[test]
    fn a_mount_is_compared_with_our_own_restore() {
        let run = |row, cpu, wall| Run {
            set: "S",
            round: 0,
            row,
            tool: OURS,
            cost: Cost { cpu, wall, peak_mib: 1.0, agent_mib: 0.0 },
            before: 0,
            after: 0,
        };
        let runs = vec![run(Row::Restore, 3.0, 3.0), run(Row::FirstLs, 0.1, 1.5), run(Row::Mount, 4.5, 6.0)];
        let verdicts = judge(&Results { runs, ..Results::default() }, "S");
        let mounted: Vec<_> = verdicts.iter().filter(|verdict| verdict.what.contains("mount,")).collect();
        let told: Vec<_> = mounted.iter().map(|verdict| (verdict.value, verdict.reached)).collect();
        assert_eq!(told, [(Some(1.5), Some(false)), (Some(1.5), Some(true)), (Some(2.0), Some(false))]);
    }

    #[test]
    fn without_a_peer_there_is_no_verdict_and_memory_needs_none() {
        let verdicts = judge(&results(&[(OURS, 1.0)]), "S");
        assert_eq!(verdicts.iter().map(|verdict| verdict.reached).collect::<Vec<_>>(), [None, Some(false)]);
    }
}
