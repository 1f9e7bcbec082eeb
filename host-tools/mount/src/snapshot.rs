//! What is shown in one folder of the mount: a snapshot with its name and time. And where news of snapshots come from.

use mailkeep_restorer::View;

/// Decoded blocks that a reader of a mounted repository does well to keep, in bytes. There may be several programs in
/// folders of their own, of each of which the block in hand and a window ahead are needed; and mail that went to many lies
/// in a block of somebody else.
pub const KEPT_BLOCKS: usize = 10 << 20;

/// A snapshot to be shown.
pub struct Snapshot {
    /// Its whole id; the name of its folder.
    pub id: String,
    /// When it was sealed, seconds since 1970; the time of its folder.
    pub time: i64,
    /// It is of a mail server: its mail is shown beside its files.
    pub has_mail: bool,
    /// What is in it.
    pub view: View,
}

/// Asked now and then which snapshots there are: all of them, oldest first, if that changed since it was last asked, else
/// `None`. Views of one answer share their caches.
pub type News = Box<dyn FnMut() -> Option<Vec<Snapshot>> + Send>;
