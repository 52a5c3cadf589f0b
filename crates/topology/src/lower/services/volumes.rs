//! Volumes and where they appear (cloud-run 1.1, 7.1).

use super::{Lowering, Template};
use crate::decode::{At, Text, TextOrNumber};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Container, Medium, Volume};
use crate::lower::secrets::Use;
use names::SelfLink;
use slice::run;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Mode of a secret's files (7.1).
const SECRET_MODE_DEFAULT: u32 = 0o444;
/// Where nothing can be mounted (1.1; `/proc` and `/sys`: (unconfirmed)).
const RESERVED: &[&str] = &["/", "/dev", "/dev/log", "/proc", "/sys"];

fn error(at: Mark, what: String, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceVolumes, at, what, fix);
}

impl Lowering<'_> {
    /// The volumes of a revision.
    pub(super) fn volumes(
        &mut self,
        template: &Template<'_>,
        findings: &mut Findings,
    ) -> Vec<run::Volume> {
        let mut volumes: Vec<run::Volume> = Vec::new();
        for raw in &template.raw.volumes {
            if !crate::names_rules::is_rfc1123_label(&raw.name) {
                error(
                    raw.name.at,
                    format!(
                        "`{}` is no name of a volume; lower-case letters, digits and hyphens, at most 63",
                        raw.name.value
                    ),
                    "rename it, also in `volumeMounts`",
                    findings,
                );
            }
            if volumes.iter().any(|other| other.name == raw.name.value) {
                error(
                    raw.name.at,
                    format!("two volumes are named `{}`", raw.name.value),
                    "rename one of the two",
                    findings,
                );
            }
            if let Some(source) = self.source(template, raw, findings) {
                volumes.push(run::Volume { name: raw.name.value.clone(), source });
            }
        }
        volumes
    }

    fn source(
        &mut self,
        template: &Template<'_>,
        raw: &Volume,
        findings: &mut Findings,
    ) -> Option<run::VolumeSource> {
        let (secret, empty) = match (&raw.secret, &raw.empty_dir) {
            (Some(secret), None) => (secret, None),
            (None, Some(empty)) => {
                let size_limit = empty.size_limit.as_ref().and_then(|limit| {
                    let bytes = limit.value.bytes();
                    if bytes.is_none() {
                        let what = format!("`{}` is no amount of memory", limit.value.0);
                        findings.error(Code::InvalidValue, limit.at, what, "write \"512Mi\"");
                    }
                    bytes
                });
                let in_memory = empty.medium != Some(Medium::Disk);
                if let Some(limit) = empty.size_limit.as_ref().filter(|_| !in_memory) {
                    findings.warning(
                        Code::NotYetHonoured,
                        limit.at,
                        "a volume on disk has no bound but the disk's in this release",
                        "write medium: MEMORY for a bound, or remove the limit to silence this warning",
                    );
                }
                return Some(run::VolumeSource::EmptyDir { size_limit, in_memory });
            }
            (Some(secret), Some(empty)) => (secret, Some(empty)),
            (None, None) => {
                if !raw.faulty {
                    error(
                        raw.at,
                        format!("the volume `{}` says not what is in it", raw.name.value),
                        "add secret: {secret: SECRET} or emptyDir: {}",
                        findings,
                    );
                }
                return None;
            }
        };
        if let Some(empty) = empty {
            error(
                empty.at,
                format!("the volume `{}` is of two types", raw.name.value),
                "write one of secret and emptyDir",
                findings,
            );
        }
        let mut paths = HashSet::new();
        let mut items = Vec::new();
        for item in &secret.items {
            let path = Path::new(item.path.as_str());
            if !is_relative(path) {
                error(
                    item.path.at,
                    format!("`{}` is no relative path below the mount", item.path.value),
                    "write a path such as key.pem",
                    findings,
                );
            } else if !paths.insert(path) {
                error(
                    item.path.at,
                    format!("the path `{}` is taken by another version", item.path.value),
                    "write each path once",
                    findings,
                );
            }
            items.push(run::SecretItem {
                version: version(item.version.as_ref()),
                path: path.to_owned(),
                mode: item.mode.as_ref().map(|mode| mode.value.0),
            });
        }
        let link = self.secret_reference(template, &secret.secret, findings)?;
        let versions = items.iter().map(|item| item.version.clone());
        let versions: Vec<String> = match items.is_empty() {
            true => vec!["latest".to_owned()],
            false => versions.collect(),
        };
        for version in versions {
            self.note_use(template, secret.secret.at, &link, version, false);
        }
        Some(run::VolumeSource::Secret {
            secret: link,
            items,
            default_mode: secret.default_mode.as_ref().map_or(SECRET_MODE_DEFAULT, |m| m.value.0),
        })
    }

    /// A secret by its name in the project, or `projects/P/secrets/S`.
    pub(super) fn secret_reference(
        &self,
        template: &Template<'_>,
        reference: &Text,
        findings: &mut Findings,
    ) -> Option<SelfLink> {
        let model = self.model;
        let found = model.find(&model.secrets, reference, &template.scope, findings)?;
        Some(found.link.clone())
    }

    pub(super) fn note_use(
        &mut self,
        template: &Template<'_>,
        at: Mark,
        secret: &SelfLink,
        version: String,
        at_start: bool,
    ) {
        let (secret, account) = (secret.clone(), template.account.clone());
        self.secret_uses.push(Use { at, secret, version, account, at_start });
    }
}

/// The version that a reference means.
pub(super) fn version(written: Option<&At<TextOrNumber>>) -> String {
    let written = written.map(|version| version.value.0.as_str()).filter(|text| !text.is_empty());
    written.unwrap_or("latest").to_owned()
}

/// Not empty, and never out of where it starts.
fn is_relative(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Where a container sees volumes.
pub(super) fn mounts(
    container: &Container,
    template: &Template<'_>,
    volumes: &[run::Volume],
    findings: &mut Findings,
) -> Vec<run::Mount> {
    let mut mounts: Vec<run::Mount> = Vec::new();
    for raw in &container.volume_mounts {
        let at = raw.mount_path.at;
        let written = raw.mount_path.as_str();
        let path: PathBuf = Path::new(written).components().collect();
        let declared = template.raw.volumes.iter().any(|v| v.name.value == raw.name.value);
        if !declared && !template.raw.faulty {
            error(
                raw.name.at,
                format!("there is no volume `{}`", raw.name.value),
                "declare it under `volumes`, or correct the name",
                findings,
            );
        }
        let plain =
            path.components().all(|p| matches!(p, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || written.contains(':') {
            error(
                at,
                format!("`{written}` is no path to mount at; it is absolute and holds no colon"),
                "write a path such as /secrets",
                findings,
            );
        } else if RESERVED.iter().any(|reserved| path == Path::new(reserved)) {
            let what = format!("mountPath `{written}` is a reserved path");
            error(at, what, "mount at another path", findings);
        } else if let Some(other) = mounts.iter().find(|other| other.path == path) {
            let what = format!(
                "`{}` and `{}` are both mounted at `{written}`",
                other.volume, raw.name.value
            );
            error(at, what, "mount each at a path of its own", findings);
        } else if let Some(other) =
            mounts.iter().find(|o| o.path.starts_with(&path) || path.starts_with(&o.path))
        {
            error(
                at,
                format!(
                    "`{written}` and `{}` lie in each other; nested mounts are not supported",
                    other.path.display()
                ),
                "mount side by side",
                findings,
            );
        }
        let sub_path = raw.sub_path.as_ref().filter(|path| !path.is_empty());
        if let Some(sub) = sub_path.filter(|sub| !is_relative(Path::new(sub.as_str()))) {
            error(
                sub.at,
                format!("`{}` is no relative path in the volume", sub.value),
                "write a path such as etc",
                findings,
            );
        }
        let volume = volumes.iter().find(|volume| volume.name == raw.name.value);
        let secret = volume.is_some_and(|v| matches!(v.source, run::VolumeSource::Secret { .. }));
        mounts.push(run::Mount {
            volume: raw.name.value.clone(),
            path,
            sub_path: sub_path.map(|sub| PathBuf::from(&sub.value)),
            // A secret's files can never be written to.
            read_only: secret || raw.read_only.unwrap_or(false),
        });
    }
    mounts
}
