//! The sets: how large a spool is and what kind of mail is in it.

use anyhow::{Result, bail};

/// What kind of mail a spool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    /// As in a company: mostly small, 12 % with attachments that make up most of the bytes.
    Mixed,
    /// Every message file has 2 to 8 KiB, no attachments.
    Small,
    /// One message with a large attachment, sent to everybody: the same body under headers of their own.
    Blast,
}

/// How large a spool is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The set's name; `own` if a number was changed by hand.
    pub(crate) name: &'static str,
    /// Number of message files.
    pub(crate) messages: usize,
    /// Number of users; each has three folders.
    pub(crate) users: usize,
    /// What kind of mail.
    pub(crate) mail: Mail,
}

/// The sets that peers were measured on, smallest first; `xs` is a third of S, for a quick look.
const SETS: [Shape; 5] = [
    Shape { name: "XS", messages: 6_600, users: 50, mail: Mail::Mixed },
    Shape { name: "S", messages: 20_000, users: 50, mail: Mail::Mixed },
    Shape { name: "M", messages: 100_000, users: 250, mail: Mail::Mixed },
    Shape { name: "L", messages: 500_000, users: 1_000, mail: Mail::Small },
    Shape { name: "blast", messages: 1_000, users: 1_000, mail: Mail::Blast },
];

impl Shape {
    /// The set of this name, whatever its case.
    pub(crate) fn of_set(name: &str) -> Result<Shape> {
        match SETS.into_iter().find(|set| set.name.eq_ignore_ascii_case(name)) {
            Some(set) => Ok(set),
            None => bail!("no set `{name}`: there are {}", SETS.map(|set| set.name).join(", ")),
        }
    }
}
