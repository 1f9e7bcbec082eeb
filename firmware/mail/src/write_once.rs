//! Which names of files stand for contents that never change, as far as the box can tell without the server's
//! configuration. The agent, who has it, has the last word about each folder ([`crate::Profile::may_hold_messages`]).

use std::path::Path;

use crate::cyrus::rules::message_uid;
use crate::error::MailError;
use crate::generic::GenericProfile;
use crate::scope::FileClass;
use crate::source::{Source, System};

/// A rule about names.
#[derive(Debug, Clone)]
pub struct WriteOnce(Rule);

#[derive(Debug, Clone)]
enum Rule {
    /// `N.`, as Cyrus names messages.
    Cyrus,
    /// The patterns of a generic source.
    Generic(Box<GenericProfile>),
}

impl WriteOnce {
    /// The rule of a source; `None` if it has none.
    ///
    /// # Errors
    /// [`MailError`] for patterns that are none.
    pub fn of(source: &Source) -> Result<Option<WriteOnce>, MailError> {
        Ok(match &source.system {
            System::Cyrus(_) => Some(WriteOnce(Rule::Cyrus)),
            System::Generic(options) => {
                let profile = GenericProfile::new(options, source.quiesce.stop.is_some())?;
                profile.has_write_once().then(|| WriteOnce(Rule::Generic(Box::new(profile))))
            }
        })
    }

    /// Whether the contents of the regular file at this absolute path never change under it.
    pub fn holds(&self, path: &Path) -> bool {
        match &self.0 {
            Rule::Cyrus => path
                .file_name()
                .is_some_and(|name| message_uid(std::os::unix::ffi::OsStrExt::as_bytes(name)).is_some()),
            Rule::Generic(profile) => profile.classify(path, false) == FileClass::Message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Option<WriteOnce> {
        let head = "name = \"t\"\n[transport]\nkind = \"local\"\n";
        let (system, rest) = text.split_once('\n').unwrap();
        let source = Source::parse(&format!("system = \"{system}\"\n{head}{rest}"), "test").unwrap();
        WriteOnce::of(&source).unwrap()
    }

    #[test]
    fn cyrus_messages_are_numbers_with_a_dot() {
        let rule = rule("cyrus\n").unwrap();
        assert!(rule.holds(Path::new("/spool/user/a/12.")));
        for name in ["cyrus.index", "012.", "12", "12.NEW", "."] {
            assert!(!rule.holds(&Path::new("/spool/user/a").join(name)), "{name}");
        }
    }

    #[test]
    fn generic_files_are_by_their_patterns_below_their_roots() {
        let rule = rule("generic\n[generic]\npaths = [\"/srv\"]\nwrite-once = [\"*.eml\"]\n").unwrap();
        assert!(rule.holds(Path::new("/srv/a/b.eml")));
        assert!(!rule.holds(Path::new("/srv/a/b.txt")) && !rule.holds(Path::new("/other/b.eml")));
        assert!(self::rule("generic\n[generic]\npaths = [\"/srv\"]\n").is_none());
    }
}
