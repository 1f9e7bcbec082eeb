//! The programs that a disk is to carry: where they are looked for on this machine, and who can read them on the disk.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mailkeep_repository::RescueProgram;
use rustix::fs::{self, FileType, Mode, OFlags};

use crate::exit::{self, Failure};

/// Where they are installed; before it, the folder `rescue` beside this program.
const PLACE: &str = "/usr/local/lib/mailkeep/rescue";
/// Their names.
const PROGRAMS: [&str; 2] = ["mailkeep-x86_64", "mailkeep-aarch64"];
/// No program of ours is longer, in bytes.
const LONGEST: u64 = 256 << 20;

/// The programs that were named, or those that are found here; one for each kind of machine.
pub(crate) fn programs(named: &[PathBuf]) -> Result<Vec<RescueProgram>, Failure> {
    if !named.is_empty() {
        let program = |path: &PathBuf| {
            let bytes = read(path)?.ok_or_else(|| {
                Failure::file(exit::FAILED, "read the program", path, &ErrorKind::NotFound.into())
            })?;
            RescueProgram::new(bytes).map_err(|error| {
                Failure::new(exit::USAGE, format!("the disk cannot carry {}: {error}", path.display()))
            })
        };
        return named.iter().map(program).collect();
    }
    let mut found: Vec<RescueProgram> = Vec::new();
    for path in places() {
        // What lies there and is no program is somebody else's.
        let Some(Ok(program)) = read(&path)?.map(RescueProgram::new) else { continue };
        if found.iter().all(|other| other.machine() != program.machine()) {
            found.push(program);
        }
    }
    Ok(found)
}

/// Lets everybody who has plugged the disk in read what is there for people: all else on it is for root alone. What cannot
/// be opened stays as it is. No link is followed: the disk may be anybody's.
pub(crate) fn open_to_readers(repository: &Path) {
    let Ok(top) = open(rustix::fs::CWD, repository, OFlags::DIRECTORY) else { return };
    for name in ["README.txt", "FORMAT.md"] {
        permit(&top, Path::new(name), 0o644);
    }
    let Ok(rescue) = open(&top, Path::new("rescue"), OFlags::DIRECTORY | OFlags::NOFOLLOW) else { return };
    permit(&rescue, Path::new("SHA256SUMS"), 0o644);
    for name in PROGRAMS {
        permit(&rescue, Path::new(name), 0o755);
    }
    // Where the file system knows no permissions it is open already.
    let _ = fs::fchmod(&rescue, Mode::from_raw_mode(0o755));
}

fn permit(folder: &OwnedFd, name: &Path, mode: u32) {
    let Ok(file) = open(folder, name, OFlags::NOFOLLOW | OFlags::NONBLOCK) else { return };
    if fs::fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        let _ = fs::fchmod(&file, Mode::from_raw_mode(mode));
    }
}

fn open(folder: impl AsFd, name: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
}

/// Files that may be such programs, the best first.
fn places() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_ref().and_then(|own| own.parent()).map(|folder| folder.join("rescue"));
    let mut files = Vec::new();
    for folder in beside.iter().map(PathBuf::as_path).chain([Path::new(PLACE)]) {
        files.extend(PROGRAMS.map(|name| folder.join(name)));
    }
    // A static program can carry itself.
    if cfg!(target_feature = "crt-static") {
        files.extend(own);
    }
    files
}

/// The bytes of a file; nothing if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error| Failure::file(exit::FAILED, "read the program", path, &error);
    let length = match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if length > LONGEST {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    std::fs::read(path).map(Some).map_err(failed)
}
