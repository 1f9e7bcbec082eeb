//! What a server's files were in the window, compared with what was restored.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::tree;

/// What lies in the mail folders must be the same file by file: names, bytes, mtimes, owners. Names that were no links of
/// one another must not have become any; links of one another may come back as files of their own until the next full walk.
///
/// # Errors
/// They differ; the text says where.
pub fn files_are_equal(truth: &Path, restored: &Path) -> Result<()> {
    for folder in ["spool", "meta", "archive", "sieve", "conf/user", "conf/quota"] {
        let (mut left, mut right) = (tree::facts(&truth.join(folder))?, tree::facts(&restored.join(folder))?);
        // Half-delivered mail of a killed imapd: left out on purpose, while the empty folder stays.
        left.retain(|name, _| !name.contains("/stage./"));
        without_parted_links(&mut left, &mut right);
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

/// A link that is made to a message in a folder in which nothing else happens (a COPY from it) is found by the next full
/// walk only, so that its names come back as files of their own until then; which messages users copy at that moment is
/// up to the load. Where the names on the right are some of those on the left, how many there are is not compared.
fn without_parted_links(left: &mut tree::Facts, right: &mut tree::Facts) {
    for (name, right) in right {
        let Some(left) = left.get_mut(name) else { continue };
        let names = |row: &std::collections::BTreeMap<_, String>| -> Vec<String> {
            let all = row.get("one file with").map(String::as_str).unwrap_or_default();
            all.split(" = ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let linked = names(left);
        if names(right).iter().all(|name| linked.contains(name)) {
            for row in [left, right] {
                row.remove("one file with");
                row.remove("links");
            }
        }
    }
}
