//! One button on any `embedded-hal` input pin: polarity and debouncing.
//!
//! A change counts once the level has been stable for the debounce time; a single odd sample (bounce, a spark
//! from the relay next door) never makes an edge.

use std::time::Duration;

use embedded_hal::digital::InputPin;

use crate::error::BoardError;
use crate::lamp::Polarity;

/// How often a button is looked at. Two buttons at this rate cost a board about 0.1 % of a core.
pub const POLL_EVERY: Duration = Duration::from_millis(10);
/// How long a level must be stable to count. Common push buttons bounce for 1 to 10 ms, worn ones for 20.
pub const DEBOUNCE: Duration = Duration::from_millis(30);

/// A button changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It went down.
    Down,
    /// It came up.
    Up,
}

/// A button on a pin.
#[derive(Debug)]
pub struct ButtonDriver<P> {
    pin: P,
    polarity: Polarity,
    name: &'static str,
    down: bool,
    odd_since: Option<Duration>,
}

impl<P: InputPin> ButtonDriver<P> {
    /// Takes over a pin; the button counts as up until a stable press is seen.
    pub fn new(pin: P, polarity: Polarity, name: &'static str) -> Self {
        Self { pin, polarity, name, down: false, odd_since: None }
    }

    /// Looks at the pin; `now` is any monotonic time. To be called about every [`POLL_EVERY`].
    ///
    /// # Errors
    /// [`BoardError::Pin`] if the pin does not respond; the button keeps its state.
    pub fn poll(&mut self, now: Duration) -> Result<Option<Edge>, BoardError> {
        let high = self
            .pin
            .is_high()
            .map_err(|error| BoardError::Pin { what: self.name, detail: format!("{error:?}") })?;
        let down = high == (self.polarity == Polarity::ActiveHigh);
        if down == self.down {
            self.odd_since = None;
            return Ok(None);
        }
        let since = *self.odd_since.get_or_insert(now);
        if now.saturating_sub(since) < DEBOUNCE {
            return Ok(None);
        }
        self.odd_since = None;
        self.down = down;
        Ok(Some(if down { Edge::Down } else { Edge::Up }))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use embedded_hal::digital::ErrorType;

    use super::*;

    /// A pin that plays a recording, one level per look.
    struct Recording(std::vec::IntoIter<bool>);

    impl ErrorType for Recording {
        type Error = Infallible;
    }
    impl InputPin for Recording {
        fn is_high(&mut self) -> Result<bool, Infallible> {
            Ok(self.0.next().unwrap_or(false))
        }
        fn is_low(&mut self) -> Result<bool, Infallible> {
            self.is_high().map(|high| !high)
        }
    }

    fn edges(levels: &str, polarity: Polarity) -> Vec<(u64, Edge)> {
        let levels: Vec<bool> = levels.chars().map(|c| c == '1').collect();
        let looks = levels.len() as u64;
        let mut button = ButtonDriver::new(Recording(levels.into_iter()), polarity, "BACKUP");
        (0..looks)
            .filter_map(|n| button.poll(POLL_EVERY * n as u32).unwrap().map(|edge| (n * 10, edge)))
            .collect()
    }

    #[test]
    fn a_bouncing_press_is_one_press() {
        let levels = "000101101111111111111101001000000";
        assert_eq!(edges(levels, Polarity::ActiveHigh), [(110, Edge::Down), (300, Edge::Up)]);
    }

    #[test]
    fn sparks_are_no_press() {
        assert_eq!(edges("0010000110001110000", Polarity::ActiveHigh), []);
    }

    #[test]
    fn a_button_to_ground_is_pressed_when_low() {
        assert_eq!(edges("1110000001111111", Polarity::ActiveLow), [(60, Edge::Down), (120, Edge::Up)]);
    }

    #[test]
    fn a_button_held_at_switch_on_is_a_press() {
        assert_eq!(edges("1111111", Polarity::ActiveHigh), [(30, Edge::Down)]);
    }
}
