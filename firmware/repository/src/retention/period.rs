//! Hours, days, weeks, months and years, as numbers that are equal within one of them.

/// A rule of retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The newest ones, whenever they were made.
    Last,
    /// One for each hour.
    Hourly,
    /// One for each day.
    Daily,
    /// One for each week, which begins on Monday.
    Weekly,
    /// One for each month.
    Monthly,
    /// One for each year.
    Yearly,
}

const DAY: i64 = 86_400;

impl Rule {
    /// In the order in which they are applied.
    pub const ALL: [Rule; 6] =
        [Rule::Last, Rule::Hourly, Rule::Daily, Rule::Weekly, Rule::Monthly, Rule::Yearly];

    /// The number of the period that this time (seconds since 1970) falls into, local time being `offset` seconds ahead
    /// of UTC. For [`Rule::Last`] every second is one.
    pub fn period(self, time: i64, offset: i32) -> i64 {
        let local = time.saturating_add(i64::from(offset));
        let days = local.div_euclid(DAY);
        match self {
            Rule::Last => local,
            Rule::Hourly => local.div_euclid(3600),
            Rule::Daily => days,
            // 1970-01-01 was a Thursday.
            Rule::Weekly => (days + 3).div_euclid(7),
            Rule::Monthly => month(days),
            Rule::Yearly => month(days).div_euclid(12),
        }
    }
}

/// Months since January of the year 0 in the Gregorian calendar, from days since 1970. A year begins in March here, so
/// that the leap day is its last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn month(days: i64) -> i64 {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // 0 for March.
    let month = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + month + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29 12:00 UTC, a Thursday.
    const LEAP: i64 = 1_709_208_000;

    #[test]
    fn periods_end_where_the_calendar_says() {
        let same = |rule: Rule, a: i64, b: i64| rule.period(a, 0) == rule.period(b, 0);
        let half = DAY / 2;
        assert!(same(Rule::Hourly, LEAP, LEAP + 3599) && !same(Rule::Hourly, LEAP, LEAP - 1));
        assert!(same(Rule::Daily, LEAP, LEAP - half) && !same(Rule::Daily, LEAP, LEAP + half));
        // Monday to Sunday.
        assert!(same(Rule::Weekly, LEAP, LEAP - 3 * DAY) && !same(Rule::Weekly, LEAP, LEAP - 4 * DAY));
        assert!(same(Rule::Weekly, LEAP, LEAP + 3 * DAY) && !same(Rule::Weekly, LEAP, LEAP + 4 * DAY));
        assert!(same(Rule::Monthly, LEAP, LEAP - 28 * DAY) && !same(Rule::Monthly, LEAP, LEAP + DAY));
        assert!(!same(Rule::Monthly, LEAP, LEAP - 29 * DAY));
        assert!(same(Rule::Yearly, LEAP, LEAP - 59 * DAY) && !same(Rule::Yearly, LEAP, LEAP - 60 * DAY));
        assert!(same(Rule::Yearly, LEAP, LEAP + 306 * DAY) && !same(Rule::Yearly, LEAP, LEAP + 307 * DAY));
    }

    #[test]
    fn months_and_years_are_counted_one_by_one() {
        let (mut months, mut years) = (0, 0);
        for day in 1..=DAY_COUNT {
            let step = |rule: Rule| rule.period(day * DAY, 0) - rule.period((day - 1) * DAY, 0);
            assert!((0..=1).contains(&step(Rule::Monthly)) && (0..=1).contains(&step(Rule::Yearly)));
            months += step(Rule::Monthly);
            years += step(Rule::Yearly);
        }
        assert_eq!((months, years), (400 * 12, 400));
    }

    /// Days in 400 years.
    const DAY_COUNT: i64 = 146_097;

    #[test]
    fn a_day_begins_at_local_midnight() {
        let utc_midnight = LEAP + DAY / 2;
        for (offset, same) in [(0, false), (3600, true), (-3600, true)] {
            let day = |time| Rule::Daily.period(time, offset);
            assert_eq!(day(utc_midnight - 1) == day(utc_midnight), same);
        }
    }
}
