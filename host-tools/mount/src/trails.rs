//! How far programs have come in the folders that they go through.
//!
//! Whoever reads three files of a folder in the order of its listing is taken to read on, and who has gone through one
//! folder to go through the next one too.

use std::collections::VecDeque;

use crate::inodes::Place;

/// Folders of which it is known how far their readers are.
const TRAILS: usize = 8;
/// Files that may be skipped by somebody who is still taken to go through a folder: what he has read before, or does not
/// want.
const STRIDE: u32 = 16;
/// Files in a row after which there is reading ahead.
const IN_A_ROW: u32 = 2;
/// Of a folder of which all was read ahead.
const END: u32 = u32::MAX;

/// How far somebody has come in a folder.
struct Trail {
    folder: u64,
    /// The file that was read last; `None` before the first.
    last: Option<u32>,
    in_a_row: u32,
    /// Where the next window begins.
    next: u32,
    /// Whoever comes here wants the next window.
    mark: u32,
    /// It was asked for.
    is_asked: bool,
    /// Nobody has been here yet.
    is_led: bool,
}

/// The newest is the last one.
#[derive(Default)]
pub(crate) struct Trails(VecDeque<Trail>);

impl Trails {
    /// Somebody begins to read the file that stands here. Where the next window is to begin, if it is time for it.
    pub(crate) fn came_by(&mut self, place: Place) -> Option<Place> {
        let trail = self.follow(place);
        let (came, is_led) =
            (Place { folder: place.folder, index: trail.next.max(place.index + 1) }, trail.is_led);
        trail.is_led = false;
        // All of a short folder is there already: what comes after it is not.
        if is_led && trail.mark == END && !trail.is_asked {
            return Some(came);
        }
        if trail.in_a_row < IN_A_ROW || trail.is_asked || place.index < trail.mark {
            return None;
        }
        Some(came)
    }

    /// Whether the next window of a folder was asked for.
    pub(crate) fn asked(&mut self, folder: u64, is_asked: bool) {
        if let Some(trail) = self.of(folder) {
            trail.is_asked = is_asked;
        }
    }

    /// There is a window from `from` to before `end`; beyond there is nothing if it `is_last`.
    pub(crate) fn made(&mut self, from: Place, end: u32, is_last: bool) {
        if let Some(trail) = self.of(from.folder) {
            trail.is_asked = false;
            trail.next = end;
            trail.mark = if is_last { END } else { from.index.midpoint(end) };
        }
    }

    /// Somebody is taken to begin with this folder soon. Whether he has not begun yet.
    pub(crate) fn lead_to(&mut self, folder: u64) -> bool {
        if self.of(folder).is_some() {
            return false;
        }
        let last = self.0.back().map_or(0, |trail| trail.in_a_row);
        // Not the newest: that is where somebody is.
        let at = self.0.len().saturating_sub(1);
        let trail = Trail {
            folder,
            last: None,
            in_a_row: last.max(IN_A_ROW),
            next: 0,
            mark: 0,
            is_asked: false,
            is_led: true,
        };
        self.0.insert(at, trail);
        self.keep_few();
        true
    }

    /// Whether somebody has begun to read what stands here, or what comes after it.
    pub(crate) fn has_passed(&self, place: Place) -> bool {
        self.0
            .iter()
            .any(|trail| trail.folder == place.folder && trail.last.is_some_and(|last| last >= place.index))
    }

    fn of(&mut self, folder: u64) -> Option<&mut Trail> {
        self.0.iter_mut().find(|trail| trail.folder == folder)
    }

    fn keep_few(&mut self) {
        while self.0.len() > TRAILS {
            self.0.pop_front();
        }
    }

    /// Notes that somebody came by here.
    fn follow(&mut self, place: Place) -> &mut Trail {
        let known = self.0.iter().position(|trail| trail.folder == place.folder);
        // Who has gone through one folder is taken to go through the next one too.
        let in_a_row = match self.0.back() {
            Some(last) if known.is_none() && last.mark == END => last.in_a_row,
            _ => 0,
        };
        let mut trail = known.and_then(|at| self.0.remove(at)).unwrap_or(Trail {
            folder: place.folder,
            last: Some(place.index),
            in_a_row,
            next: place.index + 1,
            mark: 0,
            is_asked: false,
            is_led: false,
        });
        let begins = |trail: &Trail| Trail {
            last: Some(place.index),
            in_a_row: 0,
            next: place.index + 1,
            mark: 0,
            is_asked: trail.is_asked,
            is_led: false,
            folder: trail.folder,
        };
        match trail.last {
            // He came as it was thought.
            None if place.index <= STRIDE => trail.last = Some(place.index),
            Some(last)
                if place.index > last && place.index <= last.max(trail.next).saturating_add(STRIDE) =>
            {
                trail.in_a_row = trail.in_a_row.saturating_add(1);
                trail.last = Some(place.index);
            }
            Some(last) if place.index == last => {}
            _ => trail = begins(&trail),
        }
        self.0.push_back(trail);
        self.keep_few();
        let newest = self.0.len() - 1;
        &mut self.0[newest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_row(places: &[(u64, u32)]) -> Vec<u32> {
        let mut trails = Trails::default();
        places
            .iter()
            .map(|(folder, index)| trails.follow(Place { folder: *folder, index: *index }).in_a_row)
            .collect()
    }

    #[test]
    fn who_reads_in_order_is_noticed_and_who_jumps_about_is_not() {
        assert_eq!(in_a_row(&[(7, 0), (7, 1), (7, 2), (7, 2), (7, 5)]), [0, 1, 2, 2, 3]);
        assert_eq!(in_a_row(&[(7, 900), (7, 20), (7, 400), (7, 399)]), [0, 0, 0, 0]);
        // Two who read side by side, also in folders of their own.
        assert_eq!(in_a_row(&[(7, 0), (8, 0), (7, 1), (8, 1), (7, 2), (8, 2)]), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn as_many_folders_are_remembered_as_it_says() {
        let mut trails = Trails::default();
        for folder in 0..100 {
            trails.follow(Place { folder, index: 0 });
            trails.lead_to(folder + 1000);
        }
        assert_eq!(trails.0.len(), TRAILS);
        assert!(trails.0.iter().any(|trail| trail.folder == 99));
    }

    #[test]
    fn the_next_window_is_wanted_in_the_middle_of_the_last_one_and_none_after_the_end() {
        let mut trails = Trails::default();
        let at = |trails: &mut Trails, index| trails.came_by(Place { folder: 7, index });
        assert_eq!((at(&mut trails, 0), at(&mut trails, 1)), (None, None));
        let from = at(&mut trails, 2).unwrap();
        assert_eq!(from, Place { folder: 7, index: 3 });
        trails.asked(7, true);
        assert_eq!(at(&mut trails, 3), None);
        trails.made(from, 43, false);
        assert_eq!((at(&mut trails, 10), at(&mut trails, 22)), (None, None));
        let from = at(&mut trails, 23).unwrap();
        assert_eq!(from.index, 43);
        trails.made(from, 60, true);
        assert_eq!((at(&mut trails, 45), at(&mut trails, 59)), (None, None));
        // In the next folder from the first file on.
        assert_eq!(trails.came_by(Place { folder: 8, index: 0 }), Some(Place { folder: 8, index: 1 }));
    }

    #[test]
    fn who_was_led_to_a_folder_is_read_ahead_of_there_unless_he_does_otherwise() {
        let mut trails = Trails::default();
        trails.follow(Place { folder: 7, index: 0 });
        assert!(!trails.lead_to(7) && trails.lead_to(8));
        trails.made(Place { folder: 8, index: 0 }, 20, false);
        assert!(!trails.has_passed(Place { folder: 8, index: 0 }));
        assert_eq!(trails.came_by(Place { folder: 8, index: 0 }), None);
        assert!(trails.has_passed(Place { folder: 8, index: 0 }));
        assert_eq!(trails.came_by(Place { folder: 8, index: 10 }).map(|from| from.index), Some(20));
        assert!(trails.lead_to(9));
        trails.made(Place { folder: 9, index: 0 }, 30, true);
        assert_eq!(trails.came_by(Place { folder: 9, index: 0 }), Some(Place { folder: 9, index: 30 }));
        assert_eq!(trails.came_by(Place { folder: 9, index: 1 }), None);
        assert!(trails.lead_to(10));
        assert_eq!(trails.follow(Place { folder: 10, index: 700 }).in_a_row, 0);
    }
}
