//! Where things lie inside the repository's folder. Follows FORMAT.md, "Files", and COMMIT.md.

use mailkeep_format::{PackId, RunId, SnapshotId};

pub(crate) const LABELS: [&str; 2] = ["label", "label.2"];
pub(crate) const KEYS: [&str; 2] = ["keys", "keys.2"];
pub(crate) const PLAIN_KEY: &str = "plain";
pub(crate) const MANIFESTS: [&str; 2] = ["manifests", "manifests.2"];
pub(crate) const PACKS: &str = "packs";
pub(crate) const INDEX: &str = "index";
pub(crate) const VERIFIED: &str = "verified";
pub(crate) const QUARANTINE: &str = "quarantine";
pub(crate) const TMP: &str = "tmp";
pub(crate) const LOCK: &str = "lock";
pub(crate) const LEASE: &str = "lease";
pub(crate) const README: &str = "README.txt";
pub(crate) const FORMAT: &str = "FORMAT.md";

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

#[cfg(test)]
mod tests {
    use super::*;

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
