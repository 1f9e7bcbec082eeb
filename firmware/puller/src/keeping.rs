//! Whether the final pass can be kept on the server until mail runs again, and so need not cross the link while mail is
//! stopped.

use std::time::Duration;

/// How an agent keeps what no snapshot of a file system holds.
const STAGED: &str = "by open files and copies";

/// What an agent says of keeping a final pass.
pub(crate) enum Keeping {
    /// It can; that takes about this long. How, in words; it may be empty.
    Able(Duration, String),
    /// It cannot, for this reason; it may be empty.
    Unable(String),
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping::Unable(String::new())
    }
}

impl Keeping {
    /// How long mail would be stopped for it, where it can be kept.
    pub(crate) fn takes(&self) -> Option<Duration> {
        match self {
            Keeping::Able(takes, _) => Some(*takes),
            Keeping::Unable(_) => None,
        }
    }

    /// What would be done, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Keeping::Able(_, how) if how.is_empty() => STAGED.to_owned(),
            Keeping::Able(_, how) => format!("{how}; else {STAGED}"),
            Keeping::Unable(why) if why.is_empty() => "over the link".to_owned(),
            Keeping::Unable(why) => format!("over the link: {why}"),
        }
    }

    /// It cannot, and gives no reason.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Keeping::Unable(why) if why.is_empty())
    }
}
