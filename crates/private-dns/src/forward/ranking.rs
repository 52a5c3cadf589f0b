//! Which name server is asked first: the one that answers, and answers soonest
//! (private-connectivity 4.1 step 1: "ranked by success and latency").

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A name server that was silent stands behind the others for so long, and is then tried again.
const SILENCE_FORGOTTEN: Duration = Duration::from_secs(30);
/// What is assumed of a name server that was never asked: it comes before a slow one.
const LATENCY_UNKNOWN: Duration = Duration::from_millis(20);
/// The next name server is asked after four times the latency of the one before, within these.
const PATIENCE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// More name servers than this are not remembered; a topology has less.
const KNOWN_MAX: usize = 4096;

/// What one worker knows of name servers.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    known: HashMap<Ipv4Addr, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Smoothed as RFC 6298 does.
    latency: Duration,
    silent: Option<Instant>,
}

impl Ranking {
    /// Sorts name servers, the best first; equals stay in the order of the file.
    pub(crate) fn sort(&self, servers: &mut [Ipv4Addr], now: Instant) {
        servers.sort_by_key(|server| {
            let known = self.known.get(server);
            let silent = known.and_then(|known| known.silent);
            let is_silent = silent.is_some_and(|at| now.duration_since(at) < SILENCE_FORGOTTEN);
            (is_silent, known.map_or(LATENCY_UNKNOWN, |known| known.latency))
        });
    }

    /// How long to wait for this one alone, before the next is asked too.
    pub(crate) fn patience(&self, server: Ipv4Addr) -> Duration {
        let latency = self.known.get(&server).map_or(PATIENCE[1], |known| known.latency);
        (latency * 4).clamp(PATIENCE[0], PATIENCE[1])
    }

    /// It answered after so long.
    pub(crate) fn answered(&mut self, server: Ipv4Addr, latency: Duration) {
        let before = self.known.get(&server).map_or(latency, |known| known.latency);
        self.set(server, Known { latency: before * 7 / 8 + latency / 8, silent: None });
    }

    /// It did not answer while others were waited for.
    pub(crate) fn silent(&mut self, server: Ipv4Addr, now: Instant) {
        let latency = self.known.get(&server).map_or(LATENCY_UNKNOWN, |known| known.latency);
        self.set(server, Known { latency, silent: Some(now) });
    }

    fn set(&mut self, server: Ipv4Addr, known: Known) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&server) {
            self.known.clear();
        }
        self.known.insert(server, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const C: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    fn sorted(ranking: &Ranking, now: Instant) -> Vec<Ipv4Addr> {
        let mut servers = vec![A, B, C];
        ranking.sort(&mut servers, now);
        servers
    }

    #[test]
    fn the_fastest_comes_first_and_the_silent_last_until_it_is_forgotten() {
        let begin = Instant::now();
        let mut ranking = Ranking::default();
        assert_eq!(sorted(&ranking, begin), [A, B, C], "the file's order while nothing is known");
        ranking.answered(A, Duration::from_millis(80));
        ranking.answered(C, Duration::from_millis(2));
        assert_eq!(sorted(&ranking, begin), [C, B, A]);
        ranking.silent(C, begin);
        assert_eq!(sorted(&ranking, begin), [B, A, C]);
        assert_eq!(sorted(&ranking, begin + SILENCE_FORGOTTEN), [C, B, A]);
        ranking.answered(C, Duration::from_millis(2));
        assert_eq!(sorted(&ranking, begin), [C, B, A], "an answer makes good for silence");
    }

    #[test]
    fn patience_follows_latency_within_its_bounds() {
        let mut ranking = Ranking::default();
        assert_eq!(ranking.patience(A), PATIENCE[1]);
        ranking.answered(A, Duration::from_millis(1));
        assert_eq!(ranking.patience(A), PATIENCE[0]);
        ranking.answered(B, Duration::from_millis(100));
        assert_eq!(ranking.patience(B), Duration::from_millis(400));
        ranking.answered(C, Duration::from_secs(2));
        assert_eq!(ranking.patience(C), PATIENCE[1]);
    }
}
