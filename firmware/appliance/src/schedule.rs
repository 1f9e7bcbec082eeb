//! When backups begin by themselves: times of day in the box's time zone.
//!
//! Understood of systemd's calendar form: `02:30`, `02:30:00`, `*-*-* 02:30`, `daily`, and several of these,
//! separated by commas. A time that does not exist on the day the clocks go forward falls on the next one that
//! does; one that exists twice counts once, the first time.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, Duration, NaiveTime, TimeZone};

/// A calendar expression that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not understood: write a time of day such as \"02:30\", or several, separated by commas"
)]
pub struct ScheduleError {
    text: String,
}

/// Times of day, in ascending order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    times: Vec<NaiveTime>,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let time = |part: &str| {
            let part = part.trim();
            let part = part.strip_prefix("*-*-* ").unwrap_or(part).trim_start();
            if part == "daily" {
                return Some(NaiveTime::MIN);
            }
            ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(part, form).ok())
        };
        let times: Option<Vec<NaiveTime>> = text.split(',').map(time).collect();
        let mut times = times.ok_or_else(|| ScheduleError { text: text.chars().take(60).collect() })?;
        times.sort_unstable();
        times.dedup();
        Ok(Self { times })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("daily at ")?;
        for (place, time) in self.times.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", time.format("%H:%M"))?;
        }
        Ok(())
    }
}

impl Schedule {
    /// The latest time, not after `now`, at which a backup was due.
    pub fn last_due<Z: TimeZone>(&self, now: &DateTime<Z>) -> Option<DateTime<Z>> {
        self.around(now).filter(|due| due <= now).max()
    }

    /// The earliest time after `now` at which a backup will be due.
    pub fn next_due<Z: TimeZone>(&self, now: &DateTime<Z>) -> Option<DateTime<Z>> {
        self.around(now).filter(|due| due > now).min()
    }

    /// Every due time of the days around `now`.
    fn around<Z: TimeZone>(&self, now: &DateTime<Z>) -> impl Iterator<Item = DateTime<Z>> {
        let today = now.date_naive();
        let zone = now.timezone();
        let days = [today.checked_sub_days(Days::new(1)), Some(today), today.checked_add_days(Days::new(1))];
        let all =
            days.into_iter().flatten().flat_map(|day| self.times.iter().map(move |time| day.and_time(*time)));
        all.filter_map(move |local| {
            // Clocks never jump forward by more than a few hours, in steps of half an hour.
            (0..8)
                .find_map(|step| zone.from_local_datetime(&(local + Duration::minutes(30 * step))).earliest())
        })
        .collect::<Vec<_>>()
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    fn at(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    #[test]
    fn the_last_and_the_next_time_are_found() {
        let schedule: Schedule = "02:30, 14:00".parse().unwrap();
        for (now, last, next) in [
            ("2026-03-10T02:29:59+01:00", "2026-03-09T14:00:00+01:00", "2026-03-10T02:30:00+01:00"),
            ("2026-03-10T02:30:00+01:00", "2026-03-10T02:30:00+01:00", "2026-03-10T14:00:00+01:00"),
            ("2026-03-10T23:00:00+01:00", "2026-03-10T14:00:00+01:00", "2026-03-11T02:30:00+01:00"),
        ] {
            assert_eq!(schedule.last_due(&at(now)), Some(at(last)), "{now}");
            assert_eq!(schedule.next_due(&at(now)), Some(at(next)), "{now}");
        }
    }

    #[test]
    fn forms_of_systemd_are_read_and_nonsense_is_not() {
        let plain: Schedule = "02:30".parse().unwrap();
        assert_eq!("*-*-* 02:30:00".parse(), Ok(plain));
        assert_eq!("daily".parse::<Schedule>().unwrap().to_string(), "daily at 00:00");
        for text in ["", "25:00", "2h", "Mon 02:30", "02:30,", "*-*-01 02:30"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_box_that_woke_up_at_the_end_of_time_does_not_panic() {
        let schedule: Schedule = "02:30".parse().unwrap();
        for now in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let _ = (schedule.last_due(&now), schedule.next_due(&now));
        }
    }
}
