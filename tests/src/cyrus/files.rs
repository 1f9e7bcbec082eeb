//! What a server's files were in the window, compared with what was restored.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::tree;

/// What lies in the mail folders must be the same file by file: names, bytes, mtimes, owners, hard links.
///
/// # Errors
/// They differ; the text says where.
pub fn files_are_equal(truth: &Path, restored: &Path) -> Result<()> {
    for folder in ["spool", "meta", "archive", "sieve", "conf/user", "conf/quota"] {
        let (mut left, right) = (tree::facts(&truth.join(folder))?, tree::facts(&restored.join(folder))?);
        // Half-delivered mail of a killed imapd: left out on purpose, while the empty folder stays.
        left.retain(|name, _| !name.contains("/stage./"));
        if let Some(difference) = tree::difference(&left, &right) {
            bail!("{folder}: the window (left) and the restored files (right) differ: {difference}");
        }
    }
    for file in
        ["conf/mailboxes.db", "conf/annotations.db", "imapd.conf", "extra.conf", "cyrus.conf", "sasldb2"]
    {
        let read = |root: &Path| {
            std::fs::read(root.join(file)).with_context(|| format!("{file} in {}", root.display()))
        };
        ensure!(read(truth)? == read(restored)?, "{file} differs");
    }
    Ok(())
}
