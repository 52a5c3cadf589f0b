//! The endpoints of a backend service: their health as it is known, or the way on through a
//! service attachment.

use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use balancing::Table;
use names::{Reason, SelfLink};
use serde_json::json;
use slice::load_balancer::{BackendService, Endpoints, Protocol, ServiceAttachmentEndpoint};

/// More service attachments than this on one way are taken for a circle.
const ATTACHMENTS_MAX: usize = 8;

impl Walk<'_> {
    /// A request that the load balancer sends to an endpoint.
    pub(crate) fn deliver(&mut self, service: &url_map::BackendService, forwarded: Asked) -> End {
        let world = self.world;
        let lb = &world.topology().load_balancing;
        let Some(raw) = lb.backend_services.iter().find(|s| s.self_link == service.self_link)
        else {
            return End::Delivered { service: None, to: service.self_link.to_string() };
        };
        let states = world.backend_states();
        let text = |endpoint: &String| {
            let said = states.unwrap_or_default().iter().find(|state| {
                state.backend_service == raw.self_link && state.endpoint == *endpoint
            });
            match said {
                Some(state) if state.ejected => format!("{endpoint} (ejected)"),
                Some(state) => format!("{endpoint} ({})", state.health_state),
                None => endpoint.clone(),
            }
        };
        let list: Vec<_> = service.endpoints().iter().map(text).collect();
        let protocol = format!("{:?}", raw.protocol).to_uppercase();
        let to = format!("{} over {protocol}", list.join(", "));
        let info = json!({"target": "NETWORK_ENDPOINT_GROUP", "endpoints": list});
        let step = Step::new(State::Deliver, to.clone()).detail("deliver", info);
        if Table::told(raw, &lb.network_endpoint_groups, states).is_empty() {
            let reason = Reason::NoHealthyBackend;
            let refusal = Refusal::new(reason, reason.summary());
            return self.refuse(step, refusal, End::Answered { status: 503, location: None });
        }
        match world.attachment_of(raw) {
            Some(to) => self.through(raw.protocol, to, forwarded),
            None => {
                self.push(step);
                End::Delivered { service: None, to }
            }
        }
    }

    /// The load balancer is the client of a PSC endpoint. What is silence for other clients it
    /// answers itself.
    fn through(
        &mut self,
        protocol: Protocol,
        to: &ServiceAttachmentEndpoint,
        mut forwarded: Asked,
    ) -> End {
        let passed = self.steps.iter().filter(|step| step.state == State::Nat).count();
        if passed >= ATTACHMENTS_MAX {
            let reason = Reason::DroppedInsidePscServiceProducer;
            let why = "the load balancers lead to each other in a circle";
            let step = Step::new(State::ApplyForwardingRule, to.endpoint.self_link.to_string());
            let end = End::Answered { status: 503, location: None };
            return self.refuse(step, Refusal::new(reason, why), end);
        }
        forwarded.https = matches!(protocol, Protocol::Https | Protocol::Http2);
        forwarded.port = to.producer_port;
        let link: &SelfLink = &to.endpoint.self_link;
        // The load balancer is in the region of its group.
        match self.connect_psc(&to.endpoint.region, None, link, &forwarded, false) {
            End::Silence(Silence::TlsFails) => End::Answered { status: 502, location: None },
            End::Silence(_) => End::Answered { status: 503, location: None },
            end => end,
        }
    }
}

impl crate::World {
    fn attachment_of(&self, service: &BackendService) -> Option<&ServiceAttachmentEndpoint> {
        let groups = &self.topology().load_balancing.network_endpoint_groups;
        service.backends.iter().find_map(|backend| {
            let group = groups.iter().find(|group| group.self_link == backend.group)?;
            match &group.endpoints {
                Endpoints::ServiceAttachment(to) => Some(to),
                _ => None,
            }
        })
    }
}
