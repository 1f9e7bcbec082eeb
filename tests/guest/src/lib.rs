//! A guest: a Debian kernel in QEMU, with a root file system in memory that is made for one test.
//!
//! For what the machine of the tests does not have, or must not be asked for: a device-mapper, a power cut, a reboot.
//! What goes in is named by the test: programs of this machine with the libraries they need ([`programs`]), modules of
//! the kernel with those that they need ([`kernel`]), files, disks. All of it becomes one archive ([`archive`]) that the
//! kernel unpacks; nothing of the host is mounted and nothing is installed. The guest has no network.
//!
//! ```text
//! Recipe  --boot-->  Machine  --run("lvs")-->  Done { code, output }
//!   programs, modules,  |  --power_off-->  as a server is shut down
//!   files, disks        |  --cut-->        as if somebody pulled the plug
//! ```
//!
//! A machine is driven over a serial line by a shell of root's, one command at a time; the kernel's own words go to
//! another one and are told where something fails ([`machine`]). Nothing waits for a time: a command is over when the
//! shell says so, or when QEMU has ended. It runs with or without KVM on the host, and takes none: one emulated
//! processor, some seconds to boot.
//!
//! A cut is a SIGKILL of QEMU: what the guest has in memory is lost, what it has written to its disk is there, in the
//! order in which it was written. A disk that loses what was not flushed is another lab (`tests/src/block`).

pub mod archive;
pub mod error;
pub mod kernel;
pub mod machine;
pub mod programs;
mod recipe;

pub use error::GuestError;
pub use machine::{Done, Machine, Prepared};
pub use recipe::Recipe;
