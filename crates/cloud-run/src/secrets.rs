//! What an instance reads of Secret Manager (cloud-run 7.1): plain functions over the slice.

use slice::run::{
    Container, EnvValue, Revision, Secret, SecretPayload, SecretState, SecretVersion, Volume,
    VolumeSource,
};
use slice::{InstanceVolume, VolumeContent, VolumeFile};
use std::collections::BTreeMap;

/// The name of the newest created version, enabled or not (7.1).
const LATEST: &str = "latest";

/// Reads a version as a service account.
///
/// # Errors
/// What the log says of an instance that does not start for it.
pub fn access<'a>(
    secrets: &'a [Secret],
    wanted: &SecretVersion,
    account: Option<&str>,
) -> Result<&'a SecretPayload, String> {
    let SecretVersion { secret: link, version } = wanted;
    let secret = secrets.iter().find(|secret| secret.self_link == *link);
    let name = |number: Option<u64>| {
        format!(
            "projects/{}/secrets/{}/versions/{}",
            number.map_or_else(|| link.project().to_owned(), |number| number.to_string()),
            link.name(),
            version
        )
    };
    let secret = secret.ok_or_else(|| format!("Secret {} was not found", name(None)))?;
    let full = name(Some(secret.project_number));
    if !may_access(secret, account) {
        return Err(format!(
            "Permission denied on secret: {full} for Revision service account {}. The service account used must be granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project or higher level.",
            account.unwrap_or("(none)")
        ));
    }
    let found = match version.as_str() {
        LATEST => secret.versions.iter().max_by_key(|payload| payload.version),
        other => {
            let number = secret.aliases.get(other).copied().or_else(|| other.parse().ok());
            secret.versions.iter().find(|payload| Some(payload.version) == number)
        }
    };
    let payload = found.ok_or_else(|| format!("Secret {full} was not found"))?;
    match payload.state {
        SecretState::Enabled => Ok(payload),
        SecretState::Disabled => Err(format!("Secret {full} is in DISABLED state.")),
        SecretState::Destroyed => Err(format!("Secret {full} is in DESTROYED state.")),
    }
}

fn may_access(secret: &Secret, account: Option<&str>) -> bool {
    secret.accessors.iter().any(|member| match member.as_str() {
        "allUsers" => true,
        "allAuthenticatedUsers" => account.is_some(),
        member => member.strip_prefix("serviceAccount:").is_some_and(|m| Some(m) == account),
    })
}

/// The environment of a container: secrets are read when the instance starts, and fixed for its life.
///
/// # Errors
/// The instance does not start: a secret that cannot be read, or is no text.
pub fn environment(
    secrets: &[Secret],
    container: &Container,
    account: Option<&str>,
) -> Result<BTreeMap<String, String>, String> {
    let values = container.env.iter().map(|(name, value)| {
        let text = match value {
            EnvValue::Text(text) => text.clone(),
            EnvValue::Secret(version) => {
                let payload = access(secrets, version, account)?;
                String::from_utf8(payload.data.clone()).map_err(|_| {
                    format!(
                        "{}, version {}, is not UTF-8 and cannot be the value of {name}; mount it as a file",
                        version.secret, version.version
                    )
                })?
            }
        };
        Ok((name.clone(), text))
    });
    values.collect()
}

/// The volumes of an instance, and what could not be read: such files are missing, which the
/// program sees when it opens them, since nothing is checked at the start (7.1).
pub fn volumes(secrets: &[Secret], revision: &Revision) -> (Vec<InstanceVolume>, Vec<String>) {
    let mut missing = Vec::new();
    let account = revision.service_account.as_deref();
    let volumes = revision.volumes.iter().map(|volume| {
        let content = match &volume.source {
            VolumeSource::EmptyDir { size_limit, in_memory } => {
                VolumeContent::EmptyDir { size_limit: *size_limit, in_memory: *in_memory }
            }
            VolumeSource::Secret { .. } => {
                VolumeContent::Files(files(secrets, volume, account, &mut missing))
            }
        };
        InstanceVolume { name: volume.name.clone(), content }
    });
    (volumes.collect(), missing)
}

fn files(
    secrets: &[Secret],
    volume: &Volume,
    account: Option<&str>,
    missing: &mut Vec<String>,
) -> Vec<VolumeFile> {
    let VolumeSource::Secret { secret, items, default_mode } = &volume.source else {
        return Vec::new();
    };
    let whole = slice::run::SecretItem {
        version: LATEST.to_owned(),
        path: secret.name().into(),
        mode: None,
    };
    let items = if items.is_empty() { std::slice::from_ref(&whole) } else { items };
    let mut files = Vec::with_capacity(items.len());
    for item in items {
        let wanted = SecretVersion { secret: secret.clone(), version: item.version.clone() };
        match access(secrets, &wanted, account) {
            Ok(payload) => files.push(VolumeFile {
                path: item.path.clone(),
                mode: item.mode.unwrap_or(*default_mode),
                data: payload.data.clone(),
            }),
            Err(error) => {
                missing.push(format!("{} in volume {}: {error}", item.path.display(), volume.name));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::SelfLink;
    use slice::run::{Port, Run, SecretItem};

    const ACCOUNT: &str = "orders@p.iam.gserviceaccount.com";

    fn secret(states: &[SecretState]) -> Secret {
        let versions = (1..).zip(states).map(|(version, state)| SecretPayload {
            version,
            state: *state,
            data: format!("payload {version}").into_bytes(),
        });
        Secret {
            self_link: SelfLink::new("projects/p/secrets/db"),
            project_number: 77,
            versions: versions.collect(),
            aliases: BTreeMap::from([("prod".to_owned(), 1)]),
            accessors: vec![format!("serviceAccount:{ACCOUNT}")],
        }
    }

    fn version(version: &str) -> SecretVersion {
        SecretVersion {
            secret: SelfLink::new("projects/p/secrets/db"),
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_version_is_a_number_an_alias_or_the_newest_created() {
        use SecretState::{Destroyed, Disabled, Enabled};
        let check = |states: &[SecretState], wanted: &str, expected: Result<u64, &str>| {
            let all = [secret(states)];
            let got = access(&all, &version(wanted), Some(ACCOUNT)).map(|payload| payload.version);
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{wanted}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{wanted}: {got}"),
                (got, expected) => panic!("{wanted}: {got:?}, not {expected:?}"),
            }
        };
        check(&[Enabled, Enabled], "1", Ok(1));
        check(&[Enabled, Enabled], "latest", Ok(2));
        check(&[Enabled, Enabled], "prod", Ok(1));
        check(&[Enabled], "2", Err("projects/77/secrets/db/versions/2 was not found"));
        check(&[Enabled], "other", Err("versions/other was not found"));
        // "newest created version (not newest enabled)"
        check(&[Enabled, Disabled], "latest", Err("DISABLED"));
        check(&[Destroyed], "1", Err("DESTROYED"));
        check(&[], "latest", Err("was not found"));
    }

    #[test]
    fn without_the_accessor_role_nothing_is_read() {
        let all = [secret(&[SecretState::Enabled])];
        for account in [None, Some("other@p.iam.gserviceaccount.com")] {
            let error = access(&all, &version("1"), account).expect_err("no right");
            assert!(error.contains("Permission denied on secret: projects/77/"), "{error}");
            assert!(error.contains("roles/secretmanager.secretAccessor"), "{error}");
        }
        let missing = access(&[], &version("1"), Some(ACCOUNT)).expect_err("no secret");
        assert_eq!(missing, "Secret projects/p/secrets/db/versions/1 was not found");
    }

    #[test]
    fn an_instance_does_not_start_for_a_variable_but_misses_a_file() {
        let all = [secret(&[SecretState::Disabled])];
        let run = Run::Command { command: vec!["true".to_owned()], directory: "/".into() };
        let mut container = Container::new("app", run.clone(), Some(Port::default()));
        container.env.insert("DB".to_owned(), EnvValue::Secret(version("latest")));
        assert!(environment(&all, &container, Some(ACCOUNT)).is_err());
        let source = VolumeSource::Secret {
            secret: SelfLink::new("projects/p/secrets/db"),
            items: vec![SecretItem {
                version: "1".to_owned(),
                path: "a/b".into(),
                mode: Some(0o400),
            }],
            default_mode: 0o444,
        };
        let mut revision = Revision::new("r", run);
        revision.service_account = Some(ACCOUNT.to_owned());
        revision.volumes = vec![Volume { name: "v".to_owned(), source }];
        let (volumes_made, missing) = volumes(&all, &revision);
        assert_eq!(volumes_made[0].content, VolumeContent::Files(Vec::new()));
        assert!(missing[0].starts_with("a/b in volume v: "), "{missing:?}");
        let enabled = [secret(&[SecretState::Enabled])];
        let (volumes_made, missing) = volumes(&enabled, &revision);
        assert!(missing.is_empty());
        let file = VolumeFile { path: "a/b".into(), mode: 0o400, data: b"payload 1".to_vec() };
        assert_eq!(volumes_made[0].content, VolumeContent::Files(vec![file]));
        let text = environment(&enabled, &container, Some(ACCOUNT)).expect("readable");
        assert_eq!(text["DB"], "payload 1");
    }
}
