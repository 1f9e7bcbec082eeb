//! Programs of this machine, with the libraries that the dynamic linker would load for them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::GuestError;
use crate::archive::Archive;

/// Files from this size on are packed without what only debuggers read: the guest keeps all of it in memory.
const STRIPPED_FROM: u64 = 4 << 20;
const TOO: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Where a program is, by its name.
///
/// # Errors
/// It is not there.
pub fn find(name: &str) -> Result<PathBuf, GuestError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(TOO.iter().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| GuestError::Missing { what: format!("the program {name}") })
}

/// Puts a program and what it needs where they are on this machine.
///
/// # Errors
/// One of the files is not there, or cannot be packed.
pub fn pack(archive: &mut Archive<impl Write>, program: &Path) -> Result<(), GuestError> {
    for path in needed_by(program)?.iter().map(PathBuf::as_path).chain([program]) {
        pack_file(archive, path)?;
    }
    Ok(())
}

/// A file under its own path, and the links that lead to it.
fn pack_file(archive: &mut Archive<impl Write>, path: &Path) -> Result<(), GuestError> {
    let mut path = settled(path)?;
    loop {
        if archive.has(&path) {
            return Ok(());
        }
        let Ok(target) = fs::read_link(&path) else { break };
        archive.link(&path, &target).map_err(GuestError::file("pack", &path))?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        path = settled(&folder.join(target))?;
    }
    let bytes = contents(&path)?;
    archive.file(&path, 0o755, &bytes).map_err(GuestError::file("pack", &path))
}

/// The path with its folder as it really is; its last part may be a link.
fn settled(path: &Path) -> Result<PathBuf, GuestError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(GuestError::Missing { what: format!("the file {}", path.display()) });
    };
    Ok(folder.canonicalize().map_err(GuestError::file("find", folder))?.join(name))
}

fn contents(path: &Path) -> Result<Vec<u8>, GuestError> {
    let length = fs::metadata(path).map_err(GuestError::file("look at", path))?.len();
    if length < STRIPPED_FROM || find("strip").is_err() {
        return fs::read(path).map_err(GuestError::file("read", path));
    }
    let folder = tempfile::tempdir().map_err(GuestError::file("make a folder for", path))?;
    let stripped = folder.path().join("stripped");
    said(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(path))?;
    fs::read(&stripped).map_err(GuestError::file("read", stripped))
}

/// The libraries of a program; none if it is static or a script.
fn needed_by(program: &Path) -> Result<BTreeSet<PathBuf>, GuestError> {
    let mut command = Command::new("ldd");
    command.arg(program).env("LC_ALL", "C");
    let output = command.output().map_err(GuestError::file("run", "ldd"))?;
    // `ldd` fails on what is not dynamic.
    if !output.status.success() {
        return Ok(BTreeSet::new());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(GuestError::Missing { what: format!("{} of {}", line.trim(), program.display()) });
    }
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2 (0x…)", "linux-vdso.so.1 (0x…)"
    let path = |line: &str| {
        let words = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(words))
    };
    Ok(text.lines().filter_map(path).collect())
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String, GuestError> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(GuestError::file("run", &shown))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(GuestError::Command { command: shown, why });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
