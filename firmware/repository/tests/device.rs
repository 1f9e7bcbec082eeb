//! The device below a repository on real loop devices: a flush reaches it, and what endangers sealed snapshots is said.
//! Hazards: flush lies, metadata that is there only once, mounts without barriers.
#![allow(clippy::unwrap_used)]

mod common;

use common::loops::{Loop, run};
use mailkeep_repository::{LocalStorage, Storage};

/// Flush requests that the device has had (`Documentation/block/stat.rst`, the sixteenth number).
fn flushes(device: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
    stat.split_whitespace().nth(15).unwrap().parse().unwrap()
}

#[test]
fn every_flush_reaches_the_device_even_if_nothing_was_left_to_write() {
    for mkfs in [&["mkfs.ext4", "-q"][..], &["mkfs.btrfs", "-q"]] {
        let Some(disk) = Loop::new(mkfs, 120) else { return };
        let storage = LocalStorage::prepare(&disk.path().join("mailkeep")).unwrap();
        storage.flush_device().unwrap();
        for _ in 0..3 {
            let before = flushes(&disk.device());
            storage.flush_device().unwrap();
            assert!(flushes(&disk.device()) > before, "{mkfs:?}: no flush");
        }
    }
}

#[test]
fn a_drive_that_says_it_has_no_cache_is_never_flushed_by_linux() {
    let Some(disk) = Loop::new(&["mkfs.ext4", "-q"], 64) else { return };
    // A loop device over what cannot be written has no cache to flush. (Saying so through sysfs would stay with the
    // device and take the flushes from whoever gets it next.)
    disk.unmount().unwrap();
    disk.mount("ro").unwrap();
    let said = std::fs::read_to_string(format!("/sys/block/{}/queue/write_cache", disk.device())).unwrap();
    assert_eq!(said.trim(), "write through");
    let storage = LocalStorage::open(&disk.path()).unwrap();
    let before = flushes(&disk.device());
    storage.flush_device().unwrap();
    assert_eq!(flushes(&disk.device()), before, "what the advice about such drives says is not so");
}

#[test]
fn a_disk_is_advised_on_once_and_the_advice_helps() {
    let Some(single) = Loop::new(&["mkfs.btrfs", "-q", "-m", "single"], 200) else { return };
    let advice = |disk: &Loop| LocalStorage::open(&disk.path()).unwrap().advice();
    let said = advice(&single);
    assert_eq!(said.len(), 1, "{said:?}");
    let command = format!("btrfs balance start -mconvert=dup {}", single.path().display());
    assert!(said[0].contains(&command), "{said:?}");
    run("btrfs", &[&"balance", &"start", &"-mconvert=dup", &single.path()]).unwrap();
    assert_eq!(advice(&single), [""; 0]);

    assert_eq!(advice(&Loop::btrfs(120).unwrap()), [""; 0]);
    let ext4 = Loop::new(&["mkfs.ext4", "-q"], 64).unwrap();
    assert_eq!(advice(&ext4), [""; 0]);
    ext4.unmount().unwrap();
    ext4.mount("nobarrier").unwrap();
    let said = advice(&ext4);
    assert!(said.len() == 1 && said[0].contains("remount,barrier"), "{said:?}");
    let bare = Loop::new(&["mkfs.ext4", "-q", "-O", "^has_journal"], 64).unwrap();
    let said = advice(&bare);
    assert!(said.len() == 1 && said[0].contains("without a journal"), "{said:?}");
    // A folder on no disk at all has nothing to be said about.
    assert_eq!(LocalStorage::open(std::path::Path::new("/proc")).unwrap().advice(), [""; 0]);
}
