//! Mailboxes out of a snapshot into files that other programs read. Nothing is ever overwritten: what is written is made
//! beside its place under a name of its own, and renamed when it is whole.

mod maildir;
mod mbox;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::MailViewError;

pub use maildir::maildir;
pub(crate) use mbox::civil;
pub use mbox::mbox;

/// What an export brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Messages written.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that could not be read.
    pub failed: u64,
}

/// Hears how far an export is before each message, and says whether to go on.
pub type Going<'a> = &'a mut dyn FnMut(&Exported) -> bool;

/// The name beside `path` under which it is made; refuses a place that is taken.
fn beside(path: &Path) -> Result<PathBuf, MailViewError> {
    if path.symlink_metadata().is_ok() {
        return Err(MailViewError::Exists { path: path.display().to_string() });
    }
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".mailkeep-{}", std::process::id()));
    Ok(path.with_file_name(name))
}

/// Gives what was made its name, unless that was taken meanwhile.
fn settle(made: &Path, path: &Path) -> Result<(), MailViewError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, made, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(MailViewError::Exists { path: path.display().to_string() }),
        // Some file systems cannot promise it: looked at once more, then renamed.
        Err(Errno::INVAL | Errno::NOSYS) if path.symlink_metadata().is_err() => {
            std::fs::rename(made, path).map_err(|source| failed(path, source))
        }
        Err(error) => Err(failed(path, error.into())),
    }
}

fn failed(path: &Path, source: std::io::Error) -> MailViewError {
    MailViewError::Write { path: path.display().to_string(), source }
}
