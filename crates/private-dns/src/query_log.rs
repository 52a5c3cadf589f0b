//! The query log, in the shape of Cloud DNS's (resource type `dns_query`).
//!
//! On by default, and a query costs less than a line about it: so the first queries of every
//! second get a line each, the rest of that second is told in one line with their number.

use managed_zone::{Answered, FairWeather, ResponseCode, Transport, View, question};
use runtime::log::{Severity, Shown, entry};
use slice::Workload;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many queries of one second get a line, per worker.
const LINES_PER_SECOND: u32 = 100;
/// `rdata` is cut off here, as Cloud DNS does, in octets.
const RDATA_MAX: usize = 260;

/// One worker's log.
#[derive(Default)]
pub(crate) struct QueryLog {
    second: Option<Instant>,
    lines: u32,
    untold: u64,
}

/// One query and its answer.
pub(crate) struct Exchange<'e, 's> {
    pub(crate) view: View<'s>,
    pub(crate) message: &'e [u8],
    pub(crate) answered: &'e Answered<'s>,
    pub(crate) transport: Transport,
    pub(crate) client: Ipv4Addr,
}

impl QueryLog {
    /// The time, told once per batch.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.second.is_some_and(|begin| now.duration_since(begin) < Duration::from_secs(1)) {
            return;
        }
        self.second = Some(now);
        self.lines = 0;
        if self.untold > 0 {
            entry(Severity::Info, "more queries were answered within a second than are logged")
                .field("queriesNotLogged", std::mem::take(&mut self.untold))
                .emit();
        }
    }

    /// Are there queries that no line tells about yet?
    pub(crate) fn has_untold(&self) -> bool {
        self.untold > 0
    }

    /// Writes a line if this second's are not used up; what it tells is gathered only then.
    pub(crate) fn record<'e, 's>(
        &mut self,
        tell: impl FnOnce() -> (Exchange<'e, 's>, Option<Arc<Workload>>),
    ) where
        's: 'e,
    {
        if self.lines == LINES_PER_SECOND {
            self.untold += 1;
            return;
        }
        self.lines += 1;
        let (exchange, workload) = tell();
        write(&exchange, workload.as_deref());
    }
}

fn write(exchange: &Exchange<'_, '_>, workload: Option<&Workload>) {
    let Exchange { view, message, answered, transport, client } = exchange;
    let code = answered.response_code;
    let severity = match code {
        ResponseCode::NoError | ResponseCode::NxDomain => Severity::Info,
        _ => Severity::Warning,
    };
    let question = question(message);
    // The same decision once more, for people: it is cheap beside the line itself.
    let rdata = match (&question, answered.target_type) {
        (Some((name, record_type)), Some(_)) => {
            let mut text = String::new();
            for record in view.records(name, *record_type, &FairWeather::default()) {
                let separator = if text.is_empty() { "" } else { "\n" };
                text += &format!("{separator}{record}");
            }
            let end = (0..=RDATA_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            Some(text)
        }
        _ => None,
    };
    let network = view.network();
    let target = answered.zone.map(|zone| zone.name());
    entry(severity, code.name())
        .nested("resource", |resource| {
            resource.field("type", "dns_query").nested("labels", |labels| {
                labels
                    .field("project_id", &*network.project)
                    .field("location", workload.map_or("global", |w| w.region.as_str()))
                    .field("source_type", "gce-vm")
                    .field("target_type", answered.target_type)
                    .field("target_name", target)
            })
        })
        .field("queryName", question.as_ref().map(|(name, _)| name.to_string()))
        .field("queryType", question.as_ref().map(|(_, record_type)| record_type.to_string()))
        .field("responseCode", code.name())
        .field("rdata", rdata)
        .field("authAnswer", answered.target_type.is_some_and(|target| target != "external"))
        .field("protocol", if *transport == Transport::Udp { "UDP" } else { "TCP" })
        .field("sourceIP", Shown(client))
        .field("sourceNetwork", &*network.name)
        .field("vmInstanceName", workload.map(|w| w.name.as_str()))
        .field("vmProjectId", workload.map(|w| w.project.as_str()))
        .field("vmZoneName", workload.map(|w| w.zone.as_str()))
        .field("reason", answered.reason)
        .emit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use managed_zone::{Outcome, Scratch, Snapshot, UDP_SIZE_MAX};
    use names::NetworkId;
    use slice::dns::PrivateDnsSlice;

    #[test]
    fn the_first_queries_of_a_second_get_a_line_and_the_rest_is_counted() {
        let slice = PrivateDnsSlice {
            network: NetworkId::new("p", "n"),
            zones: Vec::new(),
            instances: Vec::new(),
            views: Vec::new(),
            policies: Vec::new(),
            response_policies: Vec::new(),
        };
        let snapshot = Snapshot::compile(&slice).expect("no zone can be wrong");
        let view = snapshot.own_view();
        let message = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let mut out = [0; UDP_SIZE_MAX];
        let now = FairWeather::default();
        let outcome = view.answer(message, Transport::Udp, &now, &mut Scratch::new(), &mut out);
        let answered = outcome.and_then(Outcome::finished).expect("a well-formed query");
        let mut log = QueryLog::default();
        let mut told = 0;
        let mut second = |log: &mut QueryLog, queries: u32| {
            told = 0;
            for _ in 0..queries {
                log.record(|| {
                    told += 1;
                    let (transport, client) = (Transport::Udp, Ipv4Addr::LOCALHOST);
                    let answered = &answered;
                    (Exchange { view, message, answered, transport, client }, None)
                });
            }
            told
        };
        let begin = Instant::now();
        log.tick(begin);
        assert_eq!((second(&mut log, 60), log.has_untold()), (60, false));
        log.tick(begin + Duration::from_millis(999));
        assert_eq!((second(&mut log, 60), log.has_untold()), (40, true));
        log.tick(begin + Duration::from_secs(1));
        assert_eq!((second(&mut log, 1), log.has_untold()), (1, false));
    }
}
