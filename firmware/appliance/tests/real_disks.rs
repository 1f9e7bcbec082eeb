//! The real engine and real repositories. Hazards: a foreign disk that is taken for ours, a look that changes a
//! disk, a box without its key.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailkeep_appliance::engine::Engine;
use mailkeep_appliance::pull_engine::PullEngine;
use mailkeep_controller::Identity;
use mailkeep_repository::format::Identity as KeyIdentity;
use mailkeep_repository::{Encryption, InitOptions, LocalStorage, Repository};

fn init(folder: &Path, encryption: Encryption) {
    let storage = Arc::new(LocalStorage::prepare(folder).unwrap());
    Repository::init(storage, &InitOptions { label: "disk".into(), encryption }).unwrap();
}

fn new_key(file: &Path) -> KeyIdentity {
    let key = KeyIdentity::generate();
    std::fs::write(file, key.to_text().as_bytes()).unwrap();
    key
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_disk_is_ours_only_if_our_key_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ours = new_key(&path("box.key"));
    let theirs = new_key(&path("other.key"));
    init(&path("ours"), Encryption::Wrapped { box_key: ours });
    init(&path("theirs"), Encryption::Wrapped { box_key: theirs });
    init(&path("plain"), Encryption::Plain);
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path("holiday")).unwrap();
    std::fs::write(path("holiday").join("label"), "photos").unwrap();

    let before = contents(folder.path());
    let engine = PullEngine::new(path("box.key"));
    assert_eq!(engine.identify(&path("ours")).unwrap(), Identity::Ours);
    // A disk that carries its own key in the clear must not be slipped to a box that encrypts.
    assert_eq!(engine.identify(&path("plain")).unwrap(), Identity::Foreign);
    assert_eq!(engine.identify(&path("theirs")).unwrap(), Identity::Foreign);
    assert_eq!(engine.identify(&path("empty")).unwrap(), Identity::Unknown);
    assert!(!matches!(engine.identify(&path("holiday")), Ok(Identity::Ours)));

    let without_key = PullEngine::new(path("no.key"));
    assert_eq!(without_key.identify(&path("ours")).unwrap(), Identity::Foreign);
    assert_eq!(without_key.identify(&path("plain")).unwrap(), Identity::Ours);
    assert!(before == contents(folder.path()), "a look changed a disk");
}
