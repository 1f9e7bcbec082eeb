//! Disks that come and go at known device paths, seen by looking.
//!
//! For boards with real disks: udev makes a name under `/dev/disk/by-…` appear when a disk is plugged in, and
//! disappear when it is pulled. A name that stays away for two looks in a row counts as pulled, so that a short
//! reset of the USB bridge is no removal.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::BoardError;
use crate::panel::{BoardEvent, Sink, SlotNumber};

/// How often is looked; a person who plugs in a disk waits longer than this anyway.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row without the device before it counts as pulled.
const GONE_AFTER: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Away,
    There { missed: u32 },
}

/// Watches the paths for as long as the program runs; the first path is slot 1.
///
/// # Errors
/// [`BoardError::Thread`].
pub fn watch(paths: Vec<PathBuf>, sink: Sink) -> Result<(), BoardError> {
    let follow = move || {
        let mut seen = vec![Seen::Away; paths.len()];
        loop {
            for (place, path) in paths.iter().enumerate() {
                if let Some(arrived) = look(&mut seen[place], path.exists()) {
                    let slot = SlotNumber(place + 1);
                    sink(if arrived { BoardEvent::DiskIn(slot) } else { BoardEvent::DiskOut(slot) });
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new()
        .name("arrivals".into())
        .spawn(follow)
        .map(drop)
        .map_err(|source| BoardError::Thread { what: "disks", source })
}

/// One look: `Some(true)` if the disk has come, `Some(false)` if it has gone.
fn look(seen: &mut Seen, there: bool) -> Option<bool> {
    match (*seen, there) {
        (Seen::Away, false) => None,
        (Seen::Away, true) => {
            *seen = Seen::There { missed: 0 };
            Some(true)
        }
        (Seen::There { .. }, true) => {
            *seen = Seen::There { missed: 0 };
            None
        }
        (Seen::There { missed }, false) if missed + 1 < GONE_AFTER => {
            *seen = Seen::There { missed: missed + 1 };
            None
        }
        (Seen::There { .. }, false) => {
            *seen = Seen::Away;
            Some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_absence_is_no_removal() {
        let mut seen = Seen::Away;
        let looks = [false, true, true, false, true, false, false, false, true];
        let news: Vec<_> = looks.map(|there| look(&mut seen, there)).to_vec();
        assert_eq!(news, [None, Some(true), None, None, None, None, Some(false), None, Some(true)]);
    }
}
