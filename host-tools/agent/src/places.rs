//! What is backed up of this server or put back, held to the places that the key of the connection may reach.
//!
//! A path is asked about twice. As it is called, before anything of it is looked at: whoever holds the key does not even
//! learn what is there. And where it really is, after every link on the way was followed: whoever owns a folder on the way
//! (mail's own user, say) leads nobody out of it by a link. What is opened afterwards is opened step by step along that
//! second path, without following a link. Plans and sites are made anew whenever they are needed, and ask again.

use std::fs;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use mailkeep_mail::limits::CONFIG_FILE_BYTES;
use mailkeep_mail::{Profile, Reach, Source};
use rustix::io::Errno;

use crate::dir::Directory;
use crate::error::AgentError;
use crate::real_path::follow;

/// A profile whose trees and files are within the reach of a key.
#[derive(Debug)]
pub struct Places {
    profile: Profile,
    /// `None` for a key of before there was such a list: everywhere.
    reach: Option<Reach>,
}

impl Deref for Places {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

impl Places {
    /// Those of a source. Its mail server's configuration is read, as far as the key reaches.
    ///
    /// # Errors
    /// It cannot be used, or [`AgentError::OutOfReach`].
    pub fn of(source: &Source, reach: Option<&Reach>) -> Result<Places, AgentError> {
        let Some(reach) = reach else {
            let profile = Profile::new(source, &mut |path| fs::read(path))?;
            return Ok(Places { profile, reach: None });
        };
        let mut refused = None;
        let profile = Profile::new(source, &mut |path| {
            read_within(path, reach).map_err(|why| match why {
                Unread::Failed(error) => error,
                Unread::OutOfReach => {
                    refused = Some(out_of_reach(path, "the mail server's configuration"));
                    io::ErrorKind::PermissionDenied.into()
                }
            })
        });
        if let Some(refused) = refused {
            return Err(refused);
        }
        let places = Places { profile: profile?, reach: Some(reach.clone()) };
        // All of them, before the first is looked at.
        for (path, named_by) in places.named() {
            places.see(path, named_by)?;
        }
        Ok(places)
    }

    /// Refuses a path that the key does not reach.
    ///
    /// # Errors
    /// [`AgentError::OutOfReach`].
    pub fn see(&self, path: &Path, named_by: &str) -> Result<(), AgentError> {
        match &self.reach {
            Some(reach) if !reach.covers(path) => Err(out_of_reach(path, named_by)),
            _ => Ok(()),
        }
    }

    /// All trees and files as they are called, and who names them.
    fn named(&self) -> impl Iterator<Item = (&Path, &str)> {
        let roots = self.profile.roots().iter().map(|root| (root.path.as_path(), root.named_by.as_str()));
        roots.chain(self.profile.files().iter().map(|file| (file.path.as_path(), file.named_by.as_str())))
    }
}

/// What a key has to reach for this source, as this server is now: everything as it is called, and where it is.
///
/// # Errors
/// The source cannot be used, or [`AgentError::NoReach`].
pub fn reach_of(source: &Source) -> Result<Reach, AgentError> {
    let places = Places::of(source, None)?;
    let both = places.named().flat_map(|(path, _)| [path.to_owned(), where_it_is(path)]);
    Ok(Reach::new(both)?)
}

/// The real path; of what is not there yet, in the folder where it would be made.
fn where_it_is(path: &Path) -> PathBuf {
    match (follow(path, &mut |_| {}), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => where_it_is(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}

enum Unread {
    OutOfReach,
    Failed(io::Error),
}

impl From<Errno> for Unread {
    fn from(error: Errno) -> Self {
        Unread::Failed(error.into())
    }
}

fn read_within(path: &Path, reach: &Reach) -> Result<Vec<u8>, Unread> {
    if !reach.covers(path) {
        return Err(Unread::OutOfReach);
    }
    let real = follow(path, &mut |_| {})?;
    if !reach.covers(&real) {
        return Err(Unread::OutOfReach);
    }
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(Errno::ISDIR.into());
    };
    let file = Directory::open_exactly(folder)?.open_file(name.as_encoded_bytes())?;
    let mut bytes = Vec::new();
    // What is longer is refused by whoever wanted it.
    let most = u64::try_from(CONFIG_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(Unread::Failed)?;
    Ok(bytes)
}

fn out_of_reach(path: &Path, named_by: &str) -> AgentError {
    AgentError::OutOfReach { path: path.to_owned(), named_by: named_by.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::plan::Plan;

    fn source(paths: &[&Path]) -> Source {
        let list: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
        let text = format!(
            "name=\"t\"\nsystem=\"generic\"\n[transport]\nkind=\"local\"\n[generic]\npaths=[{}]\n",
            list.join(",")
        );
        Source::parse(&text, "t").unwrap()
    }

    /// A home, a spool that a link leads to, and something that is nobody's business.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for folder in ["srv/spool", "secret", "var"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        symlink("../srv/spool", base.join("var/spool")).unwrap();
        (dir, base)
    }

    #[test]
    fn what_was_paired_is_reached_by_its_name_and_where_it_is() {
        let (_dir, base) = home();
        let source = source(&[&base.join("var/spool"), &base.join("srv/later")]);
        fs::create_dir(base.join("srv/later")).unwrap();
        let reach = reach_of(&source).unwrap();
        assert_eq!(reach.places(), [base.join("srv/later"), base.join("srv/spool"), base.join("var/spool")]);
        let places = Places::of(&source, Some(&reach)).unwrap();
        assert_eq!(Plan::new(&places).unwrap().roots, [base.join("srv/later"), base.join("srv/spool")]);
    }

    #[test]
    fn what_is_not_there_yet_is_reached_where_it_would_be() {
        let (_dir, base) = home();
        let path = base.join("var/spool/a/b");
        assert_eq!(where_it_is(&path), base.join("srv/spool/a/b"));
        symlink(base.join("nowhere"), base.join("var/dangling")).unwrap();
        assert_eq!(where_it_is(&base.join("var/dangling")), base.join("var/dangling"));
    }

    #[test]
    fn another_place_is_refused_before_it_is_looked_at() {
        let (_dir, base) = home();
        let reach = reach_of(&source(&[&base.join("var/spool")])).unwrap();
        // Also one that is not there: that it is not is nothing to be learned.
        for other in ["secret", "nothing", "srv", ""] {
            let other = base.join(other);
            let error = Places::of(&source(&[&base.join("var/spool"), &other]), Some(&reach)).unwrap_err();
            assert!(
                matches!(&error, AgentError::OutOfReach { path, .. } if path.components().eq(other.components())),
                "{error}"
            );
        }
        // Less is no more.
        fs::create_dir(base.join("srv/spool/inner")).unwrap();
        Plan::new(&Places::of(&source(&[&base.join("var/spool/inner")]), Some(&reach)).unwrap()).unwrap();
    }

    #[test]
    fn a_link_that_comes_later_leads_nowhere() {
        let (_dir, base) = home();
        let reach = reach_of(&source(&[&base.join("var/spool")])).unwrap();
        symlink(base.join("secret"), base.join("srv/spool/out")).unwrap();
        let inner = Places::of(&source(&[&base.join("var/spool/out")]), Some(&reach)).unwrap();
        let error = Plan::new(&inner).unwrap_err();
        assert!(
            matches!(&error, AgentError::OutOfReach { path, .. } if *path == base.join("secret")),
            "{error}"
        );
        let places = Places::of(&source(&[&base.join("var/spool")]), Some(&reach)).unwrap();
        Plan::new(&places).unwrap();
        fs::remove_file(base.join("var/spool")).unwrap();
        symlink("../secret", base.join("var/spool")).unwrap();
        assert!(matches!(Plan::new(&places), Err(AgentError::OutOfReach { .. })));
    }

    #[test]
    fn the_configuration_is_read_no_further_than_the_key_reaches() {
        let (_dir, base) = home();
        let conf = base.join("imapd.conf");
        let text = |more: &str| {
            format!(
                "configdirectory: {0}/srv\npartition-default: {0}/srv/spool\nsievedir: {0}/srv/sieve\n\
                 sasl_sasldb_path: {0}/srv/sasldb2\n{more}\n",
                base.display()
            )
        };
        fs::write(&conf, text("")).unwrap();
        let source = Source::parse(
            &format!(
                "name=\"t\"\nsystem=\"cyrus\"\n[transport]\nkind=\"local\"\n[cyrus]\nimapd-conf={conf:?}\nalso=[]\n"
            ),
            "t",
        )
        .unwrap();
        let reach = reach_of(&source).unwrap();
        assert_eq!(reach.places(), [conf.clone(), base.join("srv")]);
        Places::of(&source, Some(&reach)).unwrap();
        fs::write(base.join("secret/more.conf"), "partition-more: /nowhere\n").unwrap();
        let secret = base.join("secret");
        for (more, refused) in [
            (format!("partition-more: {}", secret.display()), secret.clone()),
            (format!("tls_server_key: {}/key", secret.display()), secret.join("key")),
            (format!("@include: {}/more.conf", secret.display()), secret.join("more.conf")),
        ] {
            fs::write(&conf, text(&more)).unwrap();
            let error = Places::of(&source, Some(&reach)).unwrap_err();
            assert!(
                matches!(&error, AgentError::OutOfReach { path, .. } if *path == refused),
                "{more}: {error}"
            );
        }
        // A file that became a link since.
        fs::write(&conf, text(&format!("tls_server_key: {}/var/key", base.display()))).unwrap();
        let with_key = reach_of(&source).unwrap();
        symlink(secret.join("more.conf"), base.join("var/key")).unwrap();
        let error = Plan::new(&Places::of(&source, Some(&with_key)).unwrap()).unwrap_err();
        assert!(
            matches!(&error, AgentError::OutOfReach { path, .. } if path.starts_with(&secret)),
            "{error}"
        );
        fs::write(&conf, text("")).unwrap();
        // Where a link is in its place, what that leads to has to be within reach.
        fs::rename(&conf, secret.join("imapd.conf")).unwrap();
        symlink(secret.join("imapd.conf"), &conf).unwrap();
        assert!(matches!(Places::of(&source, Some(&reach)), Err(AgentError::OutOfReach { .. })));
        fs::write(secret.join("imapd.conf"), text("")).unwrap();
        Places::of(&source, Some(&reach_of(&source).unwrap())).unwrap();
    }
}
