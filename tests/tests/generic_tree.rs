//! A tree with every kind of file comes back byte for byte and attribute for attribute, and every kind of
//! change is noticed, also one that hides behind an old mtime.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::cyrus::source::generic_source;
use mailkeep_tests::process;
use mailkeep_tests::rig::{Rig, id};
use mailkeep_tests::rng::Rng;
use mailkeep_tests::tree;
use serde_json::Value;

struct Lab {
    home: tempfile::TempDir,
    rig: Rig,
    tree: PathBuf,
    source: PathBuf,
    restores: usize,
}

impl Lab {
    fn new() -> Result<Option<Self>> {
        if !process::is_root() {
            process::skip("devices, owners and files without permissions need root")?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let tree = home.path().join("tree");
        tree::make(&tree, 1)?;
        // Files younger than a pass are read again in the next one, which is not what is tested here.
        settle();
        let source =
            generic_source(&home.path().join("tree.toml"), "tree", &tree, "exclude = [\"*.tmp\"]\n")?;
        Ok(Some(Self { rig: Rig::new(home.path())?, tree, source, restores: 0, home }))
    }

    fn backup(&self) -> Result<Value> {
        self.rig.backup(&self.source)
    }

    /// Backs up, restores to a fresh folder and compares with the tree as it is now.
    fn equal_after_backup(&mut self) -> Result<Value> {
        let now = tree::facts(&self.tree)?;
        let summary = self.backup()?;
        self.restored_equals(&id(&summary)?, &now)?;
        Ok(summary)
    }

    fn restored_equals(&mut self, snapshot: &str, expected: &tree::Facts) -> Result<()> {
        self.restores += 1;
        let target = self.home.path().join(format!("restored{}", self.restores));
        let restored = self.rig.restore(snapshot, &target, &self.tree)?;
        if let Some(difference) = tree::difference(expected, &tree::facts(&restored)?) {
            bail!("the source (left) and the restored tree (right) differ: {difference}");
        }
        Ok(())
    }
}

fn settle() {
    std::thread::sleep(Duration::from_millis(2500));
}

fn number(summary: &Value, name: &str) -> Result<u64> {
    summary[name].as_u64().with_context(|| format!("no {name} in {summary}"))
}

fn bytes_read(summary: &Value) -> u64 {
    summary["passes"].as_array().map_or(u64::MAX, |p| p.iter().filter_map(|p| p["bytes_read"].as_u64()).sum())
}

#[test]
fn every_kind_of_file_comes_back() -> Result<()> {
    let Some(mut lab) = Lab::new()? else { return Ok(()) };
    let summary = lab.equal_after_backup()?;
    ensure!(number(&summary, "files")? > 1000, "{summary}");
    lab.rig.verify_all()?;

    let again = lab.backup()?;
    // Only what is dated in the future must be read again: nothing proves that it is old.
    ensure!(bytes_read(&again) < 1000, "nothing changed, yet it was read again: {again}");
    ensure!(number(&again, "added_bytes")? < 200_000, "nothing changed, yet the repository grew: {again}");
    let expected = tree::facts(&lab.tree)?;
    lab.restored_equals(&id(&again)?, &expected)
}

fn bytes_sent(summary: &Value) -> u64 {
    summary["passes"].as_array().map_or(u64::MAX, |p| p.iter().filter_map(|p| p["bytes_sent"].as_u64()).sum())
}

/// An empty repository has no answers, so that all comes at once; it is stored once all the same. One that holds something
/// is asked, also on the first backup of another source.
#[test]
fn nothing_is_asked_of_an_empty_repository_and_of_no_other() -> Result<()> {
    let home = tempfile::tempdir()?;
    let rig = Rig::new(home.path())?;
    let trees = ["one", "two"].map(|name| home.path().join(name));
    let mut bytes = vec![0; 50_000];
    Rng::new(1).fill(&mut bytes);
    for tree in &trees {
        fs::create_dir(tree)?;
        for number in 0..20 {
            fs::write(tree.join(format!("{number}.")), &bytes)?;
        }
    }
    settle();
    let total = 20 * bytes.len() as u64;
    for (name, tree, sent) in [("one", &trees[0], total), ("two", &trees[1], 0)] {
        let source = generic_source(&home.path().join(format!("{name}.toml")), name, tree, "")?;
        let summary = rig.backup(&source)?;
        ensure!(bytes_sent(&summary) == sent, "{name}: {sent} bytes were to be sent: {summary}");
        ensure!(bytes_read(&summary) == total, "{name}: {summary}");
        ensure!(number(&summary, "added_bytes")? < 2 * bytes.len() as u64, "{name}: {summary}");
        let restored = rig.restore(&id(&summary)?, &home.path().join(format!("restored-{name}")), tree)?;
        let difference = tree::difference(&tree::facts(tree)?, &tree::facts(&restored)?);
        ensure!(difference.is_none(), "{name}: source (left), restored (right): {difference:?}");
    }
    rig.verify_all()
}

#[test]
fn every_kind_of_change_is_noticed() -> Result<()> {
    let Some(mut lab) = Lab::new()? else { return Ok(()) };
    let original = tree::facts(&lab.tree)?;
    let first = id(&lab.backup()?)?;

    settle();
    metadata_only(&lab.tree)?;
    let summary = lab.equal_after_backup().context("metadata only")?;
    ensure!(number(&summary, "added_bytes")? < 1_000_000, "content was stored again for metadata: {summary}");

    settle();
    fs::rename(lab.tree.join("content"), lab.tree.join("moved"))?;
    fs::rename(lab.tree.join("many/7."), lab.tree.join("many/1000007."))?;
    let summary = lab.equal_after_backup().context("renamed")?;
    ensure!(
        number(&summary, "added_bytes")? < 1_000_000,
        "content was stored again for a new name: {summary}"
    );

    hidden_edits(&lab.tree)?;
    lab.equal_after_backup().context("same size, same second, mtime put back")?;

    fs::remove_dir_all(lab.tree.join("names"))?;
    fs::remove_file(lab.tree.join("special/fifo"))?;
    fs::write(lab.tree.join("special/fifo"), b"now a file")?;
    fs::remove_dir_all(lab.tree.join("deep"))?;
    std::os::unix::fs::symlink("links", lab.tree.join("deep"))?;
    lab.equal_after_backup().context("removed, and replaced by another kind")?;

    lab.restored_equals(&first, &original).context("the first snapshot after all that")
}

#[test]
fn excluded_names_stay_out_and_neighbours_stay_in() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    fs::write(lab.tree.join("many/out.tmp"), b"out")?;
    fs::write(lab.tree.join("many/tmp"), b"in")?;
    let summary = lab.backup()?;
    let restored = lab.rig.restore(&id(&summary)?, &lab.home.path().join("restored"), &lab.tree)?;
    ensure!(!restored.join("many/out.tmp").exists(), "*.tmp is excluded");
    ensure!(restored.join("many/tmp").exists(), "a file called tmp is not");
    Ok(())
}

fn metadata_only(tree: &Path) -> Result<()> {
    let file = tree.join("content/large");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o611))?;
    std::os::unix::fs::lchown(tree.join("content/lines"), Some(77), Some(78))?;
    xattr::set(tree.join("content/zeros"), "user.new", b"value")?;
    xattr::remove(tree.join("attributes/xattrs"), "user.empty")?;
    let meta = fs::metadata(tree.join("content/random-65536"))?;
    let later = filetime(meta.mtime() + 5, 77);
    set_mtime(&tree.join("content/random-65536"), later)?;
    fs::hard_link(tree.join("content/random-4096"), tree.join("links/new-link"))?;
    Ok(())
}

/// Changes that size and mtime do not show: only ctime does.
fn hidden_edits(tree: &Path) -> Result<()> {
    for name in ["moved/large", "moved/random-65537", "many/11."] {
        let path = tree.join(name);
        let meta = fs::metadata(&path)?;
        let mut data = fs::read(&path)?;
        let middle = data.len() / 2;
        *data.get_mut(middle).context("empty")? ^= 1;
        fs::write(&path, data)?;
        set_mtime(&path, filetime(meta.mtime(), meta.mtime_nsec()))?;
    }
    Ok(())
}

fn filetime(seconds: i64, ns: i64) -> rustix::fs::Timespec {
    rustix::fs::Timespec { tv_sec: seconds, tv_nsec: ns }
}

fn set_mtime(path: &Path, time: rustix::fs::Timespec) -> Result<()> {
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).context("set mtime")
}
