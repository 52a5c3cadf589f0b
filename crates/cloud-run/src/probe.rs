//! Probes of an instance's containers (cloud-run 2.3): what their results mean, as plain data, and
//! how they are carried out over time.
//!
//! `ask` makes one attempt over the wire. [`Tally`] is pure: results in, verdicts out.

mod ask;

use runtime::log::Severity;
use slice::run::{Container, Probe, ProbeAction};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Has the container started?
    Startup,
    /// Must its instance be replaced?
    Liveness,
    /// May its instance get new requests?
    Readiness,
}

/// What a result has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Enough successes in a row.
    Passes,
    /// Enough failures in a row.
    Fails,
}

/// Results of one probe, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    purpose: Purpose,
    failures_max: u32,
    successes_min: u32,
    /// Results of one kind in a row.
    failures: u32,
    successes: u32,
    /// What was decided last. An instance that has started is alive and ready until a probe says
    /// otherwise (the latter (unconfirmed)).
    stands: Option<Verdict>,
}

impl Tally {
    /// No result yet.
    pub fn new(purpose: Purpose, probe: &Probe) -> Self {
        let successes_min = match purpose {
            Purpose::Readiness => probe.success_threshold.max(1),
            Purpose::Startup | Purpose::Liveness => 1,
        };
        let stands = (purpose != Purpose::Startup).then_some(Verdict::Passes);
        let failures_max = probe.failure_threshold.max(1);
        Tally { purpose, failures_max, successes_min, failures: 0, successes: 0, stands }
    }

    /// Counts a result; the verdict, if it is another one than before.
    pub fn count(&mut self, passed: bool) -> Option<Verdict> {
        let verdict = if passed {
            (self.failures, self.successes) = (0, self.successes.saturating_add(1));
            (self.successes >= self.successes_min).then_some(Verdict::Passes)
        } else {
            (self.failures, self.successes) = (self.failures.saturating_add(1), 0);
            (self.failures >= self.failures_max).then_some(Verdict::Fails)
        };
        let verdict = verdict.filter(|verdict| self.stands != Some(*verdict))?;
        self.stands = Some(verdict);
        Some(verdict)
    }
}

/// A probe of one container of an instance, and where it is reached.
#[derive(Clone, Debug)]
pub struct Probed {
    purpose: Purpose,
    probe: Probe,
    container: String,
    /// Nobody wrote this probe; it is the default.
    is_default: bool,
    address: SocketAddr,
}

impl Probed {
    /// What must pass before the container counts as started: its own probe, by default a
    /// connection to the ingress container's port; none for a sidecar without a probe (2.3).
    /// `place` says where a port of the container is reached.
    pub fn startup(container: &Container, place: impl Fn(u16) -> SocketAddr) -> Option<Self> {
        let probe = match (&container.startup_probe, container.port) {
            (Some(probe), _) => probe.clone(),
            (None, Some(port)) => default_startup(port.number),
            (None, None) => return None,
        };
        let is_default = container.startup_probe.is_none();
        Some(Probed::new(Purpose::Startup, probe, container, is_default, place))
    }

    /// The probes that go on while the instance serves.
    pub fn running(container: &Container, place: impl Fn(u16) -> SocketAddr) -> Vec<Self> {
        let all = [
            (Purpose::Liveness, &container.liveness_probe),
            (Purpose::Readiness, &container.readiness_probe),
        ];
        let written =
            all.into_iter().filter_map(|(purpose, probe)| Some((purpose, probe.clone()?)));
        written
            .map(|(purpose, probe)| Probed::new(purpose, probe, container, false, &place))
            .collect()
    }

    fn new(
        purpose: Purpose,
        probe: Probe,
        container: &Container,
        is_default: bool,
        place: impl Fn(u16) -> SocketAddr,
    ) -> Self {
        let address = place(port(&probe.action));
        Probed { purpose, probe, container: container.name.clone(), is_default, address }
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Probes until the container has started; how many attempts that took.
    ///
    /// # Errors
    /// What the log says of a container that has not started in time.
    pub async fn until_started(&self) -> Result<u32, Ended> {
        let mut tally = Tally::new(self.purpose, &self.probe);
        let mut due = Instant::now() + seconds(self.probe.initial_delay_seconds);
        let mut attempts = 0;
        loop {
            attempts += 1;
            sleep_until(due).await;
            due = Instant::now() + self.period();
            // A port that is not open yet is asked again within the attempt: the default probe, one
            // attempt of 240 s, cannot mean anything else ((unconfirmed) for those with a probe of
            // their own).
            let result = ask::patiently(&self.probe.action, self.address, self.timeout()).await;
            let verdict = tally.count(result.is_ok());
            match (verdict, result) {
                (Some(Verdict::Passes), _) => return Ok(attempts),
                (Some(Verdict::Fails), Err(why)) => return Err(self.ended(attempts, why)),
                _ => {}
            }
        }
    }

    /// Probes on while the instance serves, and tells each change of the verdict; for ever, but for
    /// liveness only until it fails.
    pub async fn watch(&self, mut changed: impl FnMut(Verdict, Ended)) {
        let mut tally = Tally::new(self.purpose, &self.probe);
        let mut due = Instant::now() + seconds(self.probe.initial_delay_seconds);
        loop {
            sleep_until(due).await;
            due = Instant::now() + self.period();
            let result = ask::once(&self.probe.action, self.address, self.timeout()).await;
            let Some(verdict) = tally.count(result.is_ok()) else { continue };
            let results = tally.failures.max(tally.successes);
            changed(verdict, self.ended(results, result.err().unwrap_or_default()));
            if self.purpose == Purpose::Liveness {
                return;
            }
        }
    }

    fn timeout(&self) -> Duration {
        seconds(self.probe.timeout_seconds.max(1))
    }

    fn period(&self) -> Duration {
        seconds(self.probe.period_seconds.max(1))
    }

    fn ended(&self, results: u32, why: String) -> Ended {
        Ended { name: self.to_string(), results, place: self.place(), purpose: self.purpose, why }
    }

    fn place(&self) -> String {
        format!("for container \"{}\" on port {}", self.container, port(&self.probe.action))
    }

    /// What the log says of a container that has started (the form is (unconfirmed)).
    pub fn succeeded(&self, attempts: u32) -> String {
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        format!("{self} probe succeeded after {attempts} {times} {}.", self.place())
    }
}

impl fmt::Display for Probed {
    /// `Default STARTUP TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = if self.is_default { "Default " } else { "" };
        let purpose = match self.purpose {
            Purpose::Startup => "STARTUP",
            Purpose::Liveness => "LIVENESS",
            Purpose::Readiness => "READINESS",
        };
        let action = match self.probe.action {
            ProbeAction::Tcp { .. } => "TCP",
            ProbeAction::Http { .. } => "HTTP",
            ProbeAction::Grpc { .. } => "GRPC",
        };
        write!(f, "{default}{purpose} {action}")
    }
}

/// Results that have decided something, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    name: String,
    results: u32,
    place: String,
    purpose: Purpose,
    /// What the last attempt met with, if it failed.
    pub why: String,
}

impl Ended {
    /// The log entry's severity and text (2.3; readiness (unconfirmed)).
    pub fn text(&self, verdict: Verdict) -> (Severity, String) {
        let Ended { name, results, place, purpose, .. } = self;
        let times = if *results == 1 { "time" } else { "times" };
        let (severity, what, consequence) = match (verdict, purpose) {
            (Verdict::Passes, Purpose::Readiness) => {
                (Severity::Info, "succeeded", "The instance gets new requests again.")
            }
            (Verdict::Passes, _) => (Severity::Info, "succeeded", ""),
            (Verdict::Fails, Purpose::Startup) => {
                (Severity::Error, "failed", "The instance was not started.")
            }
            (Verdict::Fails, Purpose::Liveness) => {
                (Severity::Error, "failed", "The instance has been shut down.")
            }
            (Verdict::Fails, Purpose::Readiness) => {
                (Severity::Warning, "failed", "The instance gets no new requests.")
            }
        };
        let text = format!("{name} probe {what} {results} {times} consecutively {place}.");
        (severity, format!("{text} {consequence}").trim_end().to_owned())
    }
}

/// "TCP on containerPort, timeout 240, period 240, failureThreshold 1" (2.3).
fn default_startup(port: u16) -> Probe {
    Probe {
        action: ProbeAction::Tcp { port },
        initial_delay_seconds: 0,
        timeout_seconds: 240,
        period_seconds: 240,
        failure_threshold: 1,
        success_threshold: 1,
    }
}

fn port(action: &ProbeAction) -> u16 {
    match action {
        ProbeAction::Tcp { port }
        | ProbeAction::Http { port, .. }
        | ProbeAction::Grpc { port, .. } => *port,
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests;
