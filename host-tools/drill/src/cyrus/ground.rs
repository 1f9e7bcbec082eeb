//! Makes the rebuilt tree a root folder that a Cyrus of this machine can be started in.
//!
//! The tree was compared with the snapshot before; what is added now is ours. It may be hostile: nothing is made or written
//! through a link of it, since what leads out of it here would be this machine's.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::config::{Config, HOME};

/// Where this machine's programs and their libraries lie.
const SYSTEM: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What the tree was made to.
#[derive(Debug)]
pub(super) struct Ground {
    /// Folders of this machine that are shown in the tree, read-only.
    pub(super) binds: Vec<PathBuf>,
    /// The program that is started.
    pub(super) master: PathBuf,
}

/// Prepares `tree`.
///
/// # Errors
/// It cannot be made one; says why.
pub(super) fn prepare(tree: &Path, bin: &Path, config: &Config, account: &Account) -> Result<Ground, String> {
    let failed = |error: io::Error| format!("the rebuilt folder cannot be prepared for it: {error}");
    let mut tops: Vec<&str> = SYSTEM.to_vec();
    let top = bin.iter().nth(1).and_then(|top| top.to_str()).unwrap_or_default();
    if !top.is_empty() && !tops.contains(&top) {
        tops.push(top);
    }
    let mut binds = Vec::new();
    for top in tops {
        if let Some(bind) = program_folder(tree, top)? {
            binds.push(bind);
        }
    }
    if let Some(hidden) = config.named.iter().find(|path| binds.iter().any(|bind| path.starts_with(bind))) {
        return Err(format!("{} of the snapshot is where this machine has its programs", hidden.display()));
    }
    // Whoever restores makes the folder for himself alone; the scratch folder around it stays that.
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    folder(tree, "dev")?;
    folder(tree, "etc")?;
    for (name, text) in [("etc/passwd", account.passwd()), ("etc/group", account.group())] {
        let path = tree.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => write_new(&path, text.as_bytes()).map_err(failed)?,
        }
    }
    let home = tree.join(HOME.trim_start_matches('/'));
    fs::create_dir(&home).map_err(|error| format!("{HOME} cannot be made in the rebuilt folder: {error}"))?;
    let make = || -> io::Result<()> {
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755))?;
        write_new(&home.join("imapd.conf"), &config.imapd)?;
        write_new(&home.join("cyrus.conf"), Config::services().as_bytes())?;
        let temporary = home.join("tmp");
        fs::create_dir(&temporary)?;
        chown(&temporary, Some(account.uid), Some(account.gid))
    };
    make().map_err(failed)?;
    // Debian has a name of its own for it, and some have only that.
    let candidates = [bin.join("master"), bin.join("cyrmaster"), "/usr/sbin/cyrmaster".into()];
    let master = candidates.into_iter().find(|path| path.is_file());
    let master = master.ok_or_else(|| format!("{} has no master", bin.display()))?;
    Ok(Ground { binds, master })
}

/// A folder of programs as it is here: a link to another one, or to be bound.
fn program_folder(tree: &Path, top: &str) -> Result<Option<PathBuf>, String> {
    let here = Path::new("/").join(top);
    let Ok(meta) = fs::symlink_metadata(&here) else { return Ok(None) };
    let there = tree.join(top);
    let failed = |error: io::Error| format!("the rebuilt folder cannot be prepared for it: {error}");
    match (fs::symlink_metadata(&there), meta.is_symlink()) {
        (Err(error), true) if error.kind() == io::ErrorKind::NotFound => {
            let target = fs::read_link(&here).map_err(failed)?;
            symlink(target, &there).map_err(failed)?;
            Ok(None)
        }
        (Ok(found), true)
            if found.is_symlink() && fs::read_link(&there).ok() == fs::read_link(&here).ok() =>
        {
            Ok(None)
        }
        _ => {
            folder(tree, top)?;
            Ok(Some(here))
        }
    }
}

/// A real folder of this name right in the tree.
fn folder(tree: &Path, name: &str) -> Result<(), String> {
    let path = tree.join(name);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("/{name} of the snapshot is no folder")),
        Err(_) => {
            let made = fs::create_dir(&path);
            let made = made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
            made.map_err(|error| format!("/{name} cannot be made in the rebuilt folder: {error}"))
        }
    }
}

/// A file that was not there.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(named: &str) -> Config {
        Config {
            imapd: b"x: y\n".to_vec(),
            folder: "/var/lib/cyrus".into(),
            named: vec![named.into()],
            user: "cyrus".into(),
        }
    }

    fn me() -> Account {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Account { name: "cyrus".into(), uid, gid, group: "mail".into() }
    }

    fn bin() -> tempfile::TempDir {
        let bin = tempfile::tempdir().unwrap();
        fs::write(bin.path().join("master"), "").unwrap();
        bin
    }

    #[test]
    fn a_tree_gets_programs_and_our_own_files() {
        let (tree, bin) = (tempfile::tempdir().unwrap(), bin());
        fs::create_dir(tree.path().join("etc")).unwrap();
        fs::write(tree.path().join("etc/passwd"), "theirs").unwrap();
        let ground = prepare(tree.path(), bin.path(), &config("/mail-of-a-test"), &me()).unwrap();
        assert!(ground.binds.contains(&"/usr".into()) && ground.master == bin.path().join("master"));
        let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
        assert!(read("etc/passwd").starts_with("root:") && read(".mailkeep-drill/imapd.conf") == "x: y\n");
        let again = prepare(tree.path(), bin.path(), &config("/mail-of-a-test"), &me()).unwrap_err();
        assert!(again.contains(HOME), "{again}");
    }

    #[test]
    fn nothing_is_made_through_a_link_of_the_snapshot() {
        for name in ["usr", "dev", "etc", ".mailkeep-drill"] {
            let (tree, bin, outside) = (tempfile::tempdir().unwrap(), bin(), tempfile::tempdir().unwrap());
            symlink(outside.path(), tree.path().join(name)).unwrap();
            assert!(prepare(tree.path(), bin.path(), &config("/mail-of-a-test"), &me()).is_err(), "{name}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
        }
        let (tree, bin, outside) = (tempfile::tempdir().unwrap(), bin(), tempfile::tempdir().unwrap());
        fs::create_dir(tree.path().join("etc")).unwrap();
        symlink(outside.path().join("passwd"), tree.path().join("etc/passwd")).unwrap();
        prepare(tree.path(), bin.path(), &config("/mail-of-a-test"), &me()).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "the link itself is replaced");
    }

    #[test]
    fn mail_under_the_programs_is_told() {
        let (tree, bin) = (tempfile::tempdir().unwrap(), bin());
        let why = prepare(tree.path(), bin.path(), &config("/usr/spool/imap"), &me()).unwrap_err();
        assert!(why.contains("/usr/spool/imap"), "{why}");
    }
}
