//! Everything about a tree that a restore must bring back, as comparable facts: kind, mode, owner, mtime
//! in ns, size, content digest, link target, device number, extended attributes (ACLs and capabilities
//! are such), and which names are one file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};

const SHOWN: usize = 40;

/// Facts by name within the tree (escaped, `.` is the tree's own folder), then by kind of fact.
pub type Facts = BTreeMap<String, BTreeMap<&'static str, String>>;

/// The facts of the tree at `root`.
pub fn facts(root: &Path) -> Result<Facts> {
    let mut facts = Facts::new();
    let mut groups: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).with_context(|| format!("stat {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let name = if relative.as_os_str().is_empty() {
            ".".to_owned()
        } else {
            relative.as_os_str().as_bytes().escape_ascii().to_string()
        };
        if meta.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| format!("list {}", path.display()))? {
                pending.push(entry?.path());
            }
        } else if meta.nlink() > 1 {
            groups.entry((meta.dev(), meta.ino())).or_default().push(name.clone());
        }
        let row = describe(&path, &meta).with_context(|| format!("read {name}"))?;
        facts.insert(name, row);
    }
    for mut names in groups.into_values() {
        names.sort();
        let together = names.join(" = ");
        for name in names {
            if let Some(row) = facts.get_mut(&name) {
                row.insert("one file with", together.clone());
            }
        }
    }
    Ok(facts)
}

/// What differs, readable; `None` if nothing does.
pub fn difference(left: &Facts, right: &Facts) -> Option<String> {
    let mut lines = Vec::new();
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        match (left.get(name), right.get(name)) {
            (Some(l), Some(r)) => {
                let kinds: BTreeSet<&&str> = l.keys().chain(r.keys()).collect();
                for kind in kinds.into_iter().filter(|k| l.get(**k) != r.get(**k)) {
                    let shown = |row: &BTreeMap<&str, String>| {
                        row.get(*kind).map_or("none", String::as_str).to_owned()
                    };
                    lines.push(format!("{name}: {kind}: left {} right {}", shown(l), shown(r)));
                }
            }
            (Some(_), None) => lines.push(format!("{name}: only left")),
            _ => lines.push(format!("{name}: only right")),
        }
    }
    let count = lines.len();
    lines.truncate(SHOWN);
    (count > 0).then(|| format!("{count} differences in {} names:\n{}", left.len(), lines.join("\n")))
}

fn describe(path: &Path, meta: &Metadata) -> Result<BTreeMap<&'static str, String>> {
    let kind = meta.file_type();
    let mut row = BTreeMap::new();
    row.insert("mode", format!("{:o}", meta.mode() & 0o7777));
    row.insert("owner", format!("{}:{}", meta.uid(), meta.gid()));
    row.insert("mtime", format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()));
    let name = if kind.is_file() {
        row.insert("size", meta.len().to_string());
        row.insert("content", digest(path)?);
        "file"
    } else if kind.is_dir() {
        "folder"
    } else if kind.is_symlink() {
        row.insert("target", fs::read_link(path)?.as_os_str().as_bytes().escape_ascii().to_string());
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        row.insert("device", format!("{:x}", meta.rdev()));
        if kind.is_char_device() { "char device" } else { "block device" }
    };
    row.insert("kind", name.to_owned());
    let mut attributes = Vec::new();
    for attribute in xattr::list(path).context("list attributes")? {
        let value = xattr::get(path, &attribute)?.unwrap_or_default();
        let name = attribute.as_bytes().escape_ascii().to_string();
        attributes.push(format!("{name}={}", value.escape_ascii()));
    }
    attributes.sort();
    if !attributes.is_empty() {
        row.insert("attributes", attributes.join(" "));
    }
    Ok(row)
}

fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::run;

    /// `cp -a` keeps everything, so its copy must be equal; each single change must be seen.
    #[test]
    fn a_copy_is_equal_and_every_change_is_seen() -> Result<()> {
        let home = tempfile::tempdir()?;
        let (a, b) = (home.path().join("a"), home.path().join("b"));
        crate::tree::make(&a, 1)?;
        let left = facts(&a)?;
        run(Command::new("cp").arg("-a").arg(&a).arg(&b))?.expect_code("cp -a", 0)?;
        assert_eq!(difference(&left, &facts(&b)?), None);

        let changes = [
            ("chmod 0601 content/lines", "content/lines: mode"),
            ("touch -h -d @5 links/dangling", "links/dangling: mtime"),
            (
                "cp --remove-destination -p links/a/hard1 links/x && mv links/x links/a/hard1",
                "links/a/hard1: one file with",
            ),
            (
                "printf X | dd of=content/large bs=1 seek=77 conv=notrunc 2>/dev/null",
                "content/large: content",
            ),
            ("rm special/socket", "special/socket: only left"),
            ("ln -sfn elsewhere links/up", "links/up: target"),
        ];
        for (command, expected) in changes {
            run(Command::new("sh").args(["-c", command]).current_dir(&b))?.expect_code(command, 0)?;
            let seen = difference(&left, &facts(&b)?).unwrap_or_default();
            assert!(seen.contains(expected), "{command} was not seen as {expected:?}: {seen}");
        }
        xattr::remove(b.join("attributes/xattrs"), "user.empty")?;
        let seen = difference(&left, &facts(&b)?).unwrap_or_default();
        assert!(seen.contains("attributes/xattrs: attributes"), "{seen}");
        Ok(())
    }
}
