//! The numbers of the front panel: how long is a short press, how fast is a fast blink.
//!
//! They follow the "Front panel" table of the interface description; what that leaves open (self-test, flash
//! lengths, how near "together" is) is chosen here, with the reason.

use crate::moment::Span;

/// A press that ends before this is short.
pub const SHORT_PRESS: Span = Span::from_millis(1_000);
/// BACKUP held this long: eject.
pub const HOLD_EJECT: Span = Span::from_millis(3_000);
/// RESTORE held this long: arm.
pub const HOLD_ARM: Span = Span::from_millis(5_000);
/// The chord has to begin and be complete within this time of arming.
pub const ARMED_FOR: Span = Span::from_millis(10_000);
/// Two presses this near to each other are "together"; people need about 100 ms, cold fingers longer.
pub const CHORD_GAP: Span = Span::from_millis(1_000);

/// Slow blink, 1 Hz: the whole period; lit for the first half.
pub const SLOW_PERIOD: Span = Span::from_millis(1_000);
/// Fast blink, 4 Hz.
pub const FAST_PERIOD: Span = Span::from_millis(250);
/// Double flash: two flashes of [`FLASH`], a dark rest; long enough not to be taken for a blink.
pub const DOUBLE_PERIOD: Span = Span::from_millis(1_500);
/// One flash of a double flash, and the gap after it.
pub const FLASH: Span = Span::from_millis(150);
/// A wink ("up, but no good backup yet") once in this time, [`FLASH`] long: enough to see that the box lives.
pub const WINK_PERIOD: Span = Span::from_millis(3_000);

/// Self-test: each lamp alone for this long.
pub const SELF_TEST_LAMP: Span = Span::from_millis(500);
/// Age display: one counted flash, and the dark gap after it; slow enough to count aloud.
pub const COUNT_FLASH: Span = Span::from_millis(300);
/// Age display: dark rest before the first and after the last flash, so that the count stands out.
pub const COUNT_REST: Span = Span::from_millis(900);
/// Age display: the single long flash that says "no proven backup known".
pub const COUNT_NONE: Span = Span::from_millis(2_000);
/// Age display: one flash per day begun; more than this are not counted by anybody.
pub const COUNT_MOST: u32 = 9;
/// One flash of the age display stands for this.
pub const COUNT_UNIT: Span = Span::from_secs(24 * 3600);

/// Disks that may wait in further slots while one is in use; more are not looked at until one goes.
pub const WAITING_DISKS: usize = 16;
