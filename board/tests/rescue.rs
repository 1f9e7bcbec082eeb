//! btrfs images that are really damaged: the plain mount fails, the rescue gives the files back, and not a byte changes.
//! Hazards: flush lies, a disk that only reads, a rescue that makes it worse.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailkeep_board::BoardError;
use mailkeep_board::disk::{Access, Medium};

/// Trees, by the number of their owner (`include/uapi/linux/btrfs_tree.h`).
const ROOT_TREE: u64 = 1;
const EXTENT_TREE: u64 = 2;
const CHUNK_TREE: u64 = 3;
const CHECKSUM_TREE: u64 = 7;
const LOG_TREE: u64 = 6u64.wrapping_neg();
const SUPERBLOCK: usize = 64 << 10;
const NODE: usize = 16 << 10;

fn required() -> bool {
    std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1")
}

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// An image with a file on it that reads `hello`, written over several transactions; `None` where that can't be had.
    fn new() -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        assert!(root || !required(), "mounting needs root");
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        File::create(lab.image()).unwrap().set_len(120 << 20).unwrap();
        let made = Command::new("mkfs.btrfs").args(["-q", "-m", "dup"]).arg(lab.image()).output();
        let made = made.is_ok_and(|output| output.status.success());
        assert!(made || !required(), "mkfs.btrfs failed");
        if !(root && made) {
            return None;
        }
        let mounted = lab.medium().mount(&lab.point(), Access::Use).unwrap();
        for name in ["file", "second", "third"] {
            std::fs::write(mounted.root().join(name), "hello").unwrap();
            rustix::fs::syncfs(File::open(mounted.root()).unwrap()).unwrap();
        }
        mounted.unmount().unwrap();
        Some(lab)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("the point")
    }

    fn medium(&self) -> Medium {
        Medium::at(&self.image()).unwrap()
    }

    /// Zeroes every copy of the nodes of a tree, of its newest generation or of all; how many.
    fn smash(&self, tree: u64, all: bool) -> usize {
        let mut bytes = std::fs::read(self.image()).unwrap();
        let id = bytes[SUPERBLOCK + 32..SUPERBLOCK + 48].to_vec();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let nodes: Vec<(usize, u64)> = (0..bytes.len() - NODE)
            .step_by(4096)
            .filter(|at| bytes[at + 32..at + 48] == id && number(at + 88) == tree)
            .map(|at| (at, number(at + 80)))
            .collect();
        let newest = nodes.iter().map(|(_, generation)| *generation).max().unwrap();
        let mut zeroed = 0;
        for (at, generation) in nodes {
            if all || generation == newest {
                bytes[at..at + NODE].fill(0);
                zeroed += 1;
            }
        }
        std::fs::write(self.image(), bytes).unwrap();
        zeroed
    }

    /// The plain mount fails, the rescue reads, and the image is what it was.
    fn is_rescued(&self, what: &str) {
        let before = std::fs::read(self.image()).unwrap();
        let error = self.medium().mount(&self.point(), Access::Use).unwrap_err();
        assert!(matches!(error, BoardError::Mount { .. }), "{what}: {error}");
        assert!(before == std::fs::read(self.image()).unwrap(), "{what}: the mount that failed wrote");
        let mounted = self.medium().rescue(&self.point()).unwrap();
        assert_eq!(std::fs::read(mounted.root().join("file")).unwrap(), b"hello", "{what}");
        assert!(std::fs::write(mounted.root().join("new"), "x").is_err(), "{what}");
        mounted.unmount().unwrap();
        assert!(before == std::fs::read(self.image()).unwrap(), "{what}: the rescue wrote");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Only if a test failed: nothing is mounted otherwise.
        let _ = mailkeep_board::disk::clear_stale(self.folder.path());
    }
}

#[test]
fn trees_that_are_gone_do_not_keep_the_files_from_being_read() {
    for (what, tree, all) in [
        ("the newest tree of trees", ROOT_TREE, false),
        ("the newest extent tree", EXTENT_TREE, false),
        ("every extent tree", EXTENT_TREE, true),
        ("every checksum", CHECKSUM_TREE, true),
    ] {
        let Some(lab) = Lab::new() else { return };
        assert!(lab.smash(tree, all) >= 2, "{what}: both copies");
        lab.is_rescued(what);
    }
}

#[test]
fn a_log_that_cannot_be_replayed_is_passed_over() {
    let Some(lab) = Lab::new() else { return };
    let mounted = lab.medium().mount(&lab.point(), Access::Use).unwrap();
    let mut file = File::options().append(true).open(mounted.root().join("third")).unwrap();
    file.write_all(b" again").unwrap();
    file.sync_all().unwrap();
    drop(file);
    // As the power cut would leave it: synced, and not committed.
    let cut = std::fs::read(lab.image()).unwrap();
    mounted.unmount().unwrap();
    std::fs::write(lab.image(), cut).unwrap();
    assert!(lab.smash(LOG_TREE, true) >= 2);
    lab.is_rescued("the log");
}

#[test]
fn what_no_mount_can_read_is_told_in_one_line() {
    let Some(lab) = Lab::new() else { return };
    lab.smash(CHUNK_TREE, true);
    let before = std::fs::read(lab.image()).unwrap();
    lab.medium().mount(&lab.point(), Access::Look).unwrap_err();
    let error = lab.medium().rescue(&lab.point()).unwrap_err();
    assert!(matches!(error, BoardError::BeyondRescue { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
    assert!(before == std::fs::read(lab.image()).unwrap());
}

#[test]
fn a_superblock_that_is_gone_is_named_with_what_brings_it_back() {
    let Some(lab) = Lab::new() else { return };
    let mut bytes = std::fs::read(lab.image()).unwrap();
    bytes[SUPERBLOCK..SUPERBLOCK + 4096].fill(0);
    std::fs::write(lab.image(), &bytes).unwrap();
    lab.medium().mount(&lab.point(), Access::Look).unwrap_err();
    let error = lab.medium().rescue(&lab.point()).unwrap_err().to_string();
    let command = format!("btrfs rescue super-recover {}", lab.image().display());
    assert!(error.contains(&command), "{error}");
    assert!(bytes == std::fs::read(lab.image()).unwrap());
    // It does what the line says.
    let done =
        Command::new("btrfs").args(["rescue", "super-recover", "-y"]).arg(lab.image()).output().unwrap();
    assert!(done.status.success() || done.status.code() == Some(2), "{done:?}");
    lab.medium().mount(&lab.point(), Access::Use).unwrap().unmount().unwrap();
}

#[test]
fn a_disk_without_any_file_system_is_no_case_for_a_rescue() {
    let Some(lab) = Lab::new() else { return };
    std::fs::write(lab.image(), vec![0; 1 << 20]).unwrap();
    assert!(lab.medium().mount(&lab.point(), Access::Look).is_err());
    assert!(lab.medium().rescue(&lab.point()).is_err());
    std::fs::write(lab.image(), b"").unwrap();
    assert!(lab.medium().rescue(&lab.point()).is_err());
}

#[test]
fn a_write_protected_disk_is_not_taken_for_one_that_can_be_used() {
    let Some(lab) = Lab::new() else { return };
    let device = Loop::read_only(&lab.image());
    let medium = Medium::at(&device.0).unwrap();
    let error = medium.mount(&lab.point(), Access::Use).unwrap_err();
    assert!(matches!(error, BoardError::ReadOnly { .. }), "{error}");
    let mounted = medium.rescue(&lab.point()).unwrap();
    assert_eq!(std::fs::read(mounted.root().join("file")).unwrap(), b"hello");
    mounted.unmount().unwrap();
}

/// A loop device that lives as long as this.
struct Loop(PathBuf);

impl Loop {
    fn read_only(image: &Path) -> Self {
        let output =
            Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
