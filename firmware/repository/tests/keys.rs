//! Hazard 24: a key that was written is read back and opened before it is given out, and no key is taken away while none
//! other is known to work.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::faulty::Faulty;
use common::*;
use mailkeep_repository::format::Identity;
use mailkeep_repository::{
    AddedKey, Encryption, InitOptions, KeySource, LogMonitor, MemoryStorage, Repository, RepositoryError,
    Storage, key_holders,
};

fn sharing(disk: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn made() -> (MemoryStorage, Identity) {
    let disk = MemoryStorage::new();
    let encryption = Encryption::Wrapped { box_key: box_key() };
    let done = Repository::init(sharing(&disk), &InitOptions { label: "Monday".into(), encryption }).unwrap();
    backup(&done.repository, &source(0)).unwrap();
    (disk, done.recovery.unwrap())
}

fn opens(disk: &MemoryStorage, identity: &Identity) -> Result<Repository, RepositoryError> {
    Repository::open(sharing(disk), &KeySource::Identity(identity.clone()), &LogMonitor)
}

fn boxes() -> KeySource {
    KeySource::Identity(box_key())
}

fn add(storage: &Arc<dyn Storage>) -> Result<AddedKey, RepositoryError> {
    open(storage, &LogMonitor)?.add_recovery(&boxes(), &options().machine, &LogMonitor)
}

fn revoke(storage: &Arc<dyn Storage>, id: &str, key: &KeySource) -> Result<(), RepositoryError> {
    let repository = Repository::open(storage.clone(), key, &LogMonitor)?;
    repository.revoke(id, key, &options().machine, &LogMonitor)
}

#[test]
fn an_added_key_opens_from_either_copy_and_a_revoked_one_no_longer() {
    let (disk, first) = made();
    let added = add(&sharing(&disk)).unwrap();
    assert!(added.id.starts_with("recovery-"));
    let held: Vec<_> = key_holders(&disk).unwrap();
    assert_eq!(held.len(), 3);
    assert!(held.iter().all(|holder| holder.copies == 2));
    for folder in ["keys", "keys.2"] {
        let one = disk.crash(1);
        for path in disk.files().keys().filter(|path| path.starts_with(&format!("{folder}/"))) {
            one.remove(path).unwrap();
        }
        for identity in [&added.identity, &first, &box_key()] {
            assert_eq!(snapshots(&opens(&one, identity).unwrap()).0.len(), 1);
        }
    }
    revoke(&sharing(&disk), &added.id, &boxes()).unwrap();
    assert!(matches!(opens(&disk, &added.identity), Err(RepositoryError::WrongKey { .. })));
    opens(&disk, &first).unwrap();
    assert_eq!(key_holders(&disk).unwrap().len(), 2);
    let gone = revoke(&sharing(&disk), &added.id, &boxes()).unwrap_err();
    assert!(matches!(gone, RepositoryError::NoSuchKey { .. }));
}

#[test]
fn neither_the_last_key_nor_the_one_in_hand_can_be_revoked() {
    let (disk, recovery) = made();
    let ids: Vec<String> = key_holders(&disk).unwrap().into_iter().map(|holder| holder.id).collect();
    let of = |role: &str| ids.iter().find(|id| id.starts_with(role)).unwrap().clone();
    let stays = |error: RepositoryError| matches!(error, RepositoryError::KeyStays { .. });
    assert!(stays(revoke(&sharing(&disk), &of("box"), &boxes()).unwrap_err()));
    revoke(&sharing(&disk), &of("box"), &KeySource::Identity(recovery.clone())).unwrap();
    assert!(
        matches!(opens(&disk, &box_key()), Err(RepositoryError::WrongKey { .. })),
        "a lost box is shut out"
    );
    let last = revoke(&sharing(&disk), &of("recovery"), &KeySource::Identity(recovery.clone())).unwrap_err();
    assert!(last.to_string().contains("last"), "{last}");
    opens(&disk, &recovery).unwrap();
}

#[test]
fn a_key_is_not_revoked_while_the_one_in_hand_is_damaged_in_a_copy() {
    let (disk, _) = made();
    let own = disk.files().into_keys().find(|path| path.starts_with("keys.2/box")).unwrap();
    let recovery = key_holders(&disk).unwrap().into_iter().find(|holder| holder.role == "recovery").unwrap();
    disk.damage(&own, |bytes| bytes[150] ^= 1);
    let error = revoke(&sharing(&disk), &recovery.id, &boxes()).unwrap_err();
    assert!(matches!(error, RepositoryError::ReadBack { .. }), "{error}");
    assert_eq!(key_holders(&disk).unwrap().len(), 2);
}

#[test]
fn a_key_file_that_does_not_read_back_is_never_given_out() {
    let (disk, _) = made();
    let rotting: Arc<dyn Storage> = Arc::new(Faulty::rotting_at(&disk, "keys"));
    let before = key_holders(&disk).unwrap();
    let error = add(&rotting).err().unwrap();
    assert!(matches!(error, RepositoryError::ReadBack { .. }), "{error}");
    assert_eq!(error.exit_code(), 65);
    assert_eq!(key_holders(&disk).unwrap(), before, "the file whose key nobody has is gone again");
}

#[test]
fn without_encryption_there_are_no_keys_to_add_or_revoke() {
    let disk = MemoryStorage::new();
    let options_ = InitOptions { label: "open".into(), encryption: Encryption::Plain };
    let repository = Repository::init(sharing(&disk), &options_).unwrap().repository;
    let machine = options().machine;
    let added = repository.add_recovery(&KeySource::Plain, &machine, &LogMonitor).err().unwrap();
    let revoked = repository.revoke("plain", &KeySource::Plain, &machine, &LogMonitor).unwrap_err();
    for error in [added, revoked] {
        assert!(matches!(error, RepositoryError::NotEncrypted { .. }), "{error}");
    }
}

#[test]
fn an_addition_cut_or_failing_anywhere_harms_no_key_and_what_was_given_out_opens() {
    let (start, recovery) = made();
    for cut in [true, false] {
        let mut at = 1;
        loop {
            let disk = start.crash(1);
            let faulty = if cut { Faulty::power_cut(&disk, at) } else { Faulty::new(&disk, at, false, 5) };
            let done = add(&(Arc::new(faulty.clone()) as Arc<dyn Storage>));
            for seed in 0..5 {
                let after = disk.crash(seed);
                for identity in [&recovery, &box_key()] {
                    opens(&after, identity).unwrap_or_else(|error| panic!("call {at}, seed {seed}: {error}"));
                }
                if let Ok(added) = &done {
                    opens(&after, &added.identity).unwrap();
                }
            }
            if !faulty.happened() {
                break;
            }
            at += 1;
        }
        assert!(at > 10, "{at}");
    }
}

#[test]
fn a_revocation_cut_or_failing_anywhere_harms_no_other_key_and_once_done_stays_done() {
    let (start, recovery) = made();
    let added = add(&sharing(&start)).unwrap();
    for cut in [true, false] {
        let mut at = 1;
        loop {
            let disk = start.crash(1);
            let faulty = if cut { Faulty::power_cut(&disk, at) } else { Faulty::new(&disk, at, false, 5) };
            let done = revoke(&(Arc::new(faulty.clone()) as Arc<dyn Storage>), &added.id, &boxes());
            for seed in 0..5 {
                let after = disk.crash(seed);
                for identity in [&recovery, &box_key()] {
                    opens(&after, identity).unwrap_or_else(|error| panic!("call {at}, seed {seed}: {error}"));
                }
                if done.is_ok() {
                    // Also after the next writer, which brings back missing copies.
                    backup(&opens(&after, &box_key()).unwrap(), &source(1)).unwrap();
                    assert!(opens(&after, &added.identity).is_err(), "call {at}, seed {seed}: it is back");
                }
            }
            if !faulty.happened() {
                done.unwrap();
                break;
            }
            at += 1;
        }
        assert!(at > 10, "{at}");
    }
}
