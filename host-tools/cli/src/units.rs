//! Numbers, sizes and times as people read them.

use chrono::{DateTime, Local, SecondsFormat, TimeZone, Utc};

/// A size in binary units, three digits at least: `0 B`, `1.50 KiB`, `12.3 MiB`, `615 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // From 1023.5 on it would be shown as 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count with thin groups of thousands: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration in seconds: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A moment in the local time zone, `2026-11-22 21:30:05`.
pub(crate) fn local(seconds: i64) -> String {
    match Local.timestamp_opt(seconds, 0).single() {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("{seconds} s"),
    }
}

/// The local day of a time, as `2024-05-01`.
pub(crate) fn day(seconds: i64) -> String {
    match Local.timestamp_opt(seconds, 0).single() {
        Some(time) => time.format("%Y-%m-%d").to_string(),
        None => format!("{seconds}s"),
    }
}

/// Seconds that local time is ahead of UTC at this moment.
pub(crate) fn utc_offset(seconds: i64) -> i32 {
    let local = Local.timestamp_opt(seconds, 0).single();
    local.map_or(0, |time| chrono::Offset::fix(time.offset()).local_minus_utc())
}

/// A moment for machines, RFC 3339 in UTC.
pub(crate) fn utc(seconds: i64) -> String {
    utc_nanos(seconds, 0)
}

/// A moment for machines with nanoseconds where there are any.
pub(crate) fn utc_nanos(seconds: i64, nanos: u32) -> String {
    match DateTime::<Utc>::from_timestamp(seconds, nanos) {
        Some(time) if nanos == 0 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Nanos, true),
        None => format!("{seconds}.{nanos:09}"),
    }
}

/// How many times the second the first is, to two digits; nothing where there is nothing to compare.
pub(crate) fn ratio(whole: u64, part: u64) -> Option<f64> {
    (whole > 0 && part > 0).then(|| (whole as f64 / part as f64 * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_1024_of_a_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10_240, "10.0 KiB"),
            (1_048_575, "1.00 MiB"),
            (645_000_000, "615 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn counts_and_durations_read_well() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(counted(1, "file", "files"), "1 file");
        for (seconds, shown) in
            [(0.0, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (185.0, "3 min 05 s"), (7620.0, "2 h 07 min")]
        {
            assert_eq!(duration(seconds), shown);
        }
    }

    #[test]
    fn times_outside_of_any_calendar_are_still_shown() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_nanos(-1, 5), "1969-12-31T23:59:59.000000005Z");
        assert_eq!(utc(i64::MAX), format!("{}.000000000", i64::MAX));
        assert_eq!(local(i64::MIN), format!("{} s", i64::MIN));
    }
}
