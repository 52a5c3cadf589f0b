//! What probes say of an endpoint.

use crate::Availability;
use slice::load_balancer::HealthCheck;

/// The state of an endpoint by its health check: thresholds count results in a row that speak
/// against the present state. The first success of an endpoint that was never healthy decides
/// alone, as in Envoy: what was started together with its backends serves after one probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    standing: Standing,
    was_healthy: bool,
    against: u32,
}

/// Google's `healthState`, and what is before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// No probe has ended yet.
    #[default]
    Unproven,
    /// HEALTHY.
    Healthy,
    /// UNHEALTHY.
    Unhealthy,
}

impl Health {
    /// The state of an endpoint that has this standing.
    pub fn of(standing: Standing) -> Health {
        Health { standing, was_healthy: standing == Standing::Healthy, against: 0 }
    }

    /// The state after one more result.
    pub fn after(self, passed: bool, check: &HealthCheck) -> Health {
        let agrees = match self.standing {
            Standing::Unproven => false,
            Standing::Healthy => passed,
            Standing::Unhealthy => !passed,
        };
        if agrees {
            return Health { against: 0, ..self };
        }
        let threshold = match passed {
            true if !self.was_healthy => 1,
            true => check.healthy_threshold,
            false => check.unhealthy_threshold,
        };
        if self.against + 1 < threshold {
            return Health { against: self.against + 1, ..self };
        }
        let standing = if passed { Standing::Healthy } else { Standing::Unhealthy };
        Health { standing, was_healthy: self.was_healthy || passed, against: 0 }
    }

    /// Has it ever been healthy?
    pub fn was_healthy(self) -> bool {
        self.was_healthy
    }

    /// What it is.
    pub fn standing(self) -> Standing {
        self.standing
    }
}

impl Standing {
    /// As a report says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Unproven => "UNKNOWN",
            Standing::Healthy => "HEALTHY",
            Standing::Unhealthy => "UNHEALTHY",
        }
    }

    /// What a report says.
    pub fn of(text: &str) -> Standing {
        match text {
            "HEALTHY" => Standing::Healthy,
            "UNHEALTHY" => Standing::Unhealthy,
            _ => Standing::Unproven,
        }
    }

    /// May an endpoint of this standing be chosen?
    pub fn availability(self) -> Availability {
        match self {
            Standing::Unproven => Availability::Unproven,
            Standing::Healthy => Availability::Available,
            Standing::Unhealthy => Availability::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::SelfLink;
    use slice::load_balancer::Probe;
    use std::time::Duration;

    #[test]
    fn the_first_success_decides_alone_and_then_thresholds_do() {
        let check = HealthCheck {
            self_link: SelfLink::regional("p", "r", "healthChecks", "c"),
            probe: Probe::Tcp { tls: false, request: String::new(), response: String::new() },
            port: None,
            proxy_header: false,
            check_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            log: false,
        };
        // ? before the first success or enough failures.
        for (probes, standings) in [
            ("+", "h"),
            ("---", "??u"),
            ("--+", "??h"),
            ("---+", "??uh"),
            ("+--+---", "hhhhhhu"),
            ("+---+-++", "hhhuuuuh"),
        ] {
            let mut health = Health::default();
            let mut seen = String::new();
            for probe in probes.chars() {
                health = health.after(probe == '+', &check);
                seen.push(match health.standing() {
                    Standing::Unproven => '?',
                    Standing::Healthy => 'h',
                    Standing::Unhealthy => 'u',
                });
            }
            assert_eq!(seen, standings, "{probes}");
            assert_eq!(health.was_healthy(), standings.contains('h'));
        }
    }
}
