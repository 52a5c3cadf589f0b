//! Any message as the answer of a name server that a question was forwarded to: the client's answer
//! is well-formed, within its limit and to its question, whatever the name server says.

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
    let network = NetworkId::new("p", "n");
    let zone = |name: &str, kind| ManagedZone {
        self_link: SelfLink::new(&format!("projects/p/managedZones/{name}")),
        dns_name: format!("{name}."),
        networks: vec![network.clone()],
        kind,
    };
    let set = |name: &str, record_type: &str, data: &str| ResourceRecordSet {
        name: name.to_owned(),
        record_type: record_type.to_owned(),
        ttl: 300,
        rrdatas: vec![data.to_owned()],
        routing_policy: None,
    };
    let address = [10, 0, 0, 53].into();
    let server = NameServer { address, forwarding_path: ForwardingPath::Default };
    let own = vec![set("a.y.", "A", "10.0.0.1"), set("b.y.", "CNAME", "b.x.")];
    let zones =
        vec![zone("x", ZoneKind::Forwarding(vec![server])), zone("y", ZoneKind::Private(own))];
    let slice = PrivateDnsSlice {
        network: network.clone(),
        zones,
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    };
    Snapshot::compile(&slice).unwrap_or_else(|errors| panic!("{errors:?}"))
});

/// `a.x.` and types by which names in data are found.
const QUERY: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x01x\0\0\x01\0\x01";

fuzz_target!(|input: &[u8]| {
    let Some((kind, message)) = input.split_first() else { return };
    let mut query = QUERY.to_vec();
    query[18] = *kind;
    let mut scratch = Scratch::new();
    let mut out = vec![0; TCP_SIZE_MAX];
    for (transport, limit) in [(Transport::Udp, 512), (Transport::Tcp, TCP_SIZE_MAX)] {
        let now = FairWeather::default();
        let room = if transport == Transport::Udp { UDP_SIZE_MAX } else { TCP_SIZE_MAX };
        let mut outcome = SNAPSHOT.own_view().answer(&query, transport, &now, &mut scratch, &mut out[..room]);
        let mut asked = 0;
        let answered = loop {
            match outcome {
                Some(Outcome::Forward(forward)) => {
                    asked += 1;
                    assert!(asked <= 17, "a chain without end");
                    let upstream = Upstream::Message(message);
                    outcome = SNAPSHOT.resume(*forward, upstream, &now, &mut scratch, &mut out[..room]);
                }
                Some(Outcome::Finished(answered)) => break answered,
                None => panic!("no answer"),
            }
        };
        let answer = &out[..answered.length];
        assert!(answer.len() <= limit);
        assert_eq!(answer[..2], query[..2]);
        if answered.response_code.number() == 0 {
            assert_eq!(answer[12..21], query[12..21], "the question as it came");
        }
        let whole = Message::from_vec(answer);
        // What a name server put into data is passed on as it is, and hickory may frown at it.
        if answer[6..8] == [0, 0] {
            whole.expect("an answer without records is read");
        }
    }
});
