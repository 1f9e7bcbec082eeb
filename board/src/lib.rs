//! The hands and eyes of the box: lamps, buttons, and disks that come and go.
//!
//! A [`Board`] shows lamps and reports [`BoardEvent`]s; it knows nothing of what they mean. There are two:
//! real lines of a GPIO chip ([`linux_gpio`]) and the bench board, which is drawn in a terminal or driven by
//! lines on stdin ([`mod@bench`]). Both are described by a board file ([`layout`]; ready-made ones in `boards/`).
//! Polarity and debouncing are done here, over the traits of `embedded-hal`, because the Linux pins below speak
//! only electrical levels. Blinking is not: the caller says lit or dark at each edge.
//!
//! | module | owns |
//! |---|---|
//! | [`panel`] | the [`Board`] trait, lamps, buttons, events |
//! | [`lamp`], [`button`] | drivers over `embedded-hal` pins |
//! | [`layout`] | board files |
//! | [`linux_gpio`] | a front panel on the lines of a GPIO character device |
//! | [`mod@bench`] | the front panel of the workbench |
//! | [`arrivals`] | disks that come and go at device paths |
//! | [`disk`] | mounting, flushing, unmounting a disk, image or folder; reading one that no longer mounts |
//! | [`btrfs`] | what a btrfs disk says of itself |
//! | [`usb`] | the USB disks that are plugged in |

pub mod arrivals;
pub mod bench;
pub mod btrfs;
pub mod button;
pub mod disk;
pub mod error;
pub mod lamp;
pub mod layout;
pub mod linux_gpio;
pub mod panel;
pub mod usb;

pub use error::BoardError;
pub use layout::Layout;
pub use panel::{Board, BoardEvent, Button, Lamp, Look, Sink, SlotNumber};
