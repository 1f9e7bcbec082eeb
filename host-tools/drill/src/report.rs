//! What a rehearsal has found so far: checks in their order, and problems.

use mailkeep_format::drill::{DrillCheck, DrillVerdict};

use crate::limits;

/// Checks and problems.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) checks: Vec<DrillCheck>,
    pub(crate) problems: Vec<String>,
    pub(crate) problem_count: u64,
}

impl Report {
    /// Something is wrong; it counts for the check that is being made.
    pub(crate) fn problem(&mut self, path: &str, what: &str) {
        self.problem_count += 1;
        if self.problems.len() < limits::PROBLEMS_KEPT {
            let line = if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") };
            let plain = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
            self.problems.push(plain.take(limits::PROBLEM_LETTERS).collect());
        }
    }

    /// A check is done: it has failed if there are more problems than there were `before`.
    pub(crate) fn done(&mut self, name: &str, before: u64, detail: String) {
        let failed = self.problem_count > before;
        let verdict = if failed { DrillVerdict::Failed } else { DrillVerdict::Passed };
        self.checks.push(DrillCheck { name: name.to_owned(), verdict, detail });
    }

    /// A check is not made.
    pub(crate) fn left_out(&mut self, name: &str, why: impl Into<String>) {
        self.checks.push(DrillCheck {
            name: name.to_owned(),
            verdict: DrillVerdict::LeftOut,
            detail: why.into(),
        });
    }

    /// Whether nothing is wrong.
    pub(crate) fn passed(&self) -> bool {
        self.problem_count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_fails_by_its_own_problems_only() {
        let mut report = Report::default();
        report.problem("/a\nb", "x");
        report.done("one", 0, String::new());
        report.done("two", report.problem_count, String::new());
        report.left_out("three", "why");
        let verdicts: Vec<_> = report.checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [DrillVerdict::Failed, DrillVerdict::Passed, DrillVerdict::LeftOut]);
        assert_eq!(report.problems, ["/a b: x"]);
        for _ in 0..2 * limits::PROBLEMS_KEPT {
            report.problem("", &"y".repeat(2 * limits::PROBLEM_LETTERS));
        }
        assert_eq!(report.problems.len(), limits::PROBLEMS_KEPT);
        assert!(report.problems.iter().all(|line| line.len() <= limits::PROBLEM_LETTERS));
        assert!(report.problem_count == 1 + 2 * limits::PROBLEMS_KEPT as u64 && !report.passed());
    }
}
