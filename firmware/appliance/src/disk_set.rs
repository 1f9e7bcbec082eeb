//! The set ledger: what the box remembers of each of its disks. Its name, the newest snapshot that was sealed there (an
//! older clone that comes back, or one of two copies that were both written to, is told by it: hazard 20), when it was here
//! last and last proven, what was written to it, and how much room it had. From that follows which disk is to be brought
//! next, and by when.
//!
//! A JSON file in the state folder, replaced as a whole. One that can't be read is said, kept aside, and begun anew:
//! nothing that a restore needs is in it. Shared by the disk thread, the jobs and the event loop; each call is short.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mailkeep_repository::format::{RepositoryId, SnapshotId};
use mailkeep_repository::{Seen, SnapshotEntry, setback};
use serde::{Deserialize, Serialize};

use crate::state_file;

const FILE: &str = "disks.json";
const DAY: i64 = 86_400;

/// A disk of the set, as it is remembered. Times are seconds since 1970, UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its name for people, as on its sticker.
    pub label: String,
    /// Generation of its newest snapshot; 0: none.
    pub generation: u64,
    /// Id of its newest snapshot; empty: none.
    pub snapshot: String,
    /// It was in the box last.
    pub seen: Option<i64>,
    /// A backup onto it was last read back and found good.
    pub proven: Option<i64>,
    /// Backups that were sealed on it by this box.
    pub backups: u64,
    /// Bytes that those have written.
    pub written_bytes: u64,
    /// Its size, where that is known.
    pub size_bytes: Option<u64>,
    /// The room that was left on it.
    pub free_bytes: Option<u64>,
    /// It is not as the box left it, in a sentence. Nothing is removed from it until a person has said that it is right.
    pub doubt: Option<String>,
}

/// Size and free room of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of it, bytes.
    pub size: u64,
    /// What is left, bytes.
    pub free: u64,
}

/// Which disk is to be brought next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Repository id; none: a disk that is not prepared yet.
    pub disk: Option<String>,
    /// Its name.
    pub label: Option<String>,
    /// By when, seconds since 1970; none: no hurry is known.
    pub by: Option<i64>,
}

/// How disks rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// How many disks the set has; `None`: those that were seen.
    pub set_size: Option<u32>,
    /// How long a disk stays in the box, seconds.
    pub every: i64,
}

type Members = BTreeMap<String, Member>;

/// The ledger.
#[derive(Debug)]
pub struct DiskSet {
    state_dir: PathBuf,
    members: Mutex<Members>,
}

impl DiskSet {
    /// Reads what is remembered in a state folder.
    pub fn open(state_dir: PathBuf) -> Self {
        let members = load(&state_dir).unwrap_or_else(|error| {
            let aside = state_dir.join(format!("{FILE}.unreadable"));
            tracing::error!(
                "what is remembered of the disks can't be read and is begun anew: {error}; see {aside:?}"
            );
            if let Err(error) = std::fs::rename(state_dir.join(FILE), &aside) {
                tracing::warn!("it can't be kept aside: {error}");
            }
            Members::new()
        });
        Self { state_dir, members: Mutex::new(members) }
    }

    /// All disks, by repository id.
    pub fn members(&self) -> BTreeMap<String, Member> {
        self.lock().clone()
    }

    /// A disk is in the box and holds these snapshots, in order of generation. Returns why it is in doubt, if it is: found
    /// now, or earlier and not yet settled by [`trust`](Self::trust).
    pub fn seen(
        &self,
        disk: RepositoryId,
        label: &str,
        entries: &[SnapshotEntry],
        room: Option<Room>,
        now: i64,
    ) -> Option<String> {
        self.change(|members| {
            let member = members.entry(disk.hex()).or_default();
            if let Some(contradiction) = contradiction(member, entries) {
                member.doubt = Some(contradiction);
            }
            label.clone_into(&mut member.label);
            member.seen = Some(now);
            member.note_room(room);
            // From here on this is the state that the disk is compared with; the doubt stays.
            member.note_newest(Seen::of(entries));
            member.doubt.clone()
        })
    }

    /// A snapshot was sealed on a disk.
    pub fn sealed(&self, disk: RepositoryId, seen: Seen, written_bytes: u64, room: Option<Room>) {
        self.change(|members| {
            let member = members.entry(disk.hex()).or_default();
            member.note_newest(Some(seen));
            member.note_room(room);
            member.backups += 1;
            member.written_bytes = member.written_bytes.saturating_add(written_bytes);
        });
    }

    /// What was sealed on a disk was read back and found good.
    pub fn proven(&self, disk: RepositoryId, now: i64) {
        self.change(|members| {
            let member = members.entry(disk.hex()).or_default();
            (member.seen, member.proven) = (Some(now), Some(now));
        });
    }

    /// A person says that a disk is right as it is. Returns whether there was a doubt.
    pub fn trust(&self, disk: &str) -> bool {
        self.change(|members| members.get_mut(disk).and_then(|member| member.doubt.take()).is_some())
    }

    /// A disk does not belong to the set any more. Returns whether it did.
    pub fn forget(&self, disk: &str) -> bool {
        self.change(|members| members.remove(disk).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Members) -> T) -> T {
        let mut members = self.lock();
        let before = members.clone();
        let answer = change(&mut members);
        if *members != before {
            let saved = serde_json::to_vec_pretty(&*members)
                .map_err(io::Error::from)
                .and_then(|bytes| state_file::replace(&self.state_dir, FILE, &bytes));
            if let Err(error) = saved {
                tracing::error!(folder = %self.state_dir.display(), "the set ledger can't be written: {error}");
            }
        }
        answer
    }
}

impl Member {
    fn note_newest(&mut self, newest: Option<Seen>) {
        self.generation = newest.map_or(0, |seen| seen.generation);
        self.snapshot = newest.map(|seen| seen.snapshot.hex()).unwrap_or_default();
    }

    fn note_room(&mut self, room: Option<Room>) {
        if let Some(room) = room {
            (self.size_bytes, self.free_bytes) = (Some(room.size), Some(room.free));
        }
    }
}

/// What contradicts the memory of a disk, in one line; nothing for one that is new to the box.
fn contradiction(member: &Member, entries: &[SnapshotEntry]) -> Option<String> {
    let snapshot: SnapshotId = member.snapshot.parse().ok()?;
    let seen = Seen { generation: member.generation, snapshot };
    setback(&seen, entries).map(|setback| setback.to_string())
}

fn load(state_dir: &Path) -> io::Result<Members> {
    match std::fs::read(state_dir.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Members::new()),
        Err(error) => Err(error),
    }
}

/// Which disk is to be brought next: of those that are not in the box the one whose newest proven backup is oldest. It is
/// due when the others have had their turns since. A set that is not complete wants a new disk first.
pub fn next_wanted(
    members: &BTreeMap<String, Member>,
    in_the_box: Option<&str>,
    rotation: Rotation,
) -> Option<Wanted> {
    let known = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let disks = rotation.set_size.unwrap_or(known);
    if disks < 2 {
        return None;
    }
    if known < disks {
        return Some(Wanted { disk: None, label: None, by: None });
    }
    let away = members.iter().filter(|(id, _)| Some(id.as_str()) != in_the_box);
    let (id, member) = away.min_by_key(|(id, member)| (member.proven, id.as_str()))?;
    // A disk that never had a backup is due when the one that is in has had its turn.
    let since = member.proven.or_else(|| {
        let others = members.values().filter_map(|other| other.proven);
        others.min().map(|first| first - rotation.every.saturating_mul(i64::from(disks) - 2))
    });
    let by = since.map(|since| since.saturating_add(rotation.every.saturating_mul(i64::from(disks) - 1)));
    Some(Wanted { disk: Some(id.clone()), label: Some(member.label.clone()), by })
}

/// Days from `now` to `then`, begun ones counted; negative: that many have passed.
pub fn days_until(then: i64, now: i64) -> i64 {
    then.saturating_sub(now).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RepositoryId = RepositoryId([7; 16]);

    fn member(label: &str, proven: Option<i64>) -> (String, Member) {
        (format!("id-{label}"), Member { label: label.into(), proven, ..Member::default() })
    }

    #[test]
    fn what_was_remembered_is_compared_and_a_doubt_stays_until_a_person_settles_it() {
        let folder = tempfile::tempdir().unwrap();
        let set = DiskSet::open(folder.path().to_owned());
        assert_eq!(set.seen(A, "disk A", &[], None, 5), None, "new to the box");
        let newest = Seen { generation: 5, snapshot: SnapshotId([9; 32]) };
        set.sealed(A, newest, 1_000, Some(Room { size: 10_000, free: 4_000 }));
        set.sealed(A, newest, 500, None);
        set.proven(A, 9);
        let set = DiskSet::open(folder.path().to_owned());
        let member = &set.members()[&A.hex()];
        assert_eq!((member.label.as_str(), member.generation, member.backups), ("disk A", 5, 2));
        assert_eq!((member.written_bytes, member.free_bytes), (1_500, Some(4_000)));
        assert_eq!((member.seen, member.proven), (Some(9), Some(9)));

        let doubt = set.seen(A, "disk A", &[], None, 10).unwrap();
        assert!(doubt.contains("went back in time") && doubt.contains('5'), "{doubt}");
        let set = DiskSet::open(folder.path().to_owned());
        assert_eq!(set.seen(A, "disk A", &[], None, 11), Some(doubt), "nobody has looked yet");
        assert!(set.trust(&A.hex()) && !set.trust(&A.hex()) && !set.trust("none"));
        assert_eq!(set.seen(A, "disk A", &[], None, 12), None);
        assert!(set.forget(&A.hex()) && !set.forget(&A.hex()));
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read_and_one_that_is_torn_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let old =
            format!("{{\"{}\": {{\"generation\": 3, \"snapshot\": \"{}\"}}}}", A.hex(), "09".repeat(32));
        std::fs::write(folder.path().join(FILE), old).unwrap();
        let set = DiskSet::open(folder.path().to_owned());
        assert!(set.seen(A, "disk A", &[], None, 1).is_some_and(|doubt| doubt.contains('3')));
        std::fs::write(folder.path().join(FILE), "[").unwrap();
        assert!(DiskSet::open(folder.path().to_owned()).members().is_empty());
        assert_eq!(std::fs::read(folder.path().join("disks.json.unreadable")).unwrap(), b"[");
    }

    #[test]
    fn the_disk_to_bring_is_the_one_that_was_away_for_longest() {
        let weekly = |set_size| Rotation { set_size, every: 7 * DAY };
        let all: BTreeMap<_, _> =
            [member("A", Some(20 * DAY)), member("B", Some(6 * DAY)), member("C", Some(13 * DAY))].into();
        let wanted = next_wanted(&all, Some("id-A"), weekly(Some(3))).unwrap();
        assert_eq!((wanted.label.as_deref(), wanted.by), (Some("B"), Some(20 * DAY)));
        // The one that is in is not asked for, even if it is the oldest.
        let wanted = next_wanted(&all, Some("id-B"), weekly(None)).unwrap();
        assert_eq!((wanted.label.as_deref(), wanted.by), (Some("C"), Some(27 * DAY)));
        let wanted = next_wanted(&all, Some("id-A"), weekly(Some(4))).unwrap();
        assert_eq!((wanted.label, wanted.by), (None, None), "the fourth has to be made first");
        let one: BTreeMap<_, _> = [member("A", Some(DAY))].into();
        assert_eq!(next_wanted(&one, None, weekly(None)), None, "nothing rotates");
        let fresh: BTreeMap<_, _> = [member("A", Some(DAY)), member("B", None)].into();
        let wanted = next_wanted(&fresh, Some("id-A"), weekly(None)).unwrap();
        assert_eq!((wanted.label.as_deref(), wanted.by), (Some("B"), Some(8 * DAY)));
        let none: BTreeMap<_, _> = [member("A", None), member("B", None)].into();
        assert_eq!(next_wanted(&none, Some("id-A"), weekly(None)).unwrap().by, None);
    }
}
