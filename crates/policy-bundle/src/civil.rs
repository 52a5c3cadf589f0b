//! Calendar arithmetic in UTC: from milliseconds since the epoch to dates and back.

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// A moment in UTC, split into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub millisecond: u32,
    /// 0 Sunday to 6 Saturday.
    pub weekday: u32,
    /// 1 to 366.
    pub day_of_year: u32,
}

impl Civil {
    /// The fields of a moment.
    pub fn of(unix_millis: i64) -> Civil {
        let days = unix_millis.div_euclid(DAY_MS);
        let rest = unix_millis.rem_euclid(DAY_MS) as u32;
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
            second: rest / 1000 % 60,
            millisecond: rest % 1000,
            weekday: (days + 4).rem_euclid(7) as u32,
            day_of_year: (days - days_from_civil(year, 1, 1)) as u32 + 1,
        }
    }
}

/// Days since the epoch of a date in the proleptic Gregorian calendar.
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_shifted + 2) / 5 + 1) as u32;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The names that Java's English locale prints.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// From Sunday.
pub(crate) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `Wed, 21 Aug 2013 19:16:47 UTC`, the shape of `system.time` (6).
pub(crate) fn system_time(unix_millis: i64) -> String {
    let at = Civil::of(unix_millis);
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} UTC",
        &WEEKDAYS[at.weekday as usize][..3],
        at.day,
        &MONTHS[at.month as usize - 1][..3],
        at.year,
        at.hour,
        at.minute,
        at.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_have_known_fields() {
        assert_eq!(system_time(1_377_112_607_000), "Wed, 21 Aug 2013 19:16:47 UTC");
        let leap = Civil::of(1_709_164_800_123);
        assert_eq!((leap.year, leap.month, leap.day, leap.millisecond), (2024, 2, 29, 123));
        assert_eq!(leap.day_of_year, 60);
        assert_eq!(Civil::of(-1).year, 1969);
    }

    proptest! {
        #[test]
        fn dates_go_there_and_back(days in -800_000i64..800_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
        }
    }
}
