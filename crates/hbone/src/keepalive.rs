//! The pulse of a connection: PING as long as it lives, whether or not it carries anything. The
//! same moments serve to judge the peer again and to close what is idle.

use crate::limits::KEEPALIVE;
use h2::{Ping, PingPong};
use std::future::poll_fn;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

pub(crate) struct Keepalive {
    ping: PingPong,
    interval: Interval,
    waiting: bool,
}

/// What a pulse found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// The peer has answered.
    Answered,
    /// Another interval has passed, and the last PING of it was answered.
    Interval,
    /// It was not.
    Dead,
}

impl Keepalive {
    /// Sends the first PING at once.
    pub(crate) fn new(mut ping: PingPong) -> Self {
        let waiting = ping.send_ping(Ping::opaque()).is_ok();
        let mut interval = interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Keepalive { ping, interval, waiting }
    }

    /// Waits for the next pulse. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Pulse {
        let Keepalive { ping, interval, waiting } = self;
        tokio::select! {
            pong = poll_fn(|cx| ping.poll_pong(cx)), if *waiting => {
                *waiting = false;
                if pong.is_ok() { Pulse::Answered } else { Pulse::Dead }
            }
            _ = interval.tick() => {
                if *waiting {
                    return Pulse::Dead;
                }
                *waiting = ping.send_ping(Ping::opaque()).is_ok();
                Pulse::Interval
            }
        }
    }
}
