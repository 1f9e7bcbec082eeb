//! Which box this is and whether it has been restarted, for the lease.

use std::fmt;

/// A box, a start of it, and a process: what a lease names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Stays the same over restarts.
    pub box_id: BoxId,
    /// New with every start.
    pub boot_id: String,
    /// This process.
    pub pid: u32,
    /// The box's name, for people.
    pub host: String,
}

/// Name of a box: tells boxes apart and says nothing else about them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BoxId(pub [u8; 16]);

impl fmt::Display for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxId({self})")
    }
}

impl BoxId {
    /// A box id from whatever names the box lastingly.
    pub fn of(name: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::derive_key("mailkeep v1 2026-11-22 box id", name)[..16]);
        BoxId(id)
    }
}

impl Machine {
    /// The machine this runs on. The box id comes from `/etc/machine-id` (machine-id(5) asks not to show it, so a hash
    /// of it); where there is none, from the boot id, and then a restart makes it another box.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let boot_id = read("/proc/sys/kernel/random/boot_id");
        let machine_id = read("/etc/machine-id");
        let lasting = if machine_id.is_empty() { &boot_id } else { &machine_id };
        Machine {
            box_id: BoxId::of(lasting.as_bytes()),
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id,
        }
    }
}
