//! USB disks that are plugged in, through `rusb`: port, speed, vendor, serial.
//!
//! `rusb::devices()` panics on machines without USB; so a context is opened first, and its failure means "no
//! USB here". Only mass storage is looked at; nothing is sent to a device but what asks for its names.

use std::fmt;
use std::time::Duration;

use rusb::{Context, Device, DeviceHandle, Language, UsbContext};

use crate::error::BoardError;

/// USB class of mass storage (USB-IF class codes, 08h).
const MASS_STORAGE: u8 = 0x08;
/// A device that does not tell its name in this time has none.
const ASK_FOR: Duration = Duration::from_millis(500);

/// How fast a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// Not known.
    Unknown,
    /// USB 1.
    Low,
    /// USB 1.
    Full,
    /// USB 2, 480 Mbit/s.
    High,
    /// USB 3, 5 Gbit/s.
    Super,
    /// USB 3.1, 10 Gbit/s and more.
    SuperPlus,
}

/// A mass-storage device on USB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbDisk {
    /// Bus and port path, such as `2-1.4`: where it is plugged in.
    pub port: String,
    /// How fast it is connected.
    pub speed: Speed,
    /// The device could be faster on another port or cable.
    pub slowed: bool,
    /// Vendor and product numbers.
    pub ids: (u16, u16),
    /// Vendor's name; empty if it does not tell.
    pub vendor: String,
    /// Product's name; empty if it does not tell.
    pub product: String,
    /// Serial number; empty if it does not tell (often for lack of permission).
    pub serial: String,
}

/// The USB disks that are plugged in now.
///
/// # Errors
/// [`BoardError::NoUsb`] where there is no USB; [`BoardError::UsbList`]. A device that can't be asked is listed
/// with what is known of it.
pub fn list() -> Result<Vec<UsbDisk>, BoardError> {
    let context = Context::new().map_err(BoardError::NoUsb)?;
    let devices = context.devices().map_err(BoardError::UsbList)?;
    Ok(devices.iter().filter(is_mass_storage).map(|device| describe(&device)).collect())
}

fn is_mass_storage(device: &Device<Context>) -> bool {
    let Ok(config) = device.active_config_descriptor() else { return false };
    config
        .interfaces()
        .flat_map(|interface| interface.descriptors().collect::<Vec<_>>())
        .any(|descriptor| descriptor.class_code() == MASS_STORAGE)
}

fn describe(device: &Device<Context>) -> UsbDisk {
    let speed = speed(device.speed());
    let ports = device.port_numbers().unwrap_or_default();
    let ports: Vec<String> = ports.iter().map(u8::to_string).collect();
    let mut disk = UsbDisk {
        port: format!("{}-{}", device.bus_number(), ports.join(".")),
        speed,
        slowed: false,
        ids: (0, 0),
        vendor: String::new(),
        product: String::new(),
        serial: String::new(),
    };
    let Ok(descriptor) = device.device_descriptor() else { return disk };
    disk.ids = (descriptor.vendor_id(), descriptor.product_id());
    // bcdUSB: a device built for USB 3 says 2.1 or more even when it is connected at USB 2 speed.
    let built_for = descriptor.usb_version();
    let is_usb3 = built_for.major() >= 3 || (built_for.major() == 2 && built_for.minor() >= 1);
    disk.slowed = is_usb3 && speed != Speed::Unknown && speed <= Speed::High;
    if let Ok(handle) = device.open() {
        if let Some(language) = first_language(&handle) {
            let text = |read: rusb::Result<String>| clean(&read.unwrap_or_default());
            disk.vendor = text(handle.read_manufacturer_string(language, &descriptor, ASK_FOR));
            disk.product = text(handle.read_product_string(language, &descriptor, ASK_FOR));
            disk.serial = text(handle.read_serial_number_string(language, &descriptor, ASK_FOR));
        }
    }
    disk
}

fn first_language(handle: &DeviceHandle<Context>) -> Option<Language> {
    handle.read_languages(ASK_FOR).ok()?.into_iter().next()
}

/// Names come from the device: nothing in them may steer a terminal.
fn clean(text: &str) -> String {
    text.trim_matches(['\0', ' ']).chars().filter(|c| !c.is_control()).collect()
}

fn speed(speed: rusb::Speed) -> Speed {
    match speed {
        rusb::Speed::Low => Speed::Low,
        rusb::Speed::Full => Speed::Full,
        rusb::Speed::High => Speed::High,
        rusb::Speed::Super => Speed::Super,
        rusb::Speed::SuperPlus => Speed::SuperPlus,
        _ => Speed::Unknown,
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speed::Unknown => "unknown speed",
            Speed::Low => "USB 1, 1.5 Mbit/s",
            Speed::Full => "USB 1, 12 Mbit/s",
            Speed::High => "USB 2, 480 Mbit/s",
            Speed::Super => "USB 3, 5 Gbit/s",
            Speed::SuperPlus => "USB 3, 10 Gbit/s",
        })
    }
}

impl fmt::Display for UsbDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, product) = self.ids;
        write!(f, "port {}  {vendor:04x}:{product:04x}  {}", self.port, self.speed)?;
        for (name, value) in [("vendor", &self.vendor), ("product", &self.product), ("serial", &self.serial)]
        {
            if !value.is_empty() {
                write!(f, "  {name} {value}")?;
            }
        }
        if self.slowed {
            write!(f, "  (built for USB 3: another port or cable would be faster)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_usb_is_no_panic() {
        match list() {
            Ok(disks) => disks.iter().for_each(|disk| assert!(!disk.to_string().is_empty())),
            Err(error) => {
                assert!(matches!(error, BoardError::NoUsb(_) | BoardError::UsbList(_)), "{error}");
            }
        }
    }

    #[test]
    fn names_from_a_device_cannot_steer_the_terminal() {
        assert_eq!(clean("  Evil\x1b[2J\u{9b}Disk\0\0"), "Evil[2JDisk");
    }
}
