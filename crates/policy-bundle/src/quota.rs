//! Quota's windows (7.11). Times are in UTC, in milliseconds since the epoch.

use crate::civil::{Civil, DAY_MS, days_from_civil};
use std::collections::VecDeque;

/// The kinds of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// No `type`: from the boundary of the current unit.
    Default,
    /// Windows counted from a start time.
    Calendar(i64),
    /// The last interval, sliding.
    RollingWindow,
    /// From the first request of the identifier.
    Flexi,
}

/// The units of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days, from Sunday (the Java runtime's default; unconfirmed).
    Week,
    /// A calendar month; 28 days in rolling and flexi windows (derivative).
    Month,
    /// A calendar year; 365 days in rolling and flexi windows.
    Year,
}

impl TimeUnit {
    /// The unit of this name.
    pub fn parse(text: &str) -> Option<TimeUnit> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "minute" => TimeUnit::Minute,
            "hour" => TimeUnit::Hour,
            "day" => TimeUnit::Day,
            "week" => TimeUnit::Week,
            "month" => TimeUnit::Month,
            "year" => TimeUnit::Year,
            _ => return None,
        })
    }

    /// Its length where months are not of the calendar.
    fn fixed_ms(self) -> i64 {
        match self {
            TimeUnit::Minute => 60_000,
            TimeUnit::Hour => 3_600_000,
            TimeUnit::Day => DAY_MS,
            TimeUnit::Week => 7 * DAY_MS,
            TimeUnit::Month => 28 * DAY_MS,
            TimeUnit::Year => 365 * DAY_MS,
        }
    }

    fn months(self) -> Option<i64> {
        match self {
            TimeUnit::Month => Some(1),
            TimeUnit::Year => Some(12),
            _ => None,
        }
    }
}

/// What a Quota allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaConfig {
    /// The kind of window.
    pub kind: QuotaKind,
    /// Messages in a window.
    pub allow: u64,
    /// Units in a window, at least 1.
    pub interval: u64,
    /// The unit.
    pub unit: TimeUnit,
}

/// Does a call count, and can it be refused?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaMode {
    /// Both.
    CountAndEnforce,
    /// `CountOnly`.
    CountOnly,
    /// `EnforceOnly`.
    EnforceOnly,
}

/// What one Quota remembers for one identifier and class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaState {
    shape: Option<(QuotaKind, u64, TimeUnit)>,
    window_end: i64,
    used: u64,
    /// Rolling windows: first and last moment of a slice, and its weight.
    slices: VecDeque<(i64, i64, u64)>,
}

/// The outcome, and what the variables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaVerdict {
    /// May the message pass?
    pub admitted: bool,
    /// Used in this window, this message included if it was counted.
    pub used: u64,
    /// Left in this window.
    pub available: u64,
    /// When the window ends.
    pub expiry: i64,
}

/// The most slices of a rolling window: beyond it, neighbours share one.
const SLICES_MAX: i64 = 1024;

impl QuotaState {
    /// Counts a message of this weight, or refuses it: a refused one is not counted (unconfirmed).
    pub fn admit(
        &mut self,
        config: &QuotaConfig,
        now: i64,
        weight: u64,
        mode: QuotaMode,
    ) -> QuotaVerdict {
        let shape = Some((config.kind, config.interval, config.unit));
        if self.shape != shape {
            *self = QuotaState { shape, window_end: i64::MIN, ..QuotaState::default() };
        }
        let length = fixed_length(config);
        if config.kind == QuotaKind::RollingWindow {
            while let Some((_, last, weight)) = self.slices.front().copied() {
                if last.saturating_add(length) > now {
                    break;
                }
                self.used = self.used.saturating_sub(weight);
                self.slices.pop_front();
            }
        } else if now >= self.window_end {
            self.used = 0;
            self.window_end = window_end(config, now);
        }
        let fits = self.used.checked_add(weight).is_some_and(|sum| sum <= config.allow);
        let admitted = fits || mode == QuotaMode::CountOnly;
        if admitted && mode != QuotaMode::EnforceOnly && weight > 0 {
            self.used = self.used.saturating_add(weight);
            if config.kind == QuotaKind::RollingWindow {
                self.slice(now, length, weight);
            }
        }
        let expiry = match (config.kind, self.slices.front()) {
            (QuotaKind::RollingWindow, Some((_, last, _))) => last.saturating_add(length),
            (QuotaKind::RollingWindow, None) => now.saturating_add(length),
            _ => self.window_end,
        };
        QuotaVerdict {
            admitted,
            used: self.used,
            available: config.allow.saturating_sub(self.used),
            expiry,
        }
    }

    fn slice(&mut self, now: i64, length: i64, weight: u64) {
        let width = length / SLICES_MAX;
        match self.slices.back_mut() {
            Some((first, last, sum)) if now - *first < width || now == *last => {
                *last = now;
                *sum = sum.saturating_add(weight);
            }
            _ => self.slices.push_back((now, now, weight)),
        }
    }

    /// When it can be forgotten, in milliseconds since the epoch.
    pub(crate) fn idle_from(&self) -> i64 {
        match (self.shape, self.slices.back()) {
            (Some((QuotaKind::RollingWindow, interval, unit)), Some((_, last, _))) => {
                last.saturating_add(unit.fixed_ms().saturating_mul(interval as i64))
            }
            _ => self.window_end,
        }
    }
}

fn fixed_length(config: &QuotaConfig) -> i64 {
    config.unit.fixed_ms().saturating_mul(i64::try_from(config.interval).unwrap_or(i64::MAX))
}

fn window_end(config: &QuotaConfig, now: i64) -> i64 {
    let interval = i64::try_from(config.interval).unwrap_or(i64::MAX).max(1);
    match config.kind {
        QuotaKind::Flexi | QuotaKind::RollingWindow => now.saturating_add(fixed_length(config)),
        QuotaKind::Default => {
            let start = boundary(now, config.unit);
            match config.unit.months() {
                Some(months) => add_months(start, months.saturating_mul(interval)),
                None => start.saturating_add(fixed_length(config)),
            }
        }
        QuotaKind::Calendar(start) => match config.unit.months() {
            Some(months) => {
                let step = months.saturating_mul(interval);
                let (from, to) = (Civil::of(start), Civil::of(now));
                let elapsed =
                    (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month);
                let mut window = elapsed.div_euclid(step);
                while add_months(start, window.saturating_mul(step)) > now {
                    window -= 1;
                }
                while add_months(start, (window + 1).saturating_mul(step)) <= now {
                    window += 1;
                }
                add_months(start, (window + 1).saturating_mul(step))
            }
            None => {
                let length = fixed_length(config).max(1);
                let window = now.saturating_sub(start).div_euclid(length);
                start.saturating_add((window + 1).saturating_mul(length))
            }
        },
    }
}

/// The beginning of the unit in which a moment lies.
fn boundary(now: i64, unit: TimeUnit) -> i64 {
    let at = Civil::of(now);
    match unit {
        TimeUnit::Minute | TimeUnit::Hour | TimeUnit::Day => now - now.rem_euclid(unit.fixed_ms()),
        TimeUnit::Week => now - now.rem_euclid(DAY_MS) - i64::from(at.weekday) * DAY_MS,
        TimeUnit::Month => days_from_civil(at.year, at.month, 1) * DAY_MS,
        TimeUnit::Year => days_from_civil(at.year, 1, 1) * DAY_MS,
    }
}

/// As Java's Calendar: the 31st becomes the last day of a shorter month. Years are bounded, so
/// that no interval overflows.
fn add_months(start: i64, months: i64) -> i64 {
    let at = Civil::of(start);
    let sum = (at.year * 12 + i64::from(at.month) - 1)
        .saturating_add(months)
        .clamp(-12_000_000, 12_000_000);
    let (year, month) = (sum.div_euclid(12), sum.rem_euclid(12) as u32 + 1);
    let next = if month == 12 {
        days_from_civil(year + 1, 1, 1)
    } else {
        days_from_civil(year, month + 1, 1)
    };
    let last = (next - days_from_civil(year, month, 1)) as u32;
    days_from_civil(year, month, at.day.min(last)) * DAY_MS + start.rem_euclid(DAY_MS)
}

/// `2017-02-18 10:30:00`, in UTC.
pub(crate) fn parse_start_time(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once(' ')?;
    let numbers = |text: &str, separator: char| -> Option<[u32; 3]> {
        let parts: Vec<u32> = text
            .trim()
            .split(separator)
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| {
        days_from_civil(i64::from(year), month, day) * DAY_MS
            + i64::from(hour * 3600 + minute * 60 + second) * 1000
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;

    fn at(text: &str) -> i64 {
        parse_start_time(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn run(
        kind: QuotaKind,
        allow: u64,
        interval: u64,
        unit: TimeUnit,
        calls: &[(&str, bool, &str)],
    ) {
        let config = QuotaConfig { kind, allow, interval, unit };
        let mut state = QuotaState::default();
        for (moment, admitted, expiry) in calls {
            let verdict = state.admit(&config, at(moment), 1, QuotaMode::CountAndEnforce);
            assert_eq!(
                (verdict.admitted, verdict.expiry),
                (*admitted, at(expiry)),
                "{kind:?} {moment}"
            );
        }
    }

    #[test]
    fn without_a_type_the_window_is_the_clock_unit() {
        run(
            QuotaKind::Default,
            2,
            1,
            TimeUnit::Hour,
            &[
                ("2024-03-01 10:59:50", true, "2024-03-01 11:00:00"),
                ("2024-03-01 10:59:55", true, "2024-03-01 11:00:00"),
                ("2024-03-01 10:59:59", false, "2024-03-01 11:00:00"),
                ("2024-03-01 11:00:00", true, "2024-03-01 12:00:00"),
            ],
        );
        run(
            QuotaKind::Default,
            1,
            5,
            TimeUnit::Minute,
            &[
                ("2024-03-01 10:02:30", true, "2024-03-01 10:07:00"),
                ("2024-03-01 10:06:59", false, "2024-03-01 10:07:00"),
                ("2024-03-01 10:07:00", true, "2024-03-01 10:12:00"),
            ],
        );
        run(
            QuotaKind::Default,
            1,
            1,
            TimeUnit::Month,
            &[
                ("2024-02-29 10:00:00", true, "2024-03-01 00:00:00"),
                ("2024-03-01 00:00:00", true, "2024-04-01 00:00:00"),
            ],
        );
        run(
            QuotaKind::Default,
            1,
            1,
            TimeUnit::Week,
            &[("2024-03-01 10:00:00", true, "2024-03-03 00:00:00")],
        );
    }

    #[test]
    fn calendar_windows_are_counted_from_the_start_time() {
        run(
            QuotaKind::Calendar(at("2017-02-18 10:30:00")),
            1,
            5,
            TimeUnit::Hour,
            &[
                ("2017-02-18 11:00:00", true, "2017-02-18 15:30:00"),
                ("2017-02-18 15:29:59", false, "2017-02-18 15:30:00"),
                ("2017-02-18 15:30:00", true, "2017-02-18 20:30:00"),
            ],
        );
        run(
            QuotaKind::Calendar(at("2024-01-31 00:00:00")),
            1,
            1,
            TimeUnit::Month,
            &[
                ("2024-02-15 00:00:00", true, "2024-02-29 00:00:00"),
                ("2024-03-30 00:00:00", true, "2024-03-31 00:00:00"),
                ("2024-12-31 00:00:00", true, "2025-01-31 00:00:00"),
            ],
        );
        run(
            QuotaKind::Calendar(at("2030-01-01 00:00:00")),
            1,
            1,
            TimeUnit::Day,
            &[("2024-03-01 10:00:00", true, "2024-03-02 00:00:00")],
        );
    }

    #[test]
    fn flexi_windows_begin_with_the_first_request() {
        run(
            QuotaKind::Flexi,
            2,
            1,
            TimeUnit::Hour,
            &[
                ("2024-03-01 10:20:00", true, "2024-03-01 11:20:00"),
                ("2024-03-01 11:19:00", true, "2024-03-01 11:20:00"),
                ("2024-03-01 11:19:59", false, "2024-03-01 11:20:00"),
                ("2024-03-01 11:45:00", true, "2024-03-01 12:45:00"),
            ],
        );
        run(
            QuotaKind::Flexi,
            1,
            1,
            TimeUnit::Month,
            &[("2024-03-01 00:00:00", true, "2024-03-29 00:00:00")],
        );
    }

    #[test]
    fn rolling_windows_slide() {
        let config = QuotaConfig {
            kind: QuotaKind::RollingWindow,
            allow: 2,
            interval: 1,
            unit: TimeUnit::Minute,
        };
        let mut state = QuotaState::default();
        for (seconds, admitted) in
            [(0, true), (30, true), (59, false), (60, true), (80, false), (90, true), (119, false)]
        {
            let verdict = state.admit(&config, seconds * 1000, 1, QuotaMode::CountAndEnforce);
            assert_eq!(verdict.admitted, admitted, "at {seconds}");
        }
    }

    #[test]
    fn weights_and_modes_count_as_documented() {
        let config =
            QuotaConfig { kind: QuotaKind::Flexi, allow: 5, interval: 1, unit: TimeUnit::Hour };
        let mut state = QuotaState::default();
        let mut admit = |weight, mode| {
            let verdict = state.admit(&config, 0, weight, mode);
            (verdict.admitted, verdict.used, verdict.available)
        };
        assert_eq!(admit(3, QuotaMode::CountAndEnforce), (true, 3, 2));
        assert_eq!(admit(3, QuotaMode::CountAndEnforce), (false, 3, 2));
        assert_eq!(admit(0, QuotaMode::CountAndEnforce), (true, 3, 2));
        assert_eq!(admit(2, QuotaMode::EnforceOnly), (true, 3, 2));
        assert_eq!(admit(3, QuotaMode::EnforceOnly), (false, 3, 2));
        assert_eq!(admit(9, QuotaMode::CountOnly), (true, 12, 0));
        assert_eq!(admit(1, QuotaMode::CountAndEnforce), (false, 12, 0));
    }

    #[test]
    fn start_times_are_checked() {
        for text in
            ["2017-02-18", "2017-13-01 00:00:00", "2017-2-18 24:00:00", "x", "2017-02-18 1:2"]
        {
            assert_eq!(parse_start_time(text), None, "{text}");
        }
        assert_eq!(parse_start_time("2017-7-16 12:00:00"), parse_start_time("2017-07-16 12:00:00"));
    }

    proptest! {
        #[test]
        fn a_rolling_window_never_holds_more_than_it_allows(
            mut at in prop::collection::vec(0i64..10 * MINUTE, 1..200),
            allow in 1u64..10,
        ) {
            at.sort_unstable();
            let config = QuotaConfig { kind: QuotaKind::RollingWindow, allow, interval: 1, unit: TimeUnit::Minute };
            let mut state = QuotaState::default();
            let passed: Vec<i64> = at
                .into_iter()
                .filter(|at| state.admit(&config, *at, 1, QuotaMode::CountAndEnforce).admitted)
                .collect();
            for (index, first) in passed.iter().enumerate() {
                let inside = passed[index..].iter().take_while(|at| **at - first < MINUTE).count();
                prop_assert!(inside as u64 <= allow);
            }
            prop_assert!(state.slices.len() as i64 <= SLICES_MAX + 1);
        }

        #[test]
        fn a_window_ends_after_the_moment_in_it(
            now in 0i64..4_000_000_000_000,
            start in 0i64..4_000_000_000_000,
            interval in 1u64..10_000,
            unit in prop::sample::select(vec![TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day, TimeUnit::Week, TimeUnit::Month, TimeUnit::Year]),
        ) {
            for kind in [QuotaKind::Default, QuotaKind::Calendar(start), QuotaKind::Flexi] {
                let config = QuotaConfig { kind, allow: 1, interval, unit };
                prop_assert!(window_end(&config, now) > now, "{:?}", kind);
            }
        }
    }
}
