//! The rows of the table: what a backup tool is asked to do, in the order in which it is asked.

use anyhow::{Result, bail};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// The first backup of the spool.
    First,
    /// A backup with nothing new.
    NoChange,
    /// A backup after a day's change.
    Day,
    /// Everything back into an empty folder.
    Restore,
    /// One folder of one user back into an empty folder.
    Folder,
    /// A new mount, what lies in the spool and in one folder listed, and unmounted; the repository is not in memory.
    FirstLs,
    /// Everything read through a new mount.
    Mount,
    /// Every byte of the repository checked.
    Verify,
    /// All but the newest snapshot removed.
    Prune,
}

/// All rows in their order.
pub(crate) const ROWS: [Row; 9] = [
    Row::First,
    Row::NoChange,
    Row::Day,
    Row::Restore,
    Row::Folder,
    Row::FirstLs,
    Row::Mount,
    Row::Verify,
    Row::Prune,
];

impl Row {
    /// Its name in tables and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::First => "first",
            Row::NoChange => "no-change",
            Row::Day => "day",
            Row::Restore => "restore",
            Row::Folder => "folder",
            Row::FirstLs => "first-ls",
            Row::Mount => "mount",
            Row::Verify => "verify",
            Row::Prune => "prune",
        }
    }

    /// The row of this name.
    pub(crate) fn of_name(name: &str) -> Result<Row> {
        match ROWS.into_iter().find(|row| row.name() == name) {
            Some(row) => Ok(row),
            None => bail!("no row `{name}`: there are {}", ROWS.map(Row::name).join(", ")),
        }
    }

    /// Whether the tool adds a snapshot.
    pub(crate) fn is_backup(self) -> bool {
        matches!(self, Row::First | Row::NoChange | Row::Day)
    }

    /// Whether the tool fills the target folder.
    pub(crate) fn is_restore(self) -> bool {
        matches!(self, Row::Restore | Row::Folder)
    }
}
