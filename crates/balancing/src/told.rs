//! A table of what a topology says, with what its load balancer says of the endpoints: what
//! `explain` and `check` ask.

use crate::{Availability, Capacity, Member, Standing, Table, stable_hash};
use slice::BackendState;
use slice::load_balancer::{BackendService, Endpoints, NetworkEndpointGroup};

impl Table {
    /// The table of a backend service. Without states (nothing runs) every endpoint counts as
    /// healthy.
    pub fn told(
        service: &BackendService,
        groups: &[NetworkEndpointGroup],
        states: Option<&[BackendState]>,
    ) -> Table {
        let member = |text: String| Member {
            identity: stable_hash(text.as_bytes()),
            availability: availability(service, &text, states),
        };
        let groups: Vec<_> = service
            .backends
            .iter()
            .map(|backend| {
                let group = groups.iter().find(|group| group.self_link == backend.group);
                let members = match group.map(|group| &group.endpoints) {
                    Some(Endpoints::Addresses { endpoints, .. }) => {
                        endpoints.iter().map(|address| member(address.to_string())).collect()
                    }
                    Some(Endpoints::Instances(all)) => all
                        .sockets(&service.port_name)
                        .iter()
                        .map(|address| member(address.to_string()))
                        .collect(),
                    Some(Endpoints::Fqdn(endpoints)) => {
                        endpoints.iter().map(|one| member(one.fqdn.clone())).collect()
                    }
                    Some(Endpoints::ServiceAttachment(to)) => {
                        vec![member(to.endpoint.self_link.to_string())]
                    }
                    Some(Endpoints::CloudRun(_)) | None => Vec::new(),
                };
                (Capacity::of(backend), members)
            })
            .collect();
        Table::new(service.locality_lb_policy, &groups)
    }
}

/// What was said of an endpoint; a name has as many endpoints as addresses, of which the best
/// counts. Of an endpoint of which nothing was said nothing bad is known.
fn availability(
    service: &BackendService,
    endpoint: &str,
    states: Option<&[BackendState]>,
) -> Availability {
    let said = states.unwrap_or_default().iter().filter(|state| {
        state.backend_service == service.self_link
            && (state.endpoint == endpoint || state.endpoint.ends_with(&format!("({endpoint})")))
    });
    let one = |state: &BackendState| match state.ejected {
        true => Availability::Unavailable,
        false => Standing::of(&state.health_state).availability(),
    };
    let rank = |availability: &Availability| match availability {
        Availability::Available => 0,
        Availability::Unproven => 1,
        Availability::Leaving | Availability::Unavailable => 2,
    };
    said.map(one).min_by_key(rank).unwrap_or(Availability::Available)
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::SelfLink;

    #[test]
    fn a_service_whose_endpoints_are_all_said_to_be_ill_has_none() {
        let link = |name: &str| SelfLink::regional("p", "r", "backendServices", name);
        let service = BackendService::new(link("a"), link("group"));
        let addresses = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().expect("a socket"));
        let groups = [NetworkEndpointGroup::addresses(link("group"), addresses.to_vec())];
        let state = |service: &str, endpoint: &str, health: &str, ejected| BackendState {
            backend_service: link(service),
            endpoint: endpoint.to_owned(),
            health_state: health.to_owned(),
            ejected,
        };
        let ill = |endpoint| state("a", endpoint, "UNHEALTHY", false);
        for (states, empty) in [
            (None, false),
            (Some(vec![]), false),
            (Some(vec![ill("10.0.0.1:80"), ill("10.0.0.2:80")]), true),
            (Some(vec![ill("10.0.0.1:80"), state("b", "10.0.0.2:80", "UNHEALTHY", false)]), false),
            (Some(vec![ill("10.0.0.1:80"), state("a", "10.0.0.2:80", "HEALTHY", true)]), true),
            (Some(vec![ill("10.0.0.1:80"), state("a", "10.0.0.2:80", "UNKNOWN", false)]), false),
        ] {
            assert_eq!(Table::told(&service, &groups, states.as_deref()).is_empty(), empty);
        }
        let mut drained = service;
        drained.backends[0].capacity_scaler = 0.0;
        assert!(Table::told(&drained, &groups, None).is_empty());
    }
}
