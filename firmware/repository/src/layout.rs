//! Where things lie inside the repository's folder. Follows FORMAT.md, "Files", and COMMIT.md.

use mailkeep_format::{PackId, RunId, SnapshotId};

pub(crate) const LABELS: [&str; 2] = ["label", "label.2"];
pub(crate) const KEYS: [&str; 2] = ["keys", "keys.2"];
pub(crate) const PLAIN_KEY: &str = "plain";
pub(crate) const MANIFESTS: [&str; 2] = ["manifests", "manifests.2"];
/// Sweep records; named like manifests, by sequence and hash.
pub(crate) const SWEPT: [&str; 2] = ["swept", "swept.2"];
pub(crate) const PACKS: &str = "packs";
pub(crate) const INDEX: &str = "index";
pub(crate) const VERIFIED: &str = "verified";
/// How rehearsed restores ended; named like verification records.
pub(crate) const DRILLS: &str = "drills";
/// How far backups had come that were cut off; named like verification records.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const QUARANTINE: &str = "quarantine";
pub(crate) const TMP: &str = "tmp";
/// Read-only snapshots of the repository, where the file system can make them.
pub(crate) const GUARDS: &str = "guards";
pub(crate) const RESERVE: &str = "reserve";
pub(crate) const LOCK: &str = "lock";
pub(crate) const LEASE: &str = "lease";
pub(crate) const README: &str = "README.txt";
pub(crate) const FORMAT: &str = "FORMAT.md";
/// Programs that read this disk, for people who have nothing else.
pub(crate) const RESCUE: &str = "rescue";
/// Their sums, in the form of `sha256sum`.
pub(crate) const RESCUE_SUMS: &str = "rescue/SHA256SUMS";

/// Start of the name of a guard that prune holds.
const HOLD: &str = "hold-";

/// The folders of a new repository.
pub(crate) const FOLDERS: [&str; 7] = [TMP, KEYS[0], KEYS[1], PACKS, INDEX, MANIFESTS[0], MANIFESTS[1]];

/// Names that do not make a folder "not empty": what a fresh file system brings along.
pub(crate) const TOLERATED: [&str; 2] = ["lost+found", "System Volume Information"];

/// `packs/xx`, the folder of a pack.
pub(crate) fn pack_folder(id: &PackId) -> String {
    format!("{PACKS}/{:02x}", id.0[0])
}

/// `packs/xx/<id>`.
pub(crate) fn pack(id: &PackId) -> String {
    format!("{}/{id}", pack_folder(id))
}

/// `index/<id>`.
pub(crate) fn run(id: &RunId) -> String {
    format!("{INDEX}/{id}")
}

/// File name of a manifest: generation, and the start of its id.
pub(crate) fn manifest_name(generation: u64, id: &SnapshotId) -> String {
    numbered_name(generation, &id.0)
}

/// A number for the order, and the start of the hash of the file.
pub(crate) fn numbered_name(number: u64, hash: &[u8; 32]) -> String {
    let start: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{number:010}-{start}")
}

/// Generation and start of the id from a manifest's file name.
pub(crate) fn parse_manifest_name(name: &str) -> Option<(u64, &str)> {
    parse_numbered(name)
}

/// Number and start of the hash from the name of a file that has both in it.
pub(crate) fn parse_numbered(name: &str) -> Option<(u64, &str)> {
    let (number, hash) = name.split_once('-')?;
    let digits = number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit());
    let hex = hash.len() == 16 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (digits && hex).then(|| Some((number.parse().ok()?, hash)))?
}

/// Whether these bytes are those that a numbered name was given for: a flipped bit in them can look like a version to
/// come, but not under the right name.
pub(crate) fn is_named_after(name: &str, bytes: &[u8]) -> bool {
    parse_numbered(name).is_some_and(|(_, hash)| blake3::hash(bytes).to_hex().starts_with(hash))
}

/// Name of a guard that is held while something is taken away.
pub(crate) fn hold_name(generation: u64, random: [u8; 4]) -> String {
    format!("{HOLD}{generation:010}-{:08x}", u32::from_be_bytes(random))
}

/// Whether a guard was made for the time of a prune.
pub(crate) fn is_hold(name: &str) -> bool {
    name.strip_prefix(HOLD)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(generation, random)| is_generation(generation) && random.len() == 8 && is_hex(random))
}

/// Whether a guard of ours can have this name.
pub(crate) fn is_guard(name: &str) -> bool {
    parse_manifest_name(name).is_some() || is_hold(name)
}

fn is_generation(text: &str) -> bool {
    (10..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_guards_lead_nowhere_else() {
        let id = SnapshotId([0xab; 32]);
        for good in [manifest_name(7, &id), hold_name(7, [0, 1, 2, 255]), hold_name(u64::MAX, [0; 4])] {
            assert!(is_guard(&good), "{good}");
        }
        assert!(is_hold(&hold_name(7, [1; 4])) && !is_hold(&manifest_name(7, &id)));
        for bad in [
            "",
            ".",
            "..",
            "hold-",
            "hold-7-00000000",
            "hold-0000000007-0000000/",
            "../0000000007-abababababababab",
        ] {
            assert!(!is_guard(bad), "{bad}");
        }
    }

    #[test]
    fn manifest_names_survive_and_others_are_refused() {
        let id = SnapshotId([0xab; 32]);
        let name = manifest_name(7, &id);
        assert_eq!(name, "0000000007-abababababababab");
        assert_eq!(parse_manifest_name(&name), Some((7, "abababababababab")));
        for bad in ["", "7-ab", "0000000007", "0000000007-ABABABABABABABAB", "00000000x7-abababababababab"] {
            assert_eq!(parse_manifest_name(bad), None, "{bad}");
        }
    }
}
