//! Whether the final pass can be kept on the server until mail runs again, and so need not cross the link while mail is
//! stopped.

use std::time::Duration;

/// What an agent says of keeping a final pass.
pub(crate) enum Keeping {
    /// It can; walking and keeping takes about this long.
    Able(Duration),
    /// It cannot, for this reason; it may be empty.
    Unable(String),
}

impl Keeping {
    /// How long mail would be stopped for it, where it can be kept.
    pub(crate) fn takes(&self) -> Option<Duration> {
        match self {
            Keeping::Able(takes) => Some(*takes),
            Keeping::Unable(_) => None,
        }
    }

    /// It cannot, and gives no reason.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Keeping::Unable(why) if why.is_empty())
    }
}
