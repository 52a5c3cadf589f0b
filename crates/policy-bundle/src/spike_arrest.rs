//! SpikeArrest's smoothing (7.12): one message per slot of time, a burst of one, no window.

use std::fmt;

/// A rate: so many messages per second or per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages in a period, at least 1.
    pub messages: u64,
    /// The period in microseconds.
    pub period_micros: u64,
}

impl Rate {
    /// `30ps` or `12pm`; none for anything else (`InvalidAllowedRate`).
    pub fn parse(text: &str) -> Option<Rate> {
        let text = text.trim();
        let (digits, period_micros) = if let Some(digits) = text.strip_suffix("ps") {
            (digits, 1_000_000)
        } else {
            (text.strip_suffix("pm")?, 60_000_000)
        };
        let digits = digits.trim_end();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let messages = digits.parse().ok().filter(|messages| *messages > 0)?;
        Some(Rate { messages, period_micros })
    }

    /// Nanoseconds from one message to the next.
    fn slot(self) -> u64 {
        (self.period_micros * 1000 / self.messages).max(1)
    }
}

impl fmt::Display for Rate {
    /// The words of the fault (8.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MessageRate{{messagesPerPeriod={}, periodInMicroseconds={}, maxBurstMessageCount=1.0}}",
            self.messages, self.period_micros
        )
    }
}

/// What one SpikeArrest remembers for one identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpikeArrestState {
    /// From when on the next message is let through, in nanoseconds of a monotonic clock.
    next: u64,
}

impl SpikeArrestState {
    /// May a message of this weight pass now? A weight of w takes w slots; 0 is free.
    pub fn admit(&mut self, now_nanos: u64, rate: Rate, weight: u64) -> bool {
        if weight == 0 {
            return true;
        }
        if now_nanos < self.next {
            return false;
        }
        self.next = now_nanos.saturating_add(rate.slot().saturating_mul(weight));
        true
    }

    /// Can it be forgotten?
    pub(crate) fn is_idle(&self, now_nanos: u64) -> bool {
        self.next <= now_nanos
    }

    /// When it can be forgotten.
    pub(crate) fn idle_from(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_are_per_second_or_per_minute() {
        for (text, rate) in [
            ("30ps", Some((30, 1_000_000))),
            (" 12pm ", Some((12, 60_000_000))),
            ("30s", None),
            ("ps", None),
            ("0ps", None),
            ("-1ps", None),
            ("1.5ps", None),
        ] {
            let parsed = Rate::parse(text).map(|rate| (rate.messages, rate.period_micros));
            assert_eq!(parsed, rate, "{text}");
        }
    }

    #[test]
    fn twelve_a_minute_refuses_a_second_call_within_five_seconds() {
        let rate = Rate::parse("12pm").expect("a rate");
        let mut state = SpikeArrestState::default();
        for (at, admitted) in [
            (0, true),
            (1, false),
            (4_999_999_999, false),
            (5 * SECOND, true),
            (9 * SECOND, false),
            (60 * SECOND, true),
            (61 * SECOND, false),
        ] {
            assert_eq!(state.admit(at, rate, 1), admitted, "at {at}");
        }
    }

    #[test]
    fn a_weight_takes_as_many_slots() {
        let rate = Rate::parse("10ps").expect("a rate");
        let mut state = SpikeArrestState::default();
        assert!(state.admit(0, rate, 3));
        assert!(!state.admit(SECOND / 4, rate, 1));
        assert!(state.admit(SECOND / 4, rate, 0), "weight 0 is free");
        assert!(state.admit(3 * SECOND / 10, rate, 1));
    }

    #[test]
    fn the_fault_prints_the_message_rate() {
        assert_eq!(
            Rate::parse("12pm").expect("a rate").to_string(),
            "MessageRate{messagesPerPeriod=12, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}"
        );
    }

    proptest! {
        #[test]
        fn two_messages_never_pass_within_one_slot(
            mut at in prop::collection::vec(0u64..10 * SECOND, 1..60),
            messages in 1u64..50,
        ) {
            at.sort_unstable();
            let rate = Rate { messages, period_micros: 1_000_000 };
            let mut state = SpikeArrestState::default();
            let passed: Vec<u64> = at.into_iter().filter(|at| state.admit(*at, rate, 1)).collect();
            for pair in passed.windows(2) {
                prop_assert!(pair[1] - pair[0] >= SECOND / messages);
            }
        }
    }
}
