//! Reads imapd.conf as Cyrus does (lib/libconfig.c, `config_read_file`): one `key: value` per line, keys
//! without regard to case, white space around both taken off, `#` at the start of a line makes it a comment,
//! a backslash at the end of a line joins the next one, `@include: FILE` reads another file in that place.
//! A value that begins with `{configdirectory}` means that folder.
//!
//! Two points differ on purpose. Values are bytes, since they are paths. A key that stands twice with one and
//! the same value is accepted; with two values it is an error, as it is to Cyrus.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::MailError;
use crate::limits::{CONFIG_FILE_BYTES, CONFIG_FILES, CONFIG_INCLUDE_DEPTH};

/// A parsed imapd.conf with everything that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImapdConf {
    values: BTreeMap<String, OsString>,
    files: Vec<PathBuf>,
}

impl ImapdConf {
    /// Reads the file at `path` and its includes through `read_file`.
    pub fn read(
        path: &Path,
        read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<ImapdConf, MailError> {
        let mut reader = Reader { conf: ImapdConf { values: BTreeMap::new(), files: Vec::new() }, read_file };
        reader.file(path, 0)?;
        Ok(reader.conf)
    }

    /// The value of a key (lower case), if it is set.
    pub fn get(&self, key: &str) -> Option<&OsStr> {
        self.values.get(key).map(OsString::as_os_str)
    }

    /// The value of a key as text; `None` also if it is not UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.to_str()
    }

    /// The value of a switch; `default` if it is not set or not readable as one.
    pub fn switch(&self, key: &str, default: bool) -> bool {
        // Cyrus looks at the first letters only: 1, y, t, on against 0, n, f, off.
        match self.get(key).map(OsStr::as_bytes) {
            Some([b'1' | b'y' | b't', ..] | [b'o', b'n', ..]) => true,
            Some([b'0' | b'n' | b'f', ..] | [b'o', b'f', ..]) => false,
            _ => default,
        }
    }

    /// The value of a key as an absolute path, `{configdirectory}` resolved.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.resolve(self.get(key)?)
    }

    /// A value as an absolute path, `{configdirectory}` resolved, `.` and doubled `/` taken out. `None` if it
    /// is no absolute path, or climbs by `..`.
    pub fn resolve(&self, value: &OsStr) -> Option<PathBuf> {
        const MARK: &[u8] = b"{configdirectory}";
        let bytes = value.as_bytes();
        let path = match bytes.get(..MARK.len()) {
            Some(start) if start.eq_ignore_ascii_case(MARK) => {
                let mut joined = self.get("configdirectory")?.as_bytes().to_vec();
                joined.extend_from_slice(&bytes[MARK.len()..]);
                PathBuf::from(OsString::from_vec(joined))
            }
            _ => PathBuf::from(value),
        };
        let climbs = path.components().any(|c| matches!(c, std::path::Component::ParentDir));
        (path.is_absolute() && !climbs).then(|| path.components().collect())
    }

    /// All keys with their values, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_os_str()))
    }

    /// The files that were read: the main one first, each include in the order of reading.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

struct Reader<'a> {
    conf: ImapdConf,
    read_file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), MailError> {
        let unusable =
            |problem: &str| MailError::ConfigUnusable { path: path.to_owned(), problem: problem.to_owned() };
        if self.conf.files.iter().any(|known| known == path) {
            return Err(unusable("is included twice; Cyrus would not start with that"));
        }
        if depth > CONFIG_INCLUDE_DEPTH || self.conf.files.len() >= CONFIG_FILES {
            return Err(unusable("is one include too many"));
        }
        let bytes = (self.read_file)(path)
            .map_err(|source| MailError::ConfigRead { path: path.to_owned(), source })?;
        if bytes.len() > CONFIG_FILE_BYTES {
            return Err(unusable("is too large for a configuration file"));
        }
        self.conf.files.push(path.to_owned());

        let mut joined: Vec<u8> = Vec::new();
        let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            // Only a line that really ends can go on in the next one.
            if lines.peek().is_some() && line.ends_with(b"\\") {
                joined.extend_from_slice(&line[..line.len() - 1]);
                continue;
            }
            joined.extend_from_slice(line);
            self.line(path, index + 1, &joined, depth)?;
            joined.clear();
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, line: usize, text: &[u8], depth: usize) -> Result<(), MailError> {
        let wrong = |problem: String| MailError::ConfigSyntax { path: path.to_owned(), line, problem };
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            return Ok(());
        }
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let from = usize::from(text[0] == b'@');
        let end = text[from..].iter().position(|byte| !is_key(*byte)).map_or(text.len(), |n| from + n);
        if text.get(end) != Some(&b':') {
            return Err(wrong("an option's name and a colon belong here".to_owned()));
        }
        let key = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
        let value = text[end + 1..].trim_ascii();
        if value.is_empty() {
            return Err(wrong(format!("option {key} has no value; Cyrus would not start with that")));
        }
        let value = OsString::from_vec(value.to_vec());
        if key == "@include" {
            let include = PathBuf::from(&value);
            // Cyrus would look in whatever folder it was started from, which is nothing to rely on.
            if !include.is_absolute() {
                return Err(wrong("@include needs an absolute path".to_owned()));
            }
            return self.file(&include, depth + 1);
        }
        if key.starts_with('@') {
            return Err(wrong(format!("directive {key} is not known")));
        }
        match self.conf.values.get(&key) {
            Some(known) if *known != value => {
                Err(wrong(format!("option {key} was set before, to another value")))
            }
            _ => {
                self.conf.values.insert(key, value);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &[u8])]) -> Result<ImapdConf, MailError> {
        ImapdConf::read(Path::new(files[0].0), &mut |path| {
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, bytes)| bytes.to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    #[test]
    fn keys_values_comments_and_joined_lines() {
        let conf = read(&[(
            "/etc/imapd.conf",
            b"# a comment that goes on \\\nhidden: yes\n\n  ConfigDirectory :x\n".as_slice(),
        )]);
        assert!(
            conf.unwrap_err().to_string().starts_with("/etc/imapd.conf, line 4: "),
            "no blank before the colon"
        );

        let conf = read(&[(
            "/etc/imapd.conf",
            b"# gone \\\nhidden: yes\n  ConfigDirectory:\t/var/lib/cyrus  \r\npartition-Default:/var/\\\nspool\nadmins: a b # c\nlast: 1\\"
                .as_slice(),
        )])
        .unwrap();
        assert_eq!(conf.get("hidden"), None);
        assert_eq!(conf.path("configdirectory"), Some("/var/lib/cyrus".into()));
        assert_eq!(conf.text("partition-default"), Some("/var/spool"));
        assert_eq!(conf.text("admins"), Some("a b # c"), "a comment stands on a line of its own");
        assert_eq!(conf.text("last"), Some("1\\"), "nothing follows the last line");
    }

    #[test]
    fn includes_are_read_in_their_place_and_listed() {
        let conf = read(&[
            ("/etc/imapd.conf", b"a: 1\n@Include: /etc/cyrus/b.conf\nd: 4\n".as_slice()),
            ("/etc/cyrus/b.conf", b"b: 2\n@include: /etc/cyrus/c.conf".as_slice()),
            ("/etc/cyrus/c.conf", b"c: 3".as_slice()),
        ])
        .unwrap();
        assert_eq!(conf.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let files: Vec<_> = conf.files().iter().map(|f| f.to_str().unwrap()).collect();
        assert_eq!(files, ["/etc/imapd.conf", "/etc/cyrus/b.conf", "/etc/cyrus/c.conf"]);
    }

    #[test]
    fn what_cyrus_refuses_is_refused() {
        let refused: [&[u8]; 7] = [
            b"@include: /a\n",
            b"@include: relative.conf\n",
            b"@include: /missing\n",
            b"@exclude: /b\n",
            b"key\n",
            b"key:   \n",
            b"key: 1\nkey: 2\n",
        ];
        for text in refused {
            assert!(read(&[("/a", text)]).is_err(), "{}", String::from_utf8_lossy(text));
        }
        assert!(read(&[("/a", b"key: 1\nkey: 1\n".as_slice())]).is_ok());
        assert!(read(&[("/a", b"".as_slice())]).is_ok());
    }

    #[test]
    fn endless_includes_and_huge_files_end() {
        let mut asked = 0;
        let error = ImapdConf::read(Path::new("/0"), &mut |_| {
            asked += 1;
            Ok(format!("@include: /{asked}\n").into_bytes())
        });
        assert!(error.unwrap_err().to_string().contains("one include too many"));
        assert!(asked <= CONFIG_INCLUDE_DEPTH + 1);
        let huge = vec![b'#'; CONFIG_FILE_BYTES + 1];
        assert!(read(&[("/a", huge.as_slice())]).is_err());
    }

    #[test]
    fn paths_may_lean_on_the_configdirectory_and_need_not_be_utf8() {
        let conf = read(&[(
            "/a",
            b"configdirectory: /c\nidlesocket: {configdirectory}/socket//idle\nodd: /x/\xff\nrel: x\nup: /a/../b\n"
                .as_slice(),
        )])
        .unwrap();
        assert_eq!(conf.path("idlesocket"), Some("/c/socket/idle".into()));
        assert_eq!(conf.path("odd").unwrap().as_os_str().as_bytes(), b"/x/\xff");
        assert_eq!(conf.path("rel"), None);
        assert_eq!(conf.path("up"), None);
    }

    #[test]
    fn switches() {
        let conf = read(&[("/a", b"a: yes\nb: on\nc: 0\nd: off\ne: perhaps\n".as_slice())]).unwrap();
        let values = ["a", "b", "c", "d", "e", "f"].map(|key| conf.switch(key, true));
        assert_eq!(values, [true, true, false, false, true, true]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = read(&[("/a", &bytes)]);
        }

        #[test]
        fn no_lines_make_it_panic(text in "([@a-z:#\\\\ \\t/{}]{0,12}\n){0,12}") {
            let files = [("/a", text.as_bytes()), ("/b", text.as_bytes())];
            if let Ok(conf) = read(&files) {
                for (_, value) in conf.iter() {
                    proptest::prop_assert!(!value.is_empty());
                }
            }
        }
    }
}
