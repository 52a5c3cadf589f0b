//! The query log, in the shape of Cloud DNS's (resource type `dns_query`).
//!
//! On by default, and a query costs less than a line about it: so the first queries of every
//! second get a line each, the rest of that second is told in one line with their number.

use crate::forward::Told;
use hickory_net::proto::op::Message;
use managed_zone::{Answered, ResponseCode, Transport, question};
use names::NetworkId;
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
    /// The client's network.
    pub(crate) network: &'e NetworkId,
    pub(crate) message: &'e [u8],
    pub(crate) answer: &'e [u8],
    pub(crate) answered: &'e Answered<'s>,
    pub(crate) transport: Transport,
    pub(crate) client: Ipv4Addr,
    /// What name servers said, where they were asked.
    pub(crate) told: Option<&'e Told>,
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
    let Exchange { network, message, answer, answered, transport, client, told } = exchange;
    let code = answered.response_code;
    let severity = match code {
        ResponseCode::NoError | ResponseCode::NxDomain => Severity::Info,
        _ => Severity::Warning,
    };
    let question = question(message);
    let rdata = answered.target_type.map(|_| rdata(answer));
    let target = answered.zone.map(|zone| zone.name());
    let silent = told.filter(|told| told.message.is_none());
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
        .field("destinationIP", told.and_then(|told| told.server).map(Shown))
        .field("egressError", silent.map(|_| "no name server responded"))
        .field("serverLatency", told.map(|told| told.latency.as_millis() as u64))
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

/// The answer section as text, one record a line.
fn rdata(answer: &[u8]) -> String {
    let mut text = String::new();
    for record in Message::from_vec(answer).iter().flat_map(|message| &message.answers) {
        let separator = if text.is_empty() { "" } else { "\n" };
        text += &format!("{separator}{record}");
        if text.len() > RDATA_MAX {
            let end = (0..=RDATA_MAX).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use managed_zone::{FairWeather, Outcome, Scratch, Snapshot, UDP_SIZE_MAX};
    use names::NetworkId;
    use slice::dns::PrivateDnsSlice;

    #[test]
    fn the_answer_is_told_as_text_and_cut_off() {
        let mut answer = b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
        for last in 1..=2 {
            answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0");
            answer.push(last);
        }
        assert_eq!(rdata(&answer), "a. 60 IN A 10.0.0.1\na. 60 IN A 10.0.0.2");
        answer[7] = 200;
        for last in 3..=200 {
            answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0");
            answer.push(last);
        }
        assert_eq!(rdata(&answer).len(), RDATA_MAX);
        assert_eq!(rdata(b"no message"), "");
    }

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
                    let (answered, answer) = (&answered, &out[..answered.length]);
                    let (network, told) = (&slice.network, None);
                    let exchange =
                        Exchange { network, message, answer, answered, transport, client, told };
                    (exchange, None)
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
