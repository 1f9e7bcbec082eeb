//! Rates as people write them in the source file and on the command line: `10 Mbit/s`, `512 KiB/s`, `1.5 MB/s`.

use std::fmt;

use crate::limits::{RATE_LEAST, RATE_MOST};

/// Bytes per second, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Bytes in a second.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % 1_000_000 == 0 => write!(f, "{} MB/s", bytes / 1_000_000),
            bytes if bytes % 1_000 == 0 => write!(f, "{} kB/s", bytes / 1_000),
            bytes => write!(f, "{bytes} B/s"),
        }
    }
}

/// Reads a rate: a number, with at most three digits behind its point, and a unit. Letters count as they are written: `Mb/s`
/// is refused, since nobody should guess whether bits or bytes are meant, and so is a number alone.
///
/// # Errors
/// What is wrong with it, in words that complete a sentence about it.
pub fn parse_rate(text: &str) -> Result<Rate, &'static str> {
    const WANTED: &str = "write a rate like \"10 Mbit/s\", \"500 kbit/s\", \"2.5 MB/s\" or \"800 KiB/s\"";
    // What a thousand of the unit is, in bytes.
    const UNITS: [(&str, u64); 11] = [
        ("bit/s", 125),
        ("kbit/s", 125_000),
        ("Mbit/s", 125_000_000),
        ("Gbit/s", 125_000_000_000),
        ("B/s", 1_000),
        ("kB/s", 1_000_000),
        ("MB/s", 1_000_000_000),
        ("GB/s", 1_000_000_000_000),
        ("KiB/s", 1_000 << 10),
        ("MiB/s", 1_000 << 20),
        ("GiB/s", 1_000 << 30),
    ];
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(WANTED)?;
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(WANTED)?;
    let thousandths = thousandths(number).ok_or(WANTED)?;
    let bytes = u128::from(thousandths) * u128::from(*size) / 1_000_000;
    match u64::try_from(bytes) {
        Ok(bytes) if bytes < RATE_LEAST => Err("the rate is below 64 kbit/s, with which no backup ends"),
        Ok(bytes) if bytes <= RATE_MOST => Ok(Rate(bytes)),
        _ => Err("the rate is above 100 GB/s: leave it out if there is to be no limit"),
    }
}

/// A decimal number as thousandths.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, part) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(halves) => halves,
        None => (number, ""),
    };
    if whole.is_empty() || part.len() > 3 || part.contains('.') {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("10 Mbit/s", 1_250_000),
            ("10Mbit/s", 1_250_000),
            (" 64 kbit/s ", 8_000),
            ("64000 bit/s", 8_000),
            ("2.5 MB/s", 2_500_000),
            ("0.125 MB/s", 125_000),
            ("800 KiB/s", 819_200),
            ("1 MiB/s", 1 << 20),
            ("1 Gbit/s", 125_000_000),
            ("100 GB/s", 100_000_000_000),
            ("9000 B/s", 9_000),
            ("9 kB/s", 9_000),
            ("1 GiB/s", 1 << 30),
        ] {
            assert_eq!(parse_rate(text).map(Rate::bytes_per_second), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_meant_differently() {
        for text in [
            "",
            "10",
            "10 Mb/s",
            "10 mbit/s",
            "10 MBit/s",
            "Mbit/s",
            "-1 MB/s",
            "1,5 MB/s",
            "1. MB/s",
            ".5 MB/s",
            "1.2.3 MB/s",
            "1.2345 MB/s",
            "10  MB/s",
            "10 MB",
            "10 MB/min",
            "0 MB/s",
            "1 B/s",
            "101 GB/s",
            "99999999999999999999 B/s",
            "18446744073709551615 GB/s",
            "1 MB/s x",
        ] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn is_shown_in_a_form_that_can_be_written() {
        for text in ["10 Mbit/s", "800 KiB/s", "2.5 MB/s", "3 GB/s", "9001 B/s"] {
            let rate = parse_rate(text).unwrap();
            assert_eq!(parse_rate(&rate.to_string()), Ok(rate), "{text}");
        }
    }
}
