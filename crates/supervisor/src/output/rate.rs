//! How much of what a workload writes is kept: so many lines and bytes a second, with some more in a
//! burst. Pure: the time comes from the caller.

use std::time::Duration;

/// Lines a second, and at once after a quiet time.
pub const LINES: u32 = 1000;
const LINES_BURST: f64 = 10.0 * LINES as f64;
/// Bytes a second, and at once after a quiet time.
pub const BYTES: u32 = 1024 * 1024;
const BYTES_BURST: f64 = 8.0 * BYTES as f64;

/// Two token buckets, and what found them empty.
#[derive(Clone, Debug)]
pub struct Rate {
    at: Duration,
    lines: f64,
    bytes: f64,
    over: bool,
    dropped: (u64, u64),
}

impl Default for Rate {
    fn default() -> Self {
        let at = Duration::ZERO;
        Rate { at, lines: LINES_BURST, bytes: BYTES_BURST, over: false, dropped: (0, 0) }
    }
}

impl Rate {
    /// Is a line of this length kept?
    pub fn takes(&mut self, now: Duration, length: usize) -> bool {
        let past = now.saturating_sub(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.lines = (self.lines + past * f64::from(LINES)).min(LINES_BURST);
        self.bytes = (self.bytes + past * f64::from(BYTES)).min(BYTES_BURST);
        let length = length as f64;
        self.over = self.lines < 1.0 || self.bytes < length;
        if !self.over {
            self.lines -= 1.0;
            self.bytes -= length;
        }
        !self.over
    }

    /// Was the last line too much?
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Counts what is not kept.
    pub fn dropped(&mut self, lines: u64, bytes: usize) {
        self.dropped.0 += lines;
        self.dropped.1 += bytes as u64;
    }

    /// Lines and bytes that were dropped since this was asked last, if any.
    pub fn told(&mut self) -> Option<(u64, u64)> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped != (0, 0)).then_some(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_held_to_the_rate() {
        let mut rate = Rate::default();
        let second = Duration::from_secs(1);
        let mut kept =
            |now, lines: u32, length| (0..lines).filter(|_| rate.takes(now, length)).count() as u32;
        assert_eq!(kept(second, 20_000, 10), 10 * LINES);
        assert_eq!(kept(2 * second, 20_000, 10), LINES);
        assert_eq!(kept(3 * second, 20, 10), 20, "what is below the rate is never dropped");
        assert_eq!(kept(100 * second, 100, 128 * 1024), 64, "8 MiB");
        assert_eq!(kept(101 * second, 100, 128 * 1024), 8, "1 MiB a second");
        rate.dropped(1, 5);
        rate.dropped(0, 7);
        assert_eq!((rate.told(), rate.told()), (Some((1, 12)), None));
    }
}
