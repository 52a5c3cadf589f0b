//! Instances of several containers, and their secrets.

use super::harness::{Stage, service, wait_until};
use names::SelfLink;
use slice::VolumeFile;
use slice::run::{
    Container, EnvValue, Run, Secret, SecretPayload, SecretState, SecretVersion, Service, Volume,
    VolumeSource,
};
use std::collections::BTreeMap;

const ACCOUNT: &str = "orders@ilb.iam.gserviceaccount.com";

fn secret(payloads: &[&str]) -> Secret {
    let versions = (1..).zip(payloads).map(|(version, data)| SecretPayload {
        version,
        state: SecretState::Enabled,
        data: data.as_bytes().to_vec(),
    });
    Secret {
        self_link: SelfLink::new("projects/ilb/secrets/db"),
        project_number: 77,
        versions: versions.collect(),
        aliases: BTreeMap::new(),
        accessors: vec![format!("serviceAccount:{ACCOUNT}")],
    }
}

fn sidecar(name: &str, script: &str) -> Container {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Container::new(name, Run::Command { command, directory: "/".into() }, None)
}

fn with_secret(name: &str) -> Service {
    let mut service = service(name);
    let link = SelfLink::new("projects/ilb/secrets/db");
    service.revision.service_account = Some(ACCOUNT.to_owned());
    let version = SecretVersion { secret: link.clone(), version: "latest".to_owned() };
    let env = &mut service.revision.containers[0].env;
    env.insert("DB_PASSWORD".to_owned(), EnvValue::Secret(version));
    let source = VolumeSource::Secret { secret: link, items: Vec::new(), default_mode: 0o444 };
    service.revision.volumes = vec![Volume { name: "secrets".to_owned(), source }];
    service
}

#[test]
fn a_container_waits_for_those_it_depends_on_and_all_have_the_contract() {
    let mut service = service("chain");
    service.revision.containers[0].depends_on = vec!["second".to_owned()];
    let second =
        Container { depends_on: vec!["first".to_owned()], ..sidecar("second", "exec sleep 600") };
    service.revision.containers.push(second);
    service.revision.containers.push(sidecar("first", "exec sleep 600"));
    let stage = Stage::new(vec![service.clone()]);
    assert_eq!(stage.get(&service, "/").status, 200);
    assert_eq!(stage.host.containers(), ["first", "second", "app"]);
    let started = stage.host.started.lock().expect("no panic");
    for start in started.iter() {
        assert_eq!(start.env["K_SERVICE"], "chain");
        assert_eq!(start.env["K_CONFIGURATION"], "chain");
        assert_eq!(start.env["K_REVISION"], "chain-00001-abc");
        // "Set only in the ingress container": the host adds it there.
        assert_eq!(start.ingress, start.container == "app");
    }
}

#[test]
fn a_sidecar_that_ends_takes_its_instance_along() {
    let mut service = service("ends");
    service.revision.containers.push(sidecar("sidecar", "exit 3"));
    let stage = Stage::new(vec![service.clone()]);
    assert_eq!(stage.get(&service, "/").status, 500, "no instance can be started");
    wait_until("nothing of it is left", || stage.host.running() == 0);
}

#[test]
fn a_secret_is_a_variable_for_life_and_a_file_that_follows_the_latest_version() {
    let service = with_secret("secrets");
    let mut stage = Stage::new(Vec::new());
    stage.reload_with(vec![service.clone()], vec![secret(&["one"])]);
    assert_eq!(stage.get(&service, "/").status, 200);
    let password = || {
        let started = stage.host.started.lock().expect("no panic");
        started.last().expect("one").env["DB_PASSWORD"].clone()
    };
    assert_eq!(password(), "one");
    stage.reload_with(vec![service.clone()], vec![secret(&["one", "two"])]);
    wait_until("the file is written again", || {
        !stage.host.written.lock().expect("no panic").is_empty()
    });
    let file = VolumeFile { path: "db".into(), mode: 0o444, data: b"two".to_vec() };
    let written = stage.host.written.lock().expect("no panic").clone();
    assert_eq!(written, [("secrets".to_owned(), vec![file])]);
    assert_eq!(stage.host.spawned(), 1, "the same instance");
}

#[test]
fn an_instance_whose_variable_cannot_be_read_does_not_start() {
    let service = with_secret("denied");
    let mut stage = Stage::new(Vec::new());
    let secret = Secret { accessors: Vec::new(), ..secret(&["one"]) };
    stage.reload_with(vec![service.clone()], vec![secret]);
    assert_eq!(stage.get(&service, "/").status, 500);
    assert_eq!(stage.host.spawned(), 0);
}
