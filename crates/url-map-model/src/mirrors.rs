//! Takes back what may not stand together.

use names::SelfLink;
use slice::load_balancer::{BackendService, Endpoints, NetworkEndpointGroup, Route, Rules, UrlMap};

/// Serverless groups are neither mirrored nor mirrors (2.10).
pub(crate) fn drop_serverless_mirrors(
    map: &mut UrlMap,
    services: &[BackendService],
    groups: &[NetworkEndpointGroup],
) {
    let serverless = |link: &SelfLink| {
        let service = services.iter().find(|one| one.self_link == *link);
        let group = service.and_then(|one| one.backends.first());
        group.is_some_and(|backend| {
            groups.iter().any(|group| {
                group.self_link == backend.group
                    && matches!(group.endpoints, Endpoints::CloudRun(_))
            })
        })
    };
    let mend = |route: &mut Route| {
        if route.services().any(serverless)
            && let Some(action) = &mut route.action
        {
            action.request_mirror_policy = None;
        }
    };
    mend(&mut map.default);
    for matcher in &mut map.path_matchers {
        mend(&mut matcher.default);
        match &mut matcher.rules {
            Rules::PathRules(rules) => rules.iter_mut().for_each(|rule| mend(&mut rule.route)),
            Rules::RouteRules(rules) => rules.iter_mut().for_each(|rule| mend(&mut rule.route)),
        }
    }
}
