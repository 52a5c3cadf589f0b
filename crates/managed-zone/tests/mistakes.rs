//! What cannot be compiled, and how it is said: all mistakes at once, each with zone, record set
//! and value.
#![allow(missing_docs)]

mod common;

use common::{instance, network, private, slice};
use managed_zone::{CompileError, Snapshot};
use slice::dns::{DnsView, ManagedZone};

fn mistakes(zones: Vec<ManagedZone>) -> Vec<String> {
    let errors = Snapshot::compile(&slice("p/n", zones)).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_of_a_zone_is_said_with_its_place() {
    let lines = "\
        a.other. 60 A 10.0.0.1\n\
        b.x. 60 A 10.0.0.300\n\
        c.x. 60 A 10.0.0.1 | 10.0.0.1\n\
        d.x. 60 DNAME y.\n\
        e.x. 60 BOGUS y.\n\
        f.x. 2147483648 A 10.0.0.1\n\
        g..x. 60 A 10.0.0.1\n\
        h.x. 60 CNAME a.x.\n\
        h.x. 60 A 10.0.0.1\n\
        i.x. 60 CNAME a.x. | b.x.\n\
        j.x. 60 A 10.0.0.1\n\
        j.x. 60 A 10.0.0.2\n\
        k.x. 60 SOA a. b. 1 2 3 4 5\n\
        x. 60 CNAME a.x.\n\
        l.x. 60 MX 10 mail";
    let zone = "managed zone projects/p/managedZones/z: ";
    let expected = [
        "`a.other.` A: the name is not within the zone `x.`",
        "`b.x.` A: rrdatas[0]: the address `10.0.0.300` is not an IPv4 address",
        "`c.x.` A: rrdatas[1]: the value stands twice in the record set",
        "`d.x.` DNAME: a private zone holds no records of type `DNAME`; it takes A, AAAA, CAA, CNAME, DS, HTTPS, IPSECKEY, MX, NAPTR, NS, PTR, SOA, SPF, SRV, SSHFP, SVCB, TLSA and TXT",
        "`e.x.` BOGUS: a private zone holds no records of type `BOGUS`; it takes A, AAAA, CAA, CNAME, DS, HTTPS, IPSECKEY, MX, NAPTR, NS, PTR, SOA, SPF, SRV, SSHFP, SVCB, TLSA and TXT",
        "`f.x.` A: the ttl 2147483648 is above 2147483647",
        "`g..x.` A: the name has an empty label",
        "`h.x.` CNAME: a name with a CNAME record can have no other record; the apex of a zone always has NS and SOA",
        "`i.x.` CNAME: a name can have one CNAME record only",
        "`j.x.` A: there is another record set of this name and type; join their rrdatas",
        "`k.x.` SOA: a SOA record stands at the apex of a zone only",
        "`x.` CNAME: a name with a CNAME record can have no other record; the apex of a zone always has NS and SOA",
        "`l.x.` MX: rrdatas[0]: the exchange `mail`: the name is not absolute; end it with a dot",
    ];
    let found = mistakes(vec![private("z", "x.", &["p/n"], lines)]);
    assert_eq!(found, expected.map(|text| format!("{zone}{text}")));
}

#[test]
fn positions_point_into_the_record_sets() {
    let zone = private("z", "x.", &["p/n"], "a.x. 60 A 10.0.0.1\nb.x. 60 TXT \"a\" | \"b");
    let errors = managed_zone::check(&zone);
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].record_set, errors[0].rrdata), (Some(1), Some(1)));
}

#[test]
fn empty_data_a_bad_zone_name_and_an_oversized_set_are_refused() {
    let mut zone = private("z", "x.", &["p/n"], "a.x. 60 A 10.0.0.1");
    if let slice::dns::ZoneKind::Private(sets) = &mut zone.kind {
        sets[0].rrdatas.clear();
    }
    let bad = private("y", "x..", &["p/n"], "");
    assert_eq!(
        mistakes(vec![zone, bad]),
        [
            "managed zone projects/p/managedZones/z: `a.x.` A: rrdatas is empty",
            "managed zone projects/p/managedZones/y: the name has an empty label",
        ]
    );
    let many: Vec<String> = (0..300).map(|i| format!("\"{i}{}\"", "a".repeat(240))).collect();
    let large = private("z", "x.", &["p/n"], &format!("a.x. 60 TXT {}", many.join(" | ")));
    let found = mistakes(vec![large]);
    assert!(found.len() == 1 && found[0].contains("the limit is 57344"), "{found:?}");
}

#[test]
fn two_zones_of_one_name_cannot_be_visible_to_one_network() {
    let zones = |networks: &[&str]| {
        vec![private("a", "x.", &["p/n", "p/m"], ""), private("b", "X.", networks, "")]
    };
    assert_eq!(
        mistakes(zones(&["p/o", "p/m"])),
        [
            "managed zones projects/p/managedZones/a and projects/p/managedZones/b: both have the dnsName `x.` and are visible to the network p/m"
        ]
    );
    assert_eq!(mistakes(zones(&["p/o"])), [""; 0]);
}

#[test]
fn instances_and_client_ranges_are_checked_too() {
    let mut slice = slice("p/n", Vec::new());
    slice.instances = vec![instance("p/n", "a..b", "10.0.0.1")];
    let clients = "10.0.0.0/24".parse().unwrap_or_default();
    slice.views = ["p/n", "p/m"].map(|of| DnsView { clients, network: network(of) }).to_vec();
    let errors = Snapshot::compile(&slice).err().unwrap_or_default();
    assert!(
        matches!(
            &errors[..],
            [CompileError::Clients(..), CompileError::Instance(_), CompileError::Instance(_)]
        ),
        "{errors:?}"
    );
}
