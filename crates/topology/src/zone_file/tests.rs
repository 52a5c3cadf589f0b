use super::*;
use crate::diagnostic::Severity;
use proptest::prelude::*;

fn read(text: &str) -> (Vec<ResourceRecordSet>, Vec<String>) {
    let mut findings = Findings::new(vec![Path::new("x.zone").into()]);
    let sets = parse(text, 0, "example.com.", &mut findings);
    let said = findings.finish();
    (sets, said.iter().map(|one| format!("{} {}: {}", one.at, one.severity, one.message)).collect())
}

fn lines(sets: &[ResourceRecordSet]) -> Vec<String> {
    let line = |set: &ResourceRecordSet| {
        let data: Vec<&str> = set.rrdatas.iter().map(|data| data.value.as_str()).collect();
        let ttl = set.ttl.as_ref().map_or("-".to_owned(), |ttl| ttl.0.to_string());
        format!("{} {ttl} {} {}", set.name.value, set.record_type.value, data.join(" | "))
    };
    sets.iter().map(line).collect()
}

/// RFC 1035, 5.3, with what later documents and BIND added.
const FILE: &str = "\
$TTL 1h ; of everything without one
@   IN  SOA     VENERA      Action\\.domains (
                                 20     ; SERIAL
                                 7200   ; REFRESH
                                 10m    ; RETRY
                                 1w     ; EXPIRE
                                 60)    ; MINIMUM

        NS      A.ISI.EDU.
        NS      VENERA
        MX      10      VENERA
        MX      20      VAXA.other.
A       A       26.3.0.103
VENERA  60 A    10.1.0.52
        60 IN A 128.9.0.32
        IN 300 AAAA fd00::1

$ORIGIN sub.example.com.
@       TXT     \"a \\\"quoted\\\" ; string\" second \"(third)\"
*       CNAME   @
_x._tcp SRV     ( 1 2
                  443 there )
odd     TYPE65400 \\# 2 abcd
here.\tHTTPS\t1 . alpn=h2
";

#[test]
fn a_master_file_becomes_record_sets() {
    let (sets, said) = read(FILE);
    assert_eq!(said, Vec::<String>::new());
    let primary = managed_zone::PRIMARY_NAME_SERVER;
    assert_eq!(
        lines(&sets),
        [
            &*format!(
                "example.com. 3600 SOA {primary} Action\\.domains.example.com. 20 7200 600 604800 60"
            ),
            "example.com. 3600 MX 10 VENERA.example.com. | 20 VAXA.other.",
            "A.example.com. 3600 A 26.3.0.103",
            "VENERA.example.com. 60 A 10.1.0.52 | 128.9.0.32",
            "VENERA.example.com. 300 AAAA fd00::1",
            "sub.example.com. 3600 TXT \"a \\\"quoted\\\" ; string\" second \"(third)\"",
            "*.sub.example.com. 3600 CNAME sub.example.com.",
            "_x._tcp.sub.example.com. 3600 SRV 1 2 443 there.sub.example.com.",
            "odd.sub.example.com. 3600 TYPE65400 \\# 2 abcd",
            "here. 3600 HTTPS 1 . alpn=h2",
        ]
    );
    let mx = &sets[1];
    assert_eq!((mx.rrdatas[1].at.line, mx.rrdatas[1].at.column), (12, 17));
}

#[test]
fn every_mistake_is_said_with_its_place() {
    let (sets, said) = read(
        " A 10.0.0.1\n\
         a CH A 10.0.0.1\n\
         b 1x A 10.0.0.1\n\
         c IN\n\
         d A\n\
         e TXT \"no end\n\
         f A ) 10.0.0.1\n\
         g A 10.0.0.1\n\
         $INCLUDE other\n\
         $TTL soon\n\
         h 60 A 10.0.0.1\n\
         h 70 A 10.0.0.2\n\
         i A ( 10.0.0.1\n",
    );
    assert_eq!(
        lines(&sets),
        ["g.example.com. - A 10.0.0.1", "h.example.com. 60 A 10.0.0.1 | 10.0.0.2"]
    );
    assert_eq!(
        said,
        [
            "x.zone:1:2 error: the first record has no owner",
            "x.zone:2:3 error: class CH; Cloud DNS has class IN only",
            "x.zone:3:3 error: no TTL",
            "x.zone:4:1 error: the record has no type",
            "x.zone:5:3 error: the A record has no data",
            "x.zone:6:7 error: the string has no end",
            "x.zone:7:5 error: a parenthesis is closed that was not opened",
            "x.zone:9:1 error: $INCLUDE is not read",
            "x.zone:10:6 error: no TTL",
            "x.zone:12:1 warning: another TTL than the A records of h.example.com. above; theirs is taken (RFC 2181, 5.2)",
            "x.zone:13:5 error: a parenthesis is opened that is not closed",
        ]
    );
}

#[test]
fn times_have_units() {
    let cases = [
        ("0", Some(0)),
        ("3600", Some(3600)),
        ("1h30m", Some(5400)),
        ("1W2D", Some(777_600)),
        ("2147483647", Some(2_147_483_647)),
        ("2147483648", None),
        ("99999999999999999999", None),
        ("h", None),
        ("", None),
        ("1y", None),
        ("-1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(seconds(text), expected, "{text}");
    }
}

#[test]
fn a_root_is_one_only_unescaped() {
    for (text, expected) in [("a.", true), ("a", false), ("a\\.", false), ("a\\\\.", true)] {
        assert_eq!(ends_with_root(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_does_harm(text in "[ \\t\\n\\\\\"();$@.a-z0-9INTXTCAé]{0,80}") {
        let (_, said) = read(&text);
        prop_assert!(said.iter().all(|line| line.starts_with("x.zone:")));
        let _ = Severity::Error;
    }
}
