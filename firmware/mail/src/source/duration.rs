//! Durations as people write them in the source file: `60s`, `10m`, `1h30m`, `2d`.

use std::time::Duration;

use crate::limits::DURATION_SECONDS;

/// Reads a duration of one or more numbers with units `d`, `h`, `m`, `s`, each unit at most once and from
/// large to small. A number without a unit is refused: nobody should guess whether `10` are minutes.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const WANTED: &str = "write a duration like \"60s\", \"10m\" or \"1h30m\"";
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let mut units = UNITS.iter();
    let mut seconds: u64 = 0;
    let mut number: Option<u64> = None;
    for letter in text.trim().chars() {
        if let Some(digit) = letter.to_digit(10) {
            let grown = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
            number = Some(grown.ok_or("the duration is too long")?);
            continue;
        }
        let (Some(count), Some((_, size))) = (number.take(), units.find(|(unit, _)| *unit == letter)) else {
            return Err(WANTED);
        };
        let part = count.checked_mul(*size).ok_or("the duration is too long")?;
        seconds = seconds.checked_add(part).ok_or("the duration is too long")?;
    }
    if number.is_some() || text.trim().is_empty() {
        return Err(WANTED);
    }
    if seconds > DURATION_SECONDS {
        return Err("the duration is longer than a year");
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in
            [("60s", 60), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), (" 1d2h3m4s ", 93_784), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_meant_differently() {
        for text in
            ["", "10", "s", "1m1h", "1m1m", "-5s", "1.5h", "5 m", "10ms", "99999999999999999999s", "400d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
