//! A disk that remembers every write and every flush, below a real file system, and the disks that a power cut may leave
//! of it.
//!
//! The way: the file system writes to a loop device, that to one file in a FUSE file system of ours ([`device`]), which
//! notes [`Event`]s in a [`Log`]. From the log every state of the medium can be made again ([`Log::states`]): what was
//! flushed is there, of what came after it any part. A state is written to a file ([`Image::save`]) and mounted.
//!
//! A loop device has a write cache and no FUA, so the kernel turns FUA writes into a write and a flush: the log misses
//! nothing.

pub mod device;
pub mod image;
pub mod log;
pub mod mounted;

pub use device::Recording;
pub use image::Image;
pub use log::{Event, Log, State};
pub use mounted::{FileSystem, Mounted};
