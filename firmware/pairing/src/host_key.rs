//! The server's host key: what it shows, what is known of it, and the file that pins it.
//!
//! A key is trusted only because somebody vouched for it: the fingerprint that was given, the person's own known_hosts,
//! the file of an earlier pairing, or the person who looked at it now. Later runs believe this file alone.

use std::fs;
use std::path::Path;

use crate::limits::SCAN_SECONDS;
use crate::{Destination, PairError, tool};

/// A public host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The kind of key, like `ssh-ed25519`.
    pub kind: String,
    /// The key, in base64.
    pub blob: String,
}

impl HostKey {
    /// A line of known_hosts(5).
    pub fn line(&self, known_as: &str) -> String {
        format!("{known_as} {} {}\n", self.kind, self.blob)
    }

    /// Its fingerprint as `ssh-keygen -l` shows it: `SHA256:…`.
    ///
    /// # Errors
    /// ssh-keygen is not there or does not know the key.
    pub fn fingerprint(&self) -> Result<String, PairError> {
        let line = self.line("host");
        let told = tool::run("ssh-keygen", &["-l".into(), "-f".into(), "-".into()], line.as_bytes())?;
        let text = told.text();
        let found = text.split_ascii_whitespace().find(|word| word.starts_with("SHA256:"));
        let fails = || PairError::Program { program: "ssh-keygen -l".to_owned(), why: told.last_line() };
        found.map(str::to_owned).ok_or_else(fails)
    }
}

/// The keys that a server shows, asked for without any login.
///
/// # Errors
/// [`PairError::Unreachable`] if there are none.
pub fn shown(server: &Destination) -> Result<Vec<HostKey>, PairError> {
    let words = ["-T", &SCAN_SECONDS.to_string(), "-p", &server.port.to_string(), "--", &server.host]
        .map(str::to_owned);
    let told = tool::run("ssh-keyscan", &words, b"")?;
    let keys = keys_in(&told.text());
    if keys.is_empty() {
        let why = if told.errors.trim().is_empty() {
            format!("no SSH server answers on port {}", server.port)
        } else {
            told.last_line()
        };
        return Err(PairError::Unreachable { host: server.host.clone(), why });
    }
    Ok(keys)
}

/// The keys that the person's own known_hosts, or the system's, has for a server.
///
/// # Errors
/// ssh-keygen is not there.
pub fn known_to_person(server: &Destination) -> Result<Vec<HostKey>, PairError> {
    let mut keys = Vec::new();
    for file in [None, Some("/etc/ssh/ssh_known_hosts")] {
        let mut words = vec!["-F".to_owned(), server.known_as()];
        if let Some(file) = file {
            words.extend(["-f".to_owned(), file.to_owned()]);
        }
        // Not found, or no such file, is an empty answer.
        keys.extend(keys_in(&tool::run("ssh-keygen", &words, b"")?.text()));
    }
    Ok(keys)
}

/// The keys in a file that an earlier pairing wrote; none if it is not there.
///
/// # Errors
/// It is there and cannot be read.
pub fn pinned(file: &Path) -> Result<Vec<HostKey>, PairError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(keys_in(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(PairError::file("read", file, error)),
    }
}

/// Those of `shown` that are among `known`.
pub fn both(shown: &[HostKey], known: &[HostKey]) -> Vec<HostKey> {
    shown.iter().filter(|key| known.contains(key)).cloned().collect()
}

/// The keys in lines of known_hosts(5); comments, revoked keys and certificate authorities are left out.
fn keys_in(text: &str) -> Vec<HostKey> {
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', '@'])) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else { continue };
        let key = HostKey { kind: kind.to_owned(), blob: blob.to_owned() };
        let plain =
            |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        // They are written into a file of ours: nothing but the letters of a key.
        if plain(kind, "-@.") && plain(blob, "+/=") && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_scans_hashed_files_and_searches() {
        let text = "# mail1:22 SSH-2.0-OpenSSH_9.2\nmail1 ssh-ed25519 AAAAC3 note\n|1|abc=|def= ssh-rsa AAAAB3+/=\n\
                    # Host mail1 found: line 3\n@revoked mail1 ssh-rsa AAAA\nmail1 ssh-ed25519 AAAAC3\nbroken\n\
                    mail1 ssh-rsa AA;id\n";
        let keys = keys_in(text);
        let blobs: Vec<&str> = keys.iter().map(|key| key.blob.as_str()).collect();
        assert_eq!(blobs, ["AAAAC3", "AAAAB3+/="]);
        assert_eq!(keys[0].line("[h]:1"), "[h]:1 ssh-ed25519 AAAAC3\n");
    }

    #[test]
    fn only_a_key_that_is_known_letter_by_letter_is_the_same() {
        let key = |kind: &str, blob: &str| HostKey { kind: kind.to_owned(), blob: blob.to_owned() };
        let shown = [key("ssh-ed25519", "A"), key("ssh-rsa", "B")];
        assert_eq!(both(&shown, &[key("ssh-rsa", "B"), key("ssh-ed25519", "C")]), [key("ssh-rsa", "B")]);
        assert!(both(&shown, &[key("ssh-rsa", "A")]).is_empty());
    }
}
