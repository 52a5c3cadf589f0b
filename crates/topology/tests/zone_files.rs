//! Zone files beside topology files: what they become, what is said of mistakes, and the same file
//! as NSD reads it.
#![allow(missing_docs)]

use managed_zone::{FairWeather, Name, RecordType, Snapshot};
use slice::dns::{ManagedZone, PrivateDnsSlice, ZoneKind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    /// With a topology that names `x.zone`, and that file.
    fn new(zone_file: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zone-files-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::write(path.join("x.yaml"), TOPOLOGY).expect("written");
        std::fs::write(path.join("x.zone"), zone_file).expect("written");
        Folder(path)
    }

    fn zone(&self) -> ManagedZone {
        let loaded = topology::load(&self.0);
        let said: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let topology = loaded.topology.unwrap_or_else(|| panic!("{said:#?}"));
        assert_eq!(said, Vec::<String>::new());
        topology.zones[0].clone()
    }

    fn said(&self) -> Vec<String> {
        let all = topology::load(&self.0).diagnostics;
        let file =
            |path: &std::path::Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        all.iter()
            .map(|one| {
                let name = file(&one.at.file).unwrap_or_default();
                format!("{name}:{}:{} {}", one.at.line, one.at.column, one.code)
            })
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const TOPOLOGY: &str = "\
project: p
networks: [{name: n}]
managedZones:
- name: z
  dnsName: example.com.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: n}]}
  postern: {zoneFile: x.zone}
  rrsets:
  - {name: beside.example.com., type: A, ttl: 60, rrdatas: [10.0.0.9]}
";

const FILE: &str = r#"$TTL 1h
@   IN  SOA     VENERA      action.domains (
                                 20     ; SERIAL
                                 7200 10m 1w 60)
        NS      A.ISI.EDU.
        MX      10      VENERA
A       A       26.3.0.103
VENERA  60 A    10.1.0.52
        60 IN A 128.9.0.32
$ORIGIN sub.example.com.
@       TXT     "a \"quoted\" ; string" second
*       CNAME   a
_x._tcp SRV     ( 1 2
                  443 there )
svc     HTTPS 1 . alpn=h2
n       NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:x@y!" .
c       CAA 0 issue "ca.example"
"#;

/// Every record that the zone answers, as text.
fn answered(zone: &ManagedZone) -> Vec<String> {
    let ZoneKind::Private(sets) = &zone.kind else { panic!("no private zone") };
    let network = zone.networks[0].clone();
    let slice = PrivateDnsSlice {
        network: network.clone(),
        zones: vec![zone.clone()],
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    };
    let snapshot = Snapshot::compile(&slice).unwrap_or_else(|errors| panic!("{errors:?}"));
    let view = snapshot.own_view();
    let mut all = Vec::new();
    for set in sets {
        let name = Name::parse(&set.name).unwrap_or_else(|error| panic!("{error}"));
        let record_type: RecordType =
            set.record_type.parse().unwrap_or_else(|_| panic!("{}", set.record_type));
        let resolution = view.resolve(&name, record_type, &FairWeather::default());
        all.extend(resolution.records.iter().map(ToString::to_string));
    }
    all.sort();
    all
}

#[test]
fn a_zone_file_is_answered_like_records_in_the_topology() {
    let zone = Folder::new(FILE).zone();
    let all = answered(&zone);
    for line in [
        "beside.example.com. 60 IN A 10.0.0.9",
        "a.example.com. 3600 IN A 26.3.0.103",
        "venera.example.com. 60 IN A 128.9.0.32",
        "_x._tcp.sub.example.com. 3600 IN SRV 1 2 443 there.sub.example.com.",
    ] {
        assert!(all.iter().any(|one| one.eq_ignore_ascii_case(line)), "{line}: {all:#?}");
    }
    // As `gcloud dns record-sets import` has it: the apex's NS records are Cloud DNS's own.
    assert!(!all.iter().any(|line| line.to_lowercase().contains("isi.edu")), "{all:#?}");
    assert!(
        all.iter().any(|line| line.contains("SOA ns-gcp-private.googledomains.com.")),
        "{all:#?}"
    );
}

#[test]
fn nsd_reads_the_same_from_the_file_and_we_the_same_from_what_nsd_writes() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let found = folders.into_iter().map(|at| at.join("nsd-checkzone")).find(|at| at.is_file());
    let Some(program) = found else {
        let text = "nsd-checkzone is not here; install nsd to run this test";
        assert!(std::env::var_os("POSTERN_TESTS_COMPLETE").is_none(), "{text}");
        eprintln!("SKIPPED: {text}");
        return;
    };
    let folder = Folder::new(FILE);
    let output = Command::new(program)
        .args(["-p", "example.com."])
        .arg(folder.0.join("x.zone"))
        .stderr(Stdio::inherit())
        .output()
        .expect("nsd-checkzone runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}");
    let theirs = Folder::new(&printed);
    let lower = |lines: Vec<String>| -> Vec<String> {
        let mut lines: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
        lines.sort();
        lines
    };
    assert_eq!(lower(answered(&theirs.zone())), lower(answered(&folder.zone())));
}

#[test]
fn mistakes_are_said_at_their_place_in_the_zone_file() {
    let folder = Folder::new(
        "a 60 A 10.0.0.1\n\
         b 60 A 10.0.0.300\n\
         c.other. 60 A 10.0.0.1\n\
         d 60 CNAME a\n\
         d 60 A 10.0.0.1\n\
         e 60 NOTYPE x\n\
         f A (\n",
    );
    assert_eq!(
        folder.said(),
        [
            "x.zone:2:8 RECORD_DATA",
            "x.zone:3:1 RECORD_OUTSIDE_ZONE",
            "x.zone:4:1 RECORD_CONFLICT",
            "x.zone:6:6 RECORD_DATA",
            "x.zone:7:5 SYNTAX",
        ]
    );
    std::fs::remove_file(folder.0.join("x.zone")).expect("removed");
    assert_eq!(folder.said(), ["x.yaml:8:23 FILE_NOT_READABLE"]);
}
