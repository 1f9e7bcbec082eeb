//! Two buttons: press and release edges become gestures.
//!
//! A hold takes effect at the moment its time is reached, while the finger is still on the button, so that the
//! lamp answers the hand. A button whose press has had its effect is *spent*: nothing follows from it until it
//! has been released.

use crate::limits;
use crate::moment::{Moment, Span};

/// A button of the front panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Button {
    /// Start a backup, acknowledge a fault, eject.
    Backup,
    /// Show the age of the newest proven snapshot; arm a restore.
    Restore,
}

/// What hands did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gesture {
    /// Pressed and released within [`limits::SHORT_PRESS`].
    Short(Button),
    /// Held for the button's time: BACKUP [`limits::HOLD_EJECT`], RESTORE [`limits::HOLD_ARM`].
    Held(Button),
    /// Both together; the first of the two went down at this moment.
    Chord(Moment),
    /// Something else: too long for short, too short for a hold, or both but not together.
    Clumsy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Key {
    #[default]
    Up,
    Down(Moment),
    Spent,
}

/// Both buttons as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buttons {
    backup: Key,
    restore: Key,
}

impl Buttons {
    /// A button went down.
    pub fn press(&mut self, button: Button, now: Moment) -> Option<Gesture> {
        let (key, other) = self.pair(button);
        match (*key, *other) {
            (Key::Down(_) | Key::Spent, _) => None,
            (Key::Up, Key::Up) => {
                *key = Key::Down(now);
                None
            }
            (Key::Up, Key::Spent) => {
                *key = Key::Spent;
                Some(Gesture::Clumsy)
            }
            (Key::Up, Key::Down(first)) => {
                (*key, *other) = (Key::Spent, Key::Spent);
                Some(if now.since(first) <= limits::CHORD_GAP {
                    Gesture::Chord(first)
                } else {
                    Gesture::Clumsy
                })
            }
        }
    }

    /// A button came up.
    pub fn release(&mut self, button: Button, now: Moment) -> Option<Gesture> {
        let (key, _) = self.pair(button);
        let Key::Down(since) = std::mem::take(key) else { return None };
        let held = now.since(since);
        Some(if held < limits::SHORT_PRESS {
            Gesture::Short(button)
        } else if held >= hold(button) {
            // The tick that should have seen the hold came late: the hand did its part.
            Gesture::Held(button)
        } else {
            Gesture::Clumsy
        })
    }

    /// Time has passed: has a hold been reached?
    pub fn tick(&mut self, now: Moment) -> Option<Gesture> {
        for button in [Button::Backup, Button::Restore] {
            let (key, _) = self.pair(button);
            if let Key::Down(since) = *key {
                if now.since(since) >= hold(button) {
                    *key = Key::Spent;
                    return Some(Gesture::Held(button));
                }
            }
        }
        None
    }

    /// When [`tick`](Self::tick) will have something to say, if a button is down.
    pub fn wake_at(&self) -> Option<Moment> {
        let at =
            |key: Key, button| if let Key::Down(since) = key { Some(since + hold(button)) } else { None };
        [at(self.backup, Button::Backup), at(self.restore, Button::Restore)].into_iter().flatten().min()
    }

    fn pair(&mut self, button: Button) -> (&mut Key, &mut Key) {
        match button {
            Button::Backup => (&mut self.backup, &mut self.restore),
            Button::Restore => (&mut self.restore, &mut self.backup),
        }
    }
}

const fn hold(button: Button) -> Span {
    match button {
        Button::Backup => limits::HOLD_EJECT,
        Button::Restore => limits::HOLD_ARM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Button::{Backup, Restore};

    fn at(millis: i64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn a_press_is_short_below_one_second_and_clumsy_from_there() {
        for (length, gesture) in [
            (0, Gesture::Short(Backup)),
            (999, Gesture::Short(Backup)),
            (1000, Gesture::Clumsy),
            (2999, Gesture::Clumsy),
        ] {
            let mut buttons = Buttons::default();
            assert_eq!(buttons.press(Backup, at(50)), None);
            assert_eq!(buttons.release(Backup, at(50 + length)), Some(gesture), "{length} ms");
        }
    }

    #[test]
    fn a_hold_fires_once_and_at_its_time() {
        for (button, needed) in [(Backup, 3000), (Restore, 5000)] {
            let mut buttons = Buttons::default();
            buttons.press(button, at(0));
            assert_eq!(buttons.wake_at(), Some(at(needed)));
            assert_eq!(buttons.tick(at(needed - 1)), None);
            assert_eq!(buttons.tick(at(needed)), Some(Gesture::Held(button)));
            assert_eq!(buttons.tick(at(needed + 9000)), None);
            assert_eq!(buttons.release(button, at(needed + 9001)), None);
        }
    }

    #[test]
    fn a_late_tick_does_not_lose_a_hold() {
        let mut buttons = Buttons::default();
        buttons.press(Restore, at(0));
        assert_eq!(buttons.release(Restore, at(5200)), Some(Gesture::Held(Restore)));
    }

    #[test]
    fn together_is_a_chord_in_either_order_and_leaves_nothing_behind() {
        for (first, second) in [(Backup, Restore), (Restore, Backup)] {
            let mut buttons = Buttons::default();
            buttons.press(first, at(100));
            assert_eq!(buttons.press(second, at(1100)), Some(Gesture::Chord(at(100))));
            assert_eq!(buttons.tick(at(60_000)), None);
            assert_eq!(buttons.release(first, at(60_001)), None);
            assert_eq!(buttons.release(second, at(60_002)), None);
            assert_eq!(buttons, Buttons::default());
        }
    }

    #[test]
    fn a_second_press_too_late_is_no_chord() {
        let mut buttons = Buttons::default();
        buttons.press(Backup, at(0));
        assert_eq!(buttons.press(Restore, at(1001)), Some(Gesture::Clumsy));
    }

    #[test]
    fn a_spent_button_makes_no_chord() {
        let mut buttons = Buttons::default();
        buttons.press(Restore, at(0));
        assert_eq!(buttons.tick(at(5000)), Some(Gesture::Held(Restore)));
        assert_eq!(buttons.press(Backup, at(5100)), Some(Gesture::Clumsy));
    }

    #[test]
    fn edges_that_make_no_sense_change_nothing() {
        let mut buttons = Buttons::default();
        assert_eq!(buttons.release(Backup, at(5)), None);
        buttons.press(Backup, at(10));
        assert_eq!(buttons.press(Backup, at(900)), None);
        assert_eq!(buttons.release(Backup, at(1500)), Some(Gesture::Clumsy), "held since the first press");
    }
}
