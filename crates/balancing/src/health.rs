//! What probes say of an endpoint.

use crate::Availability;
use slice::load_balancer::HealthCheck;

/// The state of an endpoint by its health check: thresholds count results in a row that speak
/// against the present state. The first result decides alone, as in Envoy: a program that was
/// started together with its backends serves after one probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    standing: Standing,
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
    /// The state after one more result.
    pub fn after(self, passed: bool, check: &HealthCheck) -> Health {
        let (agrees, threshold) = match self.standing {
            Standing::Unproven => (false, 1),
            Standing::Healthy => (passed, check.unhealthy_threshold),
            Standing::Unhealthy => (!passed, check.healthy_threshold),
        };
        if agrees {
            return Health { against: 0, ..self };
        }
        if self.against + 1 < threshold {
            return Health { against: self.against + 1, ..self };
        }
        let standing = if passed { Standing::Healthy } else { Standing::Unhealthy };
        Health { standing, against: 0 }
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
    fn the_first_probe_decides_and_then_thresholds_do() {
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
        for (probes, standings) in
            [("+", "H"), ("-", "U"), ("+--+---", "HHHHHHU"), ("-+-++", "UUUUH")]
        {
            let mut health = Health::default();
            assert_eq!(health.standing(), Standing::Unproven);
            for (probe, expected) in probes.chars().zip(standings.chars()) {
                health = health.after(probe == '+', &check);
                assert!(health.standing().as_str().starts_with(expected), "{probes} {standings}");
            }
        }
    }
}
