//! What a person should know about the disk below a repository: only what endangers sealed snapshots, one line each.

use std::os::fd::OwnedFd;

use super::device::{BlockDevice, Mount, WriteCache};

/// How a disk of its own is best made: metadata twice, so that a drive that lies about flushes leaves it readable.
const MAKE: &str = "`mkfs.btrfs -m dup -d single -L NAME DEVICE`";

/// Kinds that have no journal and no checksums.
const FAT: [&str; 4] = ["vfat", "msdos", "exfat", "fat"];

/// The advice for a mounted folder; nothing where all is well or nothing can be found out.
pub(super) fn advice(folder: &OwnedFd) -> Vec<String> {
    let Ok(mount) = Mount::of(folder) else { return Vec::new() };
    let mut lines: Vec<String> = mount.devices().iter().filter_map(about_cache).collect();
    lines.extend(about_flushes(&mount));
    lines.extend(about_file_system(&mount));
    lines
}

/// HAZARDS: flush lies. No flush reaches a drive that denies its cache, and USB bridges often do.
fn about_cache(device: &BlockDevice) -> Option<String> {
    (device.is_usb() && device.write_cache() == WriteCache::Denied).then(|| {
        format!(
            "{} is a USB disk that says it has no write cache, so Linux never tells it to flush; if its case hides the \
             cache, an early unplug can take a backup that was reported as done: prefer another case, use several disks",
            device.name
        )
    })
}

fn about_flushes(mount: &Mount) -> Option<String> {
    let off = mount.options.iter().any(|option| matches!(option.as_str(), "nobarrier" | "barrier=0"));
    off.then(|| {
        format!(
            "{point} is mounted with `nobarrier`: a power cut can take backups that were reported as done; \
             `mount -o remount,barrier {point}`",
            point = mount.point.display()
        )
    })
}

fn about_file_system(mount: &Mount) -> Option<String> {
    let (kind, point) = (mount.kind.as_str(), mount.point.display());
    match kind {
        "btrfs" => {
            let metadata = mount.btrfs_metadata();
            let once = metadata.iter().any(|profile| matches!(profile.as_str(), "single" | "raid0"));
            once.then(|| {
                format!(
                    "{point} keeps its btrfs metadata only once, so one bad sector or one lost write can cost the whole \
                     disk; `btrfs balance start -mconvert=dup {point}`"
                )
            })
        }
        "ext2" => Some(no_journal(&point.to_string(), kind)),
        "ext4" if mount.ext4_without_journal() == Some(true) => Some(no_journal(&point.to_string(), kind)),
        _ if FAT.contains(&kind) || kind.starts_with("ntfs") || kind == "fuseblk" => Some(format!(
            "{point} is {kind}: backups work, but it has no journal that can be relied on and no owners, so a power cut \
             or an early unplug can damage what was sealed, and everyone on this machine may delete it; better a disk \
             of its own, made with {MAKE}"
        )),
        _ => None,
    }
}

fn no_journal(point: &str, kind: &str) -> String {
    format!(
        "{point} is {kind} without a journal: a power cut or an early unplug can damage what was sealed; \
         `tune2fs -O has_journal` on the unmounted disk, or make it anew with {MAKE}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &str) -> Mount {
        Mount {
            kind: kind.into(),
            point: "/mnt".into(),
            source: "none".into(),
            options: options.split(',').map(str::to_owned).collect(),
        }
    }

    #[test]
    fn advice_is_one_line_and_only_where_it_matters() {
        for (kind, options, lines) in [
            ("xfs", "rw", 0),
            ("tmpfs", "rw", 0),
            ("ext4", "rw,nobarrier", 1),
            ("btrfs", "rw,nobarrier", 1),
            ("vfat", "rw", 1),
            ("exfat", "rw", 1),
            ("fuseblk", "rw", 1),
            ("ntfs3", "rw", 1),
            ("ext2", "rw", 1),
            ("nfs4", "rw", 0),
        ] {
            let mount = mount(kind, options);
            let said: Vec<String> =
                about_flushes(&mount).into_iter().chain(about_file_system(&mount)).collect();
            assert_eq!(said.len(), lines, "{kind} {options}: {said:?}");
            assert!(said.iter().all(|line| !line.contains('\n') && !line.contains("  ")), "{said:?}");
        }
    }
}
