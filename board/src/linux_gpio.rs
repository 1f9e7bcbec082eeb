//! A front panel on the lines of a GPIO character device (`/dev/gpiochipN`), through `linux-embedded-hal`.
//!
//! The lines are asked for as plain inputs and outputs; polarity is this crate's, not the kernel's, so that one
//! driver serves every pin. Buttons are polled by a thread of their own: the pins of `linux-embedded-hal` have
//! no edges, and debouncing wants samples anyway.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use linux_embedded_hal::CdevPin;
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags};

use crate::button::{ButtonDriver, Edge, POLL_EVERY};
use crate::error::BoardError;
use crate::lamp::{LampDriver, Polarity};
use crate::layout::{GpioLayout, Line};
use crate::panel::{Board, BoardEvent, Button, Lamp, Look, Sink};

const CONSUMER: &str = "mailkeep";

/// A front panel on GPIO lines.
pub struct LinuxGpio {
    lamps: [LampDriver<CdevPin>; 3],
    watching: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl LinuxGpio {
    /// Takes over the lines; all lamps are dark afterwards.
    ///
    /// # Errors
    /// [`BoardError::NoChip`], [`BoardError::Line`], [`BoardError::Pin`], [`BoardError::Thread`].
    pub fn open(layout: &GpioLayout, sink: Sink) -> Result<Self, BoardError> {
        let path = &layout.chip;
        let mut chip = Chip::new(path).map_err(|source| BoardError::NoChip { chip: path.clone(), source })?;
        let [status, disk, fault] = layout.lamps;
        let lamps = [
            lamp(&mut chip, path, status, Lamp::Status)?,
            lamp(&mut chip, path, disk, Lamp::Disk)?,
            lamp(&mut chip, path, fault, Lamp::Fault)?,
        ];
        let [backup, restore] = layout.buttons;
        let buttons = vec![
            (Button::Backup, button(&mut chip, path, backup, Button::Backup)?),
            (Button::Restore, button(&mut chip, path, restore, Button::Restore)?),
        ];
        let watching = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&watching);
        let watcher = std::thread::Builder::new()
            .name("buttons".into())
            .spawn(move || watch(buttons, &still, &sink))
            .map_err(|source| BoardError::Thread { what: "buttons", source })?;
        Ok(Self { lamps, watching, watcher: Some(watcher) })
    }
}

fn lamp(chip: &mut Chip, path: &Path, line: Line, lamp: Lamp) -> Result<LampDriver<CdevPin>, BoardError> {
    // Dark from the first moment: an inverted lamp starts at high level.
    let dark = u8::from(line.polarity == Polarity::ActiveLow);
    let pin = pin(chip, path, line, LineRequestFlags::OUTPUT, dark, lamp.label())?;
    LampDriver::new(pin, line.polarity, lamp.label())
}

fn button(
    chip: &mut Chip,
    path: &Path,
    line: Line,
    button: Button,
) -> Result<ButtonDriver<CdevPin>, BoardError> {
    let pin = pin(chip, path, line, LineRequestFlags::INPUT, 0, button.label())?;
    Ok(ButtonDriver::new(pin, line.polarity, button.label()))
}

fn pin(
    chip: &mut Chip,
    path: &Path,
    line: Line,
    flags: LineRequestFlags,
    default: u8,
    what: &'static str,
) -> Result<CdevPin, BoardError> {
    chip.get_line(line.offset)
        .and_then(|found| found.request(flags, default, CONSUMER))
        .and_then(CdevPin::new)
        .map_err(|source| BoardError::Line { chip: path.to_owned(), line: line.offset, what, source })
}

fn watch(mut buttons: Vec<(Button, ButtonDriver<CdevPin>)>, still: &AtomicBool, sink: &Sink) {
    let start = Instant::now();
    let mut reported = false;
    while still.load(Ordering::Relaxed) {
        for (button, driver) in &mut buttons {
            match driver.poll(start.elapsed()) {
                Ok(Some(Edge::Down)) => sink(BoardEvent::Pressed(*button)),
                Ok(Some(Edge::Up)) => sink(BoardEvent::Released(*button)),
                Ok(None) => {}
                Err(error) => {
                    // Once: a dead pin polled a hundred times a second would fill the log.
                    if !std::mem::replace(&mut reported, true) {
                        tracing::error!(%error, "a button does not respond");
                    }
                }
            }
        }
        std::thread::sleep(POLL_EVERY);
    }
}

impl Board for LinuxGpio {
    fn set_lamp(&mut self, lamp: Lamp, look: Look<'_>) -> Result<(), BoardError> {
        self.lamps[lamp as usize].set(look.lit)
    }

    fn tell(&mut self, _text: &str) -> Result<(), BoardError> {
        Ok(())
    }

    fn show_progress(&mut self, _text: &str) -> Result<(), BoardError> {
        Ok(())
    }
}

impl Drop for LinuxGpio {
    fn drop(&mut self) {
        self.watching.store(false, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            if watcher.join().is_err() {
                tracing::error!("the thread that watches the buttons had died");
            }
        }
        for lamp in &mut self.lamps {
            if let Err(error) = lamp.set(false) {
                tracing::warn!(%error, "a lamp may stay lit");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_missing_chip_is_said_plainly() {
        let line = |offset| Line { offset, polarity: Polarity::ActiveHigh };
        let layout = GpioLayout {
            chip: PathBuf::from("/dev/no-such-gpiochip"),
            lamps: [line(1), line(2), line(3)],
            buttons: [line(4), line(5)],
        };
        let error = LinuxGpio::open(&layout, Arc::new(|_| {})).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no GPIO chip /dev/no-such-gpiochip: name the right one under `chip`, or use board kind \"bench\""
        );
    }
}
