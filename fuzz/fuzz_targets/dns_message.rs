//! Any datagram or TCP message to the resolver: answered or dropped, never a panic, and an answer is
//! one to this query, within the client's limits, that hickory reads whole and that the parser
//! itself takes for no query.

#![no_main]

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use managed_zone::{
    FairWeather, Outcome, Scratch, Snapshot, TCP_SIZE_MAX, Transport, UDP_SIZE_MAX, Upstream,
};
use names::{NetworkId, SelfLink};
use slice::dns::{
    ForwardingPath, ManagedZone, NameServer, PrivateDnsSlice, ResourceRecordSet, ZoneKind,
};
use std::sync::LazyLock;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let (own, other) = (NetworkId::new("p", "n"), NetworkId::new("p", "m"));
    let sets = |lines: &[(&str, &str, &[&str])]| {
        let set = |(name, record_type, data): &(&str, &str, &[&str])| ResourceRecordSet {
            name: (*name).to_owned(),
            record_type: (*record_type).to_owned(),
            ttl: 300,
            rrdatas: data.iter().map(|text| (*text).to_owned()).collect(),
            routing_policy: None,
        };
        ZoneKind::Private(lines.iter().map(set).collect())
    };
    let zone = |name: &str, dns_name: &str, network: &NetworkId, kind| ManagedZone {
        self_link: SelfLink::new(&format!("projects/p/managedZones/{name}")),
        dns_name: dns_name.to_owned(),
        networks: vec![network.clone()],
        kind,
    };
    let address = [10, 0, 0, 53].into();
    let name_server = NameServer { address, forwarding_path: ForwardingPath::Default };
    let zones = vec![
        zone(
            "x",
            "x.",
            &own,
            sets(&[
                ("a.x.", "A", &["10.0.0.1", "10.0.0.2"]),
                ("*.x.", "CNAME", &["b.y."]),
                ("c.c.x.", "TXT", &["\"text\""]),
                ("l.x.", "CNAME", &["l.x."]),
            ]),
        ),
        zone("y", "y.", &own, ZoneKind::Peering(other.clone())),
        zone("f", "f.", &own, ZoneKind::Forwarding(vec![name_server])),
        zone(
            "z",
            "y.",
            &other,
            sets(&[("b.y.", "MX", &["10 a.x."]), ("b.y.", "A", &["10.0.0.3"])]),
        ),
    ];
    let slice = PrivateDnsSlice { network: own, zones, instances: Vec::new(), views: Vec::new(), policies: Vec::new(), response_policies: Vec::new() };
    Snapshot::compile(&slice).unwrap_or_else(|errors| panic!("{errors:?}"))
});

/// The most octets that this client takes in a datagram, as hickory understands it; where it cannot
/// read the query, what nobody is sent more of.
fn datagram_limit(message: &[u8]) -> usize {
    match Message::from_vec(message) {
        Ok(query) => query.edns.map_or(512, |edns| usize::from(edns.max_payload()).clamp(512, UDP_SIZE_MAX)),
        Err(_) => UDP_SIZE_MAX,
    }
}

fuzz_target!(|message: &[u8]| {
    let view = SNAPSHOT.own_view();
    let mut scratch = Scratch::new();
    let mut out = vec![0; TCP_SIZE_MAX];
    for (transport, limit) in [(Transport::Udp, UDP_SIZE_MAX), (Transport::Tcp, TCP_SIZE_MAX)] {
        let now = FairWeather::default();
        let outcome = view.answer(message, transport, &now, &mut scratch, &mut out[..limit]);
        let answered = match outcome {
            Some(Outcome::Finished(answered)) => answered,
            Some(Outcome::Forward(forward)) => {
                let resumed =
                    SNAPSHOT.resume(*forward, Upstream::Silent, &now, &mut scratch, &mut out[..limit]);
                resumed.and_then(Outcome::finished).expect("silence is answered")
            }
            None => continue,
        };
        let answer = out[..answered.length].to_vec();
        assert!(answer[..2] == message[..2] && answer[2] & 0x80 != 0);
        let whole = Message::from_vec(&answer).expect("hickory reads the answer");
        assert_eq!(answer[4], 0);
        if answer[5] == 1 {
            let (name, _) = managed_zone::question(message).expect("it was answered");
            let end = 12 + name.as_wire().len() + 4;
            assert_eq!(answer[12..end], message[12..end], "the question as it came");
            assert_eq!(whole.queries.len(), 1);
        }
        assert!(transport == Transport::Tcp || answer.len() <= datagram_limit(message));
        assert!(view.answer(&answer, transport, &now, &mut scratch, &mut out[..limit]).is_none());
    }
    if let Some((name, record_type)) = managed_zone::question(message) {
        let resolution = view.resolve(&name, record_type, &FairWeather::default());
        assert_eq!(managed_zone::Name::parse(&name.to_string()), Ok(name));
        assert!(!resolution.to_string().is_empty());
    }
});
