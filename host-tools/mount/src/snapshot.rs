//! What is shown in one folder of the mount: a snapshot with its name and time.

use mailkeep_restorer::View;

/// A snapshot to be shown.
pub struct Snapshot {
    /// Its whole id; the name of its folder.
    pub id: String,
    /// When it was sealed, seconds since 1970; the time of its folder.
    pub time: i64,
    /// What is in it.
    pub view: View,
}
