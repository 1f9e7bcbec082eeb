//! The token that whoever wants something done over the network has to know: 32 random bytes in hexadecimal, in a file
//! that only root can read, made at the first start.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::state_file::TOKEN_FILE;

const BYTES: usize = 32;
/// A file that is longer is something else.
const MOST: u64 = 4096;
/// A token that is shorter can be guessed.
const SHORTEST: usize = 16;

/// The token of this box.
///
/// # Errors
/// The file can't be read or made, or holds no token.
pub fn load_or_make(state_dir: &Path) -> io::Result<String> {
    let path = state_dir.join(TOKEN_FILE);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let mut bytes = [0; BYTES];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(file, "{token}")?;
            file.sync_all()?;
            Ok(token)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut text = String::new();
            std::fs::File::open(&path)?.take(MOST).read_to_string(&mut text)?;
            let token = text.trim();
            // Cut off by a power cut, or by hand: an empty token would open the door to everybody.
            if token.len() < SHORTEST {
                let what = format!("{} holds no token: remove it, and a new one is made", path.display());
                return Err(io::Error::other(what));
            }
            Ok(token.to_owned())
        }
        Err(error) => Err(error),
    }
}

/// Whether two texts are the same, in a time that says nothing of where they differ.
pub fn same(given: &str, token: &str) -> bool {
    let differences = given.bytes().zip(token.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    differences == 0 && given.len() == token.len()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_an_empty_one_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let token = load_or_make(folder.path()).unwrap();
        assert_eq!((token.len(), load_or_make(folder.path()).unwrap()), (64, token.clone()));
        let path = folder.path().join(TOKEN_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "\n").unwrap();
        assert!(load_or_make(folder.path()).is_err());
        assert!(same(&token, &token) && !same("", &token) && !same(&token[..63], &token));
        assert!(!same(&token.replace(&token[..1], "x"), &token));
    }
}
