//! What was measured: every single run, and the medians over the rounds.

use serde::Serialize;

use crate::measure::Cost;
use crate::rows::Row;

/// One run of one tool.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// The spool's set.
    pub(crate) set: &'static str,
    /// Which round.
    pub(crate) round: usize,
    /// What was done.
    #[serde(serialize_with = "row_name")]
    pub(crate) row: Row,
    /// By whom.
    pub(crate) tool: &'static str,
    /// What it cost.
    #[serde(flatten)]
    pub(crate) cost: Cost,
    /// Bytes of the repository before and after.
    pub(crate) before: u64,
    /// Bytes of the repository afterwards.
    pub(crate) after: u64,
}

fn row_name<S: serde::Serializer>(row: &Row, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(row.name())
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Names of the tools, ours first.
    pub(crate) tools: Vec<&'static str>,
    /// Peers that were wanted and are not installed.
    pub(crate) missing: Vec<&'static str>,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Run>,
}

impl Results {
    /// The median over the rounds of a figure of this tool in this row.
    pub(crate) fn median(&self, tool: &str, row: Row, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.tool == tool && run.row == row);
        let mut values: Vec<f64> = runs.map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            len if len % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    /// Megabytes in the repository after a row.
    pub(crate) fn size(&self, tool: &str, row: Row) -> Option<f64> {
        self.median(tool, row, |run| run.after as f64 / 1e6)
    }

    /// Megabytes that a row added.
    pub(crate) fn growth(&self, tool: &str, row: Row) -> Option<f64> {
        self.median(tool, row, |run| (run.after as f64 - run.before as f64) / 1e6)
    }
}
