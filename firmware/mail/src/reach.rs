//! The places of a server that a box's key may have read, or put back: those of the source that was paired.
//!
//! `mailkeep-agent reach` finds them where they are ([`Reach::new`]), `mailkeep pair` writes them into the key's forced
//! command, one word each, and the agent holds every tree and file that a source file comes to against them
//! ([`Reach::covers`]). A place is a path and all below it, letter by letter: links are the agent's to follow, so a tree
//! that one leads to stands in the list twice, as it is called and where it is. Pure.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::REACH_PLACES;

/// Places of a server; see the head of this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    places: Vec<PathBuf>,
}

/// Why a list of places is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoReach {
    /// It means another place than it says, or cannot stand in a line of text.
    #[error("{path:?} is no absolute path without `..`, in UTF-8 and without control characters")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// There is nothing in it, or too much for a line of authorized_keys.
    #[error("a source has 1 to {REACH_PLACES} places, and this one has {count}")]
    Count {
        /// How many there are.
        count: usize,
    },
}

impl Reach {
    /// These places, without those that lie in another one.
    ///
    /// # Errors
    /// [`NoReach`].
    pub fn new(places: impl IntoIterator<Item = PathBuf>) -> Result<Reach, NoReach> {
        let mut places: Vec<PathBuf> = places.into_iter().map(checked).collect::<Result<_, _>>()?;
        places.sort();
        let mut outer: Vec<PathBuf> = Vec::new();
        for place in places {
            // A folder comes before what is in it, though not always right before it.
            if !outer.iter().any(|known| place.starts_with(known)) {
                outer.push(place);
            }
        }
        match outer.len() {
            1..=REACH_PLACES => Ok(Reach { places: outer }),
            count => Err(NoReach::Count { count }),
        }
    }

    /// Parses an agent's answer; `None` if it is not one, or has a place in it that is none.
    pub fn parse(answer: &[u8]) -> Option<Reach> {
        let told: Reach = serde_json::from_slice(answer).ok()?;
        Reach::new(told.places).ok()
    }

    /// The answer.
    ///
    /// # Errors
    /// As serde_json.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Whether this path is one of the places or lies in one.
    pub fn covers(&self, path: &Path) -> bool {
        is_plain(path) && self.places.iter().any(|place| path.starts_with(place))
    }

    /// The places, in order.
    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }
}

fn checked(path: PathBuf) -> Result<PathBuf, NoReach> {
    let text = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    if text && is_plain(&path) { Ok(path.components().collect()) } else { Err(NoReach::Path { path }) }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach(places: &[&str]) -> Result<Reach, NoReach> {
        Reach::new(places.iter().map(PathBuf::from))
    }

    #[test]
    fn a_place_is_a_path_and_all_below_it_and_nothing_beside_it() {
        let reach =
            reach(&["/var/spool/cyrus", "/etc/imapd.conf", "/var/spool/cyrus/mail", "/var/spool/cyrus-x"]);
        let reach = reach.unwrap();
        let places: Vec<_> = reach.places().iter().map(|place| place.to_str().unwrap()).collect();
        assert_eq!(places, ["/etc/imapd.conf", "/var/spool/cyrus", "/var/spool/cyrus-x"]);
        for inside in ["/var/spool/cyrus", "/var/spool/cyrus/", "/var//spool/./cyrus/a/b", "/etc/imapd.conf"]
        {
            assert!(reach.covers(Path::new(inside)), "{inside}");
        }
        for outside in [
            "/",
            "/var/spool",
            "/var/spool/cyru",
            "/var/spool/cyrus2",
            "/var/spool/cyrus/../../../etc/shadow",
            "var/spool/cyrus",
            "",
            "/etc/imapd.conf.bak",
        ] {
            assert!(!reach.covers(Path::new(outside)), "{outside}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_line_is_no_place() {
        for wrong in ["", "relative", "/a/../b", "/a\nssh-rsa AAAA", "/a\tb", "/a\u{7f}"] {
            assert_eq!(reach(&["/ok", wrong]), Err(NoReach::Path { path: wrong.into() }), "{wrong:?}");
        }
        let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/a\xff");
        assert!(Reach::new([PathBuf::from(bytes)]).is_err());
        assert_eq!(reach(&[]), Err(NoReach::Count { count: 0 }));
        let many = (0..=REACH_PLACES).map(|number| PathBuf::from(format!("/p{number}")));
        assert_eq!(Reach::new(many), Err(NoReach::Count { count: REACH_PLACES + 1 }));
        assert_eq!(reach(&["/"]).unwrap().places(), [Path::new("/")]);
    }

    #[test]
    fn it_is_checked_again_where_it_came_from_elsewhere() {
        let told = Reach::parse(br#"{"places":["/srv/mail","/srv/mail/x"]}"#).unwrap();
        assert_eq!(told.places(), [Path::new("/srv/mail")]);
        assert_eq!(Reach::parse(told.to_json().unwrap().as_bytes()), Some(told));
        for wrong in
            [r#"{"places":["/srv/../etc"]}"#, r#"{"places":[]}"#, r#"{"places":["/"],"more":1}"#, "[]", ""]
        {
            assert_eq!(Reach::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        /// The same as what a person would say: the parts of the place begin those of the path.
        #[test]
        fn parts_are_compared_and_not_letters(places in prop::collection::vec("(/[ab.]{1,3}){1,3}", 1..4), path in "(/[ab.]{1,3}){0,4}") {
            let Ok(reach) = Reach::new(places.iter().map(PathBuf::from)) else { return Ok(()) };
            let parts = |text: &str| text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect::<Vec<_>>();
            let wanted = parts(&path);
            let within = places.iter().any(|place| wanted.starts_with(&parts(place)));
            let plain = !path.is_empty() && !wanted.iter().any(|part| part == "..");
            prop_assert_eq!(reach.covers(Path::new(&path)), within && plain);
        }
    }
}
