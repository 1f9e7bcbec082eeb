//! One lamp on any `embedded-hal` output pin: polarity, and no write where nothing changes.

use embedded_hal::digital::{OutputPin, PinState};

use crate::error::BoardError;

/// Which electrical level means "lit" or "pressed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Polarity {
    /// High level.
    #[default]
    ActiveHigh,
    /// Low level.
    ActiveLow,
}

/// A lamp on a pin.
#[derive(Debug)]
pub struct LampDriver<P> {
    pin: P,
    polarity: Polarity,
    name: &'static str,
    lit: Option<bool>,
}

impl<P: OutputPin> LampDriver<P> {
    /// Takes over a pin; the lamp is dark afterwards.
    ///
    /// # Errors
    /// [`BoardError::Pin`] if the pin does not respond.
    pub fn new(pin: P, polarity: Polarity, name: &'static str) -> Result<Self, BoardError> {
        let mut driver = Self { pin, polarity, name, lit: None };
        driver.set(false)?;
        Ok(driver)
    }

    /// Lights or darkens the lamp.
    ///
    /// # Errors
    /// [`BoardError::Pin`]; the next call tries the pin again, even for the same state.
    pub fn set(&mut self, lit: bool) -> Result<(), BoardError> {
        if self.lit == Some(lit) {
            return Ok(());
        }
        self.lit = None;
        let level = PinState::from(lit == (self.polarity == Polarity::ActiveHigh));
        self.pin
            .set_state(level)
            .map_err(|error| BoardError::Pin { what: self.name, detail: format!("{error:?}") })?;
        self.lit = Some(lit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use embedded_hal::digital::{Error, ErrorKind, ErrorType};

    use super::*;

    #[derive(Default)]
    struct Wire(Vec<bool>);

    impl ErrorType for &mut Wire {
        type Error = Infallible;
    }

    impl OutputPin for &mut Wire {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.push(false);
            Ok(())
        }
        fn set_high(&mut self) -> Result<(), Infallible> {
            self.0.push(true);
            Ok(())
        }
    }

    #[test]
    fn polarity_is_respected_and_nothing_is_written_twice() {
        for (polarity, levels) in
            [(Polarity::ActiveHigh, [false, true, false]), (Polarity::ActiveLow, [true, false, true])]
        {
            let mut wire = Wire::default();
            let mut lamp = LampDriver::new(&mut wire, polarity, "STATUS").unwrap();
            for lit in [false, true, true, false, false] {
                lamp.set(lit).unwrap();
            }
            assert_eq!(wire.0, levels, "{polarity:?}");
        }
    }

    #[derive(Debug)]
    struct Dead;
    impl Error for Dead {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    struct Flaky {
        fails: u32,
        writes: u32,
    }
    impl ErrorType for &mut Flaky {
        type Error = Dead;
    }
    impl OutputPin for &mut Flaky {
        fn set_low(&mut self) -> Result<(), Dead> {
            self.writes += 1;
            if self.writes == self.fails { Err(Dead) } else { Ok(()) }
        }
        fn set_high(&mut self) -> Result<(), Dead> {
            self.set_low()
        }
    }

    #[test]
    fn a_failed_write_is_tried_again() {
        let mut pin = Flaky { fails: 2, writes: 0 };
        let mut lamp = LampDriver::new(&mut pin, Polarity::ActiveHigh, "FAULT").unwrap();
        assert_eq!(lamp.set(true).unwrap_err().to_string(), "FAULT does not respond: Dead");
        lamp.set(true).unwrap();
        assert_eq!(pin.writes, 3);
    }
}
