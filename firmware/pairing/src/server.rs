//! What is done on the server: four things are looked at, two files are written, and both are taken away again.
//!
//! Files are made beside their place and moved there, so that nobody ever meets half of one. An authorized_keys file is
//! only replaced if it is still the one that was read.

use std::path::Path;

use mailkeep_mail::detected::Detected;
use mailkeep_mail::{Reach, Source};

use crate::login::Login;
use crate::{PairError, tool};

/// Name of the agent's program.
const AGENT: &str = "mailkeep-agent";

/// Finds the sshd that serves this login by going up its own ancestors, and asks it where it looks for keys. `$1` is
/// the user. Only a process whose name is sshd's is asked: the text of this script has the same words.
const FIND_KEYS: &str = r#"
conf=/etc/ssh/sshd_config
p=$$
while [ "${p:-1}" -gt 1 ]; do
  read -r name < /proc/$p/comm || break
  case $name in sshd*)
    line=$(tr '\0' ' ' < /proc/$p/cmdline)
    case $line in *' -f '*) conf=${line#* -f }; conf=${conf%% *};; esac
  esac
  p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status)
done
home=$(getent passwd "$1" | cut -d: -f6)
sshd=$(command -v sshd || echo /usr/sbin/sshd)
echo "home ${home:-$HOME}"
"$sshd" -T -f "$conf" -C "user=$1,host=localhost,addr=127.0.0.1" 2>/dev/null | sed -n 's/^authorizedkeysfile /keys /p'
"#;

/// Puts what is read beside its place, tries it, and moves it there. `$1` is the folder, `$2` the program's name.
const PUT_AGENT: &str = r#"
set -e
umask 022
mkdir -p "$1"
new=$1/.$2.$$
trap 'rm -f "$new"' EXIT
cat > "$new"
chmod 755 "$new"
sync
"$new" --version
mv -f "$new" "$1/$2"
"#;

/// The checksum of a file on the first line, then the file. `$1` is the file; one that is not there is empty.
const READ_KEYS: &str = r#"
f=$(readlink -f "$1") || f=$1
if [ -e "$f" ]; then cksum < "$f" && cat "$f"; else cksum < /dev/null; fi
"#;

/// Replaces a file that is still the one with checksum `$3`; `$1` is the file, `$2` its owner. Nothing left to write is no
/// file.
const WRITE_KEYS: &str = r#"
set -e
umask 077
f=$(readlink -f "$1") || f=$1
d=$(dirname "$f")
if [ -d "$d" ]; then :; else mkdir -p "$d"; chown "$2:" "$d"; fi
if [ -e "$f" ]; then now=$(cksum < "$f"); else now=$(cksum < /dev/null); fi
if [ "$now" = "$3" ]; then :; else echo "somebody else changed it at the same moment; run it again" >&2; exit 9; fi
new=$f.mailkeep.$$
trap 'rm -f "$new"' EXIT
if [ -e "$f" ]; then cp -p "$f" "$new"; else : > "$new"; chown "$2:" "$new"; fi
cat > "$new"
sync
if [ -s "$new" ]; then mv -f "$new" "$f"; else rm -f "$f"; fi
"#;

/// Takes the agent away, and its folder if nothing else is in it. `$1` is the folder, `$2` the program's name.
const DROP_AGENT: &str = r#"
rm -f "$1/$2" && { rmdir "$1" 2>/dev/null || :; }
"#;

/// An authorized_keys file as it was read.
#[derive(Debug)]
pub struct KeysFile {
    /// Its path on the server.
    pub path: String,
    /// What is in it; empty if it is not there.
    pub text: Vec<u8>,
    sum: String,
}

/// The server, through an admin's login.
#[derive(Debug)]
pub struct Server<'a> {
    login: &'a Login,
    user: String,
    folder: String,
}

impl<'a> Server<'a> {
    /// The server behind a login of `user`, with the agent in `folder`.
    pub fn new(login: &'a Login, user: &str, folder: &Path) -> Self {
        Server { login, user: user.to_owned(), folder: folder.to_string_lossy().into_owned() }
    }

    /// The agent's path there.
    pub fn agent(&self) -> String {
        format!("{}/{AGENT}", self.folder)
    }

    /// What sort of processor it has, as `uname -m` says it.
    ///
    /// # Errors
    /// The login broke.
    pub fn machine(&self) -> Result<String, PairError> {
        let told = self.login.must("ask for its machine", "uname -m", &[], b"")?;
        Ok(String::from_utf8_lossy(&told).trim().chars().filter(|c| c.is_ascii_graphic()).take(40).collect())
    }

    /// Where its sshd looks for the keys of the login's user.
    ///
    /// # Errors
    /// The login broke.
    pub fn keys_path(&self) -> Result<String, PairError> {
        let told = self.login.must("ask sshd for its files", FIND_KEYS, &[&self.user], b"")?;
        Ok(keys_path(&String::from_utf8_lossy(&told), &self.user))
    }

    /// Puts the agent there and sees it run. Its first words are the answer.
    ///
    /// # Errors
    /// [`PairError::AgentUnfit`] if it does not run there.
    pub fn put_agent(&self, file: &Path, bytes: &[u8]) -> Result<String, PairError> {
        let told = self.login.run(PUT_AGENT, &[&self.folder, AGENT], bytes)?;
        let text = told.text();
        if told.ok && text.starts_with(AGENT) {
            return Ok(tool::last_line(&text));
        }
        Err(PairError::AgentUnfit { host: self.host(), agent: file.to_owned(), why: told.last_line() })
    }

    /// What the agent finds out about the server; `imapd_conf` where the person has named it.
    ///
    /// # Errors
    /// The agent fails or its answer makes no sense.
    pub fn detect(&self, imapd_conf: Option<&str>) -> Result<Detected, PairError> {
        let agent = self.agent();
        let mut arguments = vec![agent.as_str()];
        if let Some(path) = imapd_conf {
            arguments.extend(["--imapd-conf", path]);
        }
        let told = self.login.must(
            "look at the mail system",
            r#"agent=$1; shift; exec "$agent" detect "$@""#,
            &arguments,
            b"",
        )?;
        Detected::parse(&told)
            .ok_or_else(|| PairError::Garbled { host: self.host(), wanted: "a description of the server" })
    }

    /// The places of the server that a source comes to.
    ///
    /// # Errors
    /// The agent fails, or they cannot stand in a line of keys.
    pub fn reach(&self, source: &Source) -> Result<Reach, PairError> {
        let told = self.login.must(
            "ask which files the source file comes to",
            r#"exec "$1" reach"#,
            &[&self.agent()],
            source.text_for_agent().as_bytes(),
        )?;
        Reach::parse(&told)
            .ok_or_else(|| PairError::Garbled { host: self.host(), wanted: "a list of places" })
    }

    /// Reads an authorized_keys file.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read_keys(&self, path: &str) -> Result<KeysFile, PairError> {
        let told = self.login.must("read its authorized_keys", READ_KEYS, &[path], b"")?;
        let end = told.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| PairError::Garbled { host: self.host(), wanted: "authorized_keys" })?;
        let sum = String::from_utf8_lossy(&told[..end]).into_owned();
        Ok(KeysFile { path: path.to_owned(), text: told[end + 1..].to_vec(), sum })
    }

    /// Replaces an authorized_keys file that is still as it was read.
    ///
    /// # Errors
    /// It has changed, or cannot be written; then it is as it was.
    pub fn write_keys(&self, file: &KeysFile, text: &[u8]) -> Result<(), PairError> {
        let arguments = [file.path.as_str(), &self.user, &file.sum];
        self.login.must("write its authorized_keys", WRITE_KEYS, &arguments, text).map(drop)
    }

    /// Lets the agent start mail if an unfinished backup left it stopped; with `for_good` it also takes away what it has
    /// installed for the server's next boot.
    ///
    /// # Errors
    /// [`PairError::MailMayBeStopped`].
    pub fn rescue(&self, for_good: bool) -> Result<(), PairError> {
        let agent = self.agent();
        let verb = if for_good { "retire" } else { "rescue" };
        let told = self.login.run(r#"if [ -x "$1" ]; then exec "$1" "$2"; fi"#, &[&agent, verb], b"")?;
        if told.ok {
            Ok(())
        } else {
            Err(PairError::MailMayBeStopped { host: self.host(), why: told.last_line() })
        }
    }

    /// Takes the agent away.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn drop_agent(&self) -> Result<(), PairError> {
        self.login.must("remove the agent", DROP_AGENT, &[&self.folder, AGENT], b"").map(drop)
    }

    fn host(&self) -> String {
        self.login.host().to_owned()
    }
}

/// The first of sshd's files, with its tokens (sshd_config(5), TOKENS) resolved.
fn keys_path(told: &str, user: &str) -> String {
    let line = |key: &str| told.lines().find_map(|line| line.strip_prefix(key));
    let home = line("home ").unwrap_or("/root");
    let first = line("keys ").and_then(|files| files.split_ascii_whitespace().next());
    let file = match first {
        Some(file) if file != "none" => file,
        _ => ".ssh/authorized_keys",
    };
    let file = file.replace("%h", home).replace("%u", user).replace("%%", "%");
    if file.starts_with('/') { file } else { format!("{home}/{file}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_keys_is_where_sshd_says() {
        assert_eq!(
            keys_path("home /root\nkeys .ssh/authorized_keys .ssh/authorized_keys2\n", "root"),
            "/root/.ssh/authorized_keys"
        );
        assert_eq!(keys_path("home /home/a\nkeys /etc/ssh/keys/%u\n", "a"), "/etc/ssh/keys/a");
        assert_eq!(keys_path("home /home/a\nkeys %h/k%%\n", "a"), "/home/a/k%");
        assert_eq!(keys_path("home /home/a\n", "a"), "/home/a/.ssh/authorized_keys");
        assert_eq!(keys_path("home /r\nkeys none\n", "a"), "/r/.ssh/authorized_keys");
    }
}
