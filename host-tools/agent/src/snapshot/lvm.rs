//! LVM's own tools, and nothing else of LVM: which logical volumes a group has, a snapshot made, one removed. The only file
//! of the agent that removes a logical volume.
//!
//! Every call has a bound. A tool that exceeds it is asked to end and never killed: LVM holds such a signal back as long as it
//! has a volume suspended, and one that was killed there would leave the file system on it frozen. What the tools print is
//! asked for field by field and taken strictly; a line that is not as it must be is an error.
//!
//! What is removed lies in the noted group under the noted name, is a snapshot that cannot be written, and is one of the very
//! volume that was noted, by its UUID and its group's. Or it is what `lvcreate` had of it when the power went: LVM writes a
//! snapshot with room of its own down as a plain volume first and makes it a snapshot with its next commit. The tag that it
//! is given is in the first one already, so a plain volume of the noted name that has it, and that nobody has open, was to be
//! that snapshot. Anything else is left alone, and told.
//!
//! Where no udev runs (`/run/udev/control` is not there) the tools are told not to wait for it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailkeep_mail::source::Argv;

use crate::command::Running;
use crate::error::one_line;
use crate::limits;

/// Fields that are asked for, in the order in which they are taken apart.
const FIELDS: &str = "lv_name,lv_uuid,vg_uuid,lv_attr,lv_size,vg_free,vg_extent_size,pool_lv,origin,data_percent,metadata_percent,lv_tags";
/// Is there exactly where udev runs; libdevmapper goes by it as well.
const UDEV_MARK: &str = "/run/udev/control";
/// Between two fields. Names cannot have it in them.
const BETWEEN: char = '|';

/// Letters of a UUID without its dashes.
const UUID: usize = 32;

/// A logical volume.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// UUID of its group and its own, without dashes: as the kernel tells it.
    pub(super) uuid: String,
    attributes: String,
    /// Bytes.
    pub(super) size: u64,
    /// Bytes that its group has left.
    pub(super) free: u64,
    /// Bytes of which its group makes up all sizes.
    pub(super) extent: u64,
    /// The pool of a thin one.
    pub(super) pool: Option<String>,
    origin: Option<String>,
    /// How much of a snapshot or of a pool is used.
    pub(super) used: Option<f64>,
    /// How much of a pool's own notes is used.
    pub(super) used_for_notes: Option<f64>,
    tags: Vec<String>,
}

impl Row {
    /// A snapshot that has lost what it was a snapshot of.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.attributes.as_bytes().get(4), Some(b'I' | b'S'))
            || (self.kind() == b's' && self.used.is_none_or(|used| used >= 100.0))
    }

    /// A plain volume that was to become our snapshot of its name, in the group of the volume with this UUID.
    fn is_half_made(&self, of: &str) -> bool {
        let group = |uuid: &str| uuid.get(..UUID).map(str::to_owned);
        self.kind() == b'-'
            && self.origin.is_none()
            && self.pool.is_none()
            && self.tags.contains(&self.name)
            && group(&self.uuid).is_some_and(|own| group(of) == Some(own))
    }

    /// Somebody has it open: it is mounted, say.
    fn is_open(&self) -> bool {
        self.attributes.as_bytes().get(5).is_some_and(|letter| *letter != b'-')
    }

    fn kind(&self) -> u8 {
        self.attributes.as_bytes().first().map_or(b'-', u8::to_ascii_lowercase)
    }

    /// A snapshot that was made to be read.
    fn is_frozen(&self) -> bool {
        self.origin.is_some()
            && matches!(self.kind(), b's' | b'v')
            && self.attributes.as_bytes().get(1).is_some_and(|letter| letter.eq_ignore_ascii_case(&b'r'))
    }
}

/// How a snapshot is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With room of its own for so many bytes that change.
    Thick(u64),
    /// In the pool of the volume.
    Thin,
}

/// All logical volumes of a group that are not hidden.
pub(super) fn rows(group: &str, bound: Duration) -> Result<Vec<Row>, String> {
    let between = BETWEEN.to_string();
    let words =
        ["--noheadings", "--nosuffix", "--units", "b", "--separator", &between, "--options", FIELDS, group];
    said("lvs", &words, None, bound, &|| false)?.lines().map(row).collect()
}

/// Makes a snapshot that cannot be written. `tied` is kept open by the tool to its end, also where we end before it.
pub(super) fn make(
    group: &str,
    origin: &str,
    name: &str,
    kind: Kind,
    tied: File,
    called_off: &dyn Fn() -> bool,
) -> Result<(), String> {
    let of = format!("{group}/{origin}");
    let size;
    let mut words =
        vec!["--snapshot", "--name", name, "--addtag", name, "--permission", "r", "--ignoremonitoring"];
    words.extend(without_udev());
    match kind {
        Kind::Thick(bytes) => {
            size = format!("{bytes}b");
            words.extend(["--size", &size]);
        }
        // One that is left behind is not activated at the next boot.
        Kind::Thin => words.extend(["--setactivationskip", "y", "--ignoreactivationskip"]),
    }
    words.push(&of);
    said("lvcreate", &words, Some(tied), limits::VOLUME_TAKE_BOUND, called_off).map(|_| ())
}

/// Why a snapshot is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) text: String,
    /// It may go a moment later.
    pub(super) is_passing: bool,
}

/// Removes a snapshot of the volume with this UUID. One that is not there is fine.
pub(super) fn remove(group: &str, name: &str, of: &str) -> Result<(), Left> {
    let left = |text: String| Left { text, is_passing: false };
    let rows = rows(group, limits::VOLUME_BOUND).map_err(left)?;
    let Some(row) = rows.iter().find(|row| row.name == name) else { return Ok(()) };
    let alone = |why: &str| Err(left(format!("{group}/{name} is left alone: {why}")));
    let origin = row.origin.as_ref().and_then(|origin| rows.iter().find(|row| row.name == *origin));
    if row.is_half_made(of) {
        return if row.is_open() {
            alone("it never became a snapshot, and somebody uses it")
        } else {
            take_away(group, name)
        };
    }
    if origin.is_none_or(|origin| origin.uuid != of) {
        return alone("it is no snapshot of the noted volume");
    }
    if !row.is_frozen() {
        return alone("it can be written, so it is none of ours");
    }
    take_away(group, name)
}

fn take_away(group: &str, name: &str) -> Result<(), Left> {
    let path = format!("{group}/{name}");
    let mut words = vec!["--force"];
    words.extend(without_udev());
    words.push(&path);
    let removed = said("lvremove", &words, None, limits::VOLUME_BOUND, &|| false);
    removed.map(|_| ()).map_err(|text| Left { text, is_passing: true })
}

/// Lets a device go on that a tool has left suspended.
pub(super) fn resume(device: &str) -> Result<(), String> {
    said("dmsetup", &["resume", device], None, limits::VOLUME_TAKE_BOUND, &|| false).map(|_| ())
}

/// Has the nodes of a device made, where nobody else does.
pub(super) fn make_nodes(device: &str) -> Result<(), String> {
    said("dmsetup", &["mknodes", device], None, limits::VOLUME_TAKE_BOUND, &|| false).map(|_| ())
}

/// For a tool that changes volumes: udev is not waited for where there is none.
fn without_udev() -> Option<&'static str> {
    (!Path::new(UDEV_MARK).exists()).then_some("--noudevsync")
}

/// What a tool prints.
fn said(
    tool: &str,
    words: &[&str],
    tied: Option<File>,
    bound: Duration,
    called_off: &dyn Fn() -> bool,
) -> Result<String, String> {
    let program = find(tool).ok_or_else(|| format!("{tool} is not there"))?;
    let argv = Argv::new(program.display().to_string(), words.iter().copied());
    let unreadable = |error: std::io::Error| format!("what {tool} says cannot be read: {error}");
    let mut output = crate::command::nameless_file().map_err(unreadable)?;
    let copy = output.try_clone().map_err(unreadable)?;
    let running = Running::start_tool(&argv, copy, tied).map_err(|error| one_line(&error))?;
    let done =
        running.wait_and_ask(bound, limits::VOLUME_PATIENCE, called_off).map_err(|error| one_line(&error))?;
    if !done.ok {
        return Err(done.describe());
    }
    let mut text = String::new();
    output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_string(&mut text)).map_err(unreadable)?;
    Ok(text)
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    // A login without them is no reason to do without LVM.
    let folders = folders.into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(tool)).find(|path| path.is_file())
}

fn row(line: &str) -> Result<Row, String> {
    let wrong = || format!("lvs says what is not understood: {}", line.trim());
    let fields: Vec<&str> = line.trim().split(BETWEEN).collect();
    let &[name, uuid, group, attributes, size, free, extent, pool, origin, data, notes, tags] =
        fields.as_slice()
    else {
        return Err(wrong());
    };
    let bare = |uuid: &str| {
        let bare: String = uuid.chars().filter(|letter| *letter != '-').collect();
        (bare.len() == UUID && bare.chars().all(|letter| letter.is_ascii_alphanumeric())).then_some(bare)
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let percent = |text: &str| match text {
        "" => Some(None),
        _ => text.parse::<f64>().ok().filter(|percent| percent.is_finite()).map(Some),
    };
    let read = || {
        Some(Row {
            name: some(name)?,
            uuid: bare(group)? + &bare(uuid)?,
            attributes: attributes.to_owned(),
            size: size.parse().ok()?,
            free: free.parse().ok()?,
            extent: extent.parse().ok().filter(|extent| *extent > 0)?,
            pool: some(pool),
            origin: some(origin),
            used: percent(data)?,
            used_for_notes: percent(notes)?,
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        })
    };
    read().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUIDS: &str = "0a0a0a-AAAA-BBBB-CCCC-DDDD-EEEE-zzzzzz|1b1b1b-AAAA-BBBB-CCCC-DDDD-EEEE-yyyyyy";

    #[test]
    fn a_line_is_taken_apart_or_refused() {
        let line = format!("  mail|{UUIDS}|owi-aos---|1073741824|2147483648|4194304|||||");
        let plain = row(&line).unwrap();
        assert_eq!(plain.uuid, "1b1b1bAAAABBBBCCCCDDDDEEEEyyyyyy0a0a0aAAAABBBBCCCCDDDDEEEEzzzzzz");
        assert_eq!((plain.size, plain.free, plain.extent), (1 << 30, 2 << 30, 4 << 20));
        assert_eq!((&plain.pool, plain.used), (&None, None));
        let line = format!("  kept|{UUIDS}|sri-a-s---|12582912|0|4194304||mail|12.34||one,two");
        let kept = row(&line).unwrap();
        assert_eq!((kept.origin.as_deref(), kept.used), (Some("mail"), Some(12.34)));
        assert!(kept.is_frozen() && !kept.is_lost());
        assert_eq!(kept.tags, ["one", "two"]);
        for (attributes, percent, frozen, lost) in [
            ("swi-a-s---", "12.34", false, false),
            ("sri-I-s---", "100.00", true, true),
            ("sri-S-s---", "50.00", true, true),
            ("sri-a-s---", "100.00", true, true),
            ("sri-a-s---", "", true, true),
            ("Vri-a-tz-k", "100.00", true, false),
            ("Vwi-a-tz-k", "1.00", false, false),
            ("-ri-a-----", "", false, false),
        ] {
            let line = format!("  kept|{UUIDS}|{attributes}|12582912|0|4194304||mail|{percent}||");
            let row = row(&line).unwrap();
            assert_eq!((row.is_frozen(), row.is_lost()), (frozen, lost), "{attributes} {percent}");
        }
        for wrong in [
            "",
            "  WARNING: something is up",
            "  mail|u|v|-wi-------|1|1|1|||||",
            &format!("  mail|{UUIDS}|-wi-------|1.00g|1|1|||||"),
            &format!("  mail|{UUIDS}|-wi-------|1|1|0|||||"),
            &format!("  mail|{UUIDS}|-wi-------|1|1|1||||NaN|"),
            &format!("  mail|{UUIDS}|-wi-------|1|1|1||||||more"),
        ] {
            assert!(row(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_never_became_a_snapshot_is_known_by_its_tag() {
        let of = row(&format!("  mail|{UUIDS}|owi-aos---|1|1|1|||||")).unwrap().uuid;
        let line = |name: &str, attributes: &str, pool: &str, origin: &str, tags: &str| {
            row(&format!("  {name}|{UUIDS}|{attributes}|1|1|1|{pool}|{origin}|||{tags}")).unwrap()
        };
        let half = line("kept", "-ri-a-----", "", "", "mine,kept");
        assert!(half.is_half_made(&of) && !half.is_open());
        assert!(line("kept", "-ri-ao----", "", "", "kept").is_open());
        for other in [
            line("kept", "-wi-a-----", "", "", ""),
            line("kept", "-wi-a-----", "", "", "other"),
            line("kept", "owi-a-----", "", "", "kept"),
            line("kept", "Vwi-a-----", "pool", "", "kept"),
            line("kept", "sri-a-s---", "", "mail", "kept"),
        ] {
            assert!(!other.is_half_made(&of), "{other:?}");
        }
        // Of a volume in another group, and of none; which volume of the group it was to be of, nobody can say any more.
        assert!(!half.is_half_made(&of.replace('1', "9")) && !half.is_half_made(""));
        assert!(half.is_half_made(&of.replace('0', "9")));
    }
}
