//! Secrets with their versions, and who may read them (cloud-run 7.1).

use super::{Disk, Lowering};
use crate::decode::At;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::secrets::{Secret, SecretPostern, SecretState, SecretVersion};
use crate::model::Item;
use crate::reference::{last_segment, parts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iam::{Permission, Policies, Principal};
use names::SelfLink;
use slice::run;
use std::collections::{BTreeMap, HashMap};

/// Largest payload (7.1).
const PAYLOAD_MAX: usize = 64 << 10;

/// A secret's version to which a revision refers.
pub(crate) struct Use {
    pub(crate) at: Mark,
    pub(crate) secret: SelfLink,
    pub(crate) version: String,
    pub(crate) account: String,
    /// Read when an instance starts, so that it must be there; files are read when they are opened.
    pub(crate) at_start: bool,
}

impl Lowering<'_> {
    /// All secrets.
    pub(crate) fn secrets(&mut self, disk: &Disk<'_>, findings: &mut Findings) {
        for item in &self.model.secrets.items {
            let secret = self.secret(item, disk, findings);
            self.topology.secrets.push(secret);
        }
    }

    fn secret(&self, item: &Item<Secret>, disk: &Disk<'_>, findings: &mut Findings) -> run::Secret {
        let regional = parts(&item.raw.name).is_some_and(|parts| parts.region.is_some());
        if regional {
            findings.error(
                Code::NotYetSupported,
                item.raw.name.at,
                "regional secrets are not supported yet; programs ask for them at another host",
                "declare projects/PROJECT/secrets/SECRET",
            );
        }
        let mut versions: Vec<run::SecretPayload> = Vec::new();
        for (index, raw) in item.raw.versions.iter().enumerate() {
            let number = match &raw.name {
                None => Some(index as u64 + 1),
                Some(name) => number(name, findings),
            };
            let data = self.payload(raw, disk, findings);
            let (Some(number), Some(data)) = (number, data) else { continue };
            if versions.iter().any(|other| other.version == number) {
                findings.error(
                    Code::Secret,
                    raw.at,
                    format!("version {number} stands in `versions` twice"),
                    "write each version once, with the number of its `name`",
                );
                continue;
            }
            versions.push(run::SecretPayload {
                version: number,
                state: match raw.state {
                    None | Some(SecretState::Enabled) => run::SecretState::Enabled,
                    Some(SecretState::Disabled) => run::SecretState::Disabled,
                    Some(SecretState::Destroyed) => run::SecretState::Destroyed,
                },
                data,
            });
        }
        versions.sort_by_key(|version| version.version);
        let mut aliases = BTreeMap::new();
        for (alias, written) in &item.raw.version_aliases.0 {
            let version = written.value.0.parse::<u64>().ok();
            let version =
                version.filter(|number| versions.iter().any(|own| own.version == *number));
            let name = alias.as_str();
            let legal = name.len() <= 63
                && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                && name != "latest";
            match version {
                Some(version) if legal => {
                    aliases.insert(name.to_owned(), version);
                }
                _ if item.raw.faulty => {}
                Some(_) => findings.error(
                    Code::Secret,
                    alias.at,
                    format!("`{name}` is no alias; a letter first, then letters, digits, `-` and `_`, at most 63, and not `latest`"),
                    "rename it",
                ),
                None => findings.error(
                    Code::Secret,
                    written.at,
                    format!("the alias `{name}` means version {}, which is not there", written.value.0),
                    "write the number of a version",
                ),
            }
        }
        run::Secret {
            self_link: item.link.clone(),
            project_number: self.model.project_number(&item.project),
            versions,
            aliases,
            // Known when the policies are.
            accessors: Vec::new(),
        }
    }

    /// The payload of a version; empty where it is destroyed.
    fn payload(
        &self,
        raw: &SecretVersion,
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<Vec<u8>> {
        let file = |postern: &SecretPostern| postern.file.clone();
        let text = |postern: &SecretPostern| postern.text.clone();
        let (file, text) =
            (raw.postern.as_ref().and_then(file), raw.postern.as_ref().and_then(text));
        let written = raw.payload.as_ref().map(|payload| &payload.data);
        let (at, data) = match (written, &file, &text) {
            (Some(data), None, None) => match STANDARD.decode(data.trim()) {
                Ok(bytes) => (data.at, bytes),
                Err(_) => {
                    findings.error(
                        Code::Secret,
                        data.at,
                        "the payload is no base64",
                        "write it as `base64 FILE` prints it, or postern: {file: FILE}",
                    );
                    return None;
                }
            },
            (None, Some(file), None) => {
                let path = self.model.directory(file.at).join(&file.value);
                match (disk.read)(&path) {
                    None => (file.at, Vec::new()),
                    Some(Ok(bytes)) => (file.at, bytes),
                    Some(Err(what)) => {
                        findings.error(
                            Code::Secret,
                            file.at,
                            format!("the payload `{}`: {what}", file.value),
                            "name a file that can be read; a relative path starts at the document's folder",
                        );
                        return None;
                    }
                }
            }
            (None, None, Some(text)) => (text.at, text.value.clone().into_bytes()),
            (None, None, None) => {
                let destroyed = raw.state == Some(SecretState::Destroyed);
                if !destroyed && !raw.faulty {
                    findings.error(
                        Code::Secret,
                        raw.at,
                        "the version has no payload",
                        "add payload: {data: BASE64}, postern: {file: FILE} or postern: {text: TEXT}",
                    );
                }
                return destroyed.then(Vec::new);
            }
            _ => {
                findings.error(
                    Code::ConflictingFields,
                    raw.at,
                    "the version has more than one payload",
                    "write one of payload, postern.file and postern.text",
                );
                return None;
            }
        };
        if data.len() > PAYLOAD_MAX {
            findings.error(
                Code::Secret,
                at,
                format!("the payload has {} bytes; a version holds at most 64 KiB", data.len()),
                "shorten it",
            );
            return None;
        }
        Some(data)
    }

    /// Who may read which secret.
    fn secret_accessors(&mut self) {
        let policies = Policies::new(&self.topology.iam);
        for secret in &mut self.topology.secrets {
            let access =
                policies.access(Permission::SecretVersionsAccess, secret.self_link.as_str());
            let accounts = self.accounts.keys().map(String::as_str);
            let accounts = accounts.map(Principal::ServiceAccount);
            let holders = accounts.filter(|account| access.check(*account).is_ok());
            secret.accessors = holders.filter_map(|account| account.member()).collect();
        }
    }

    /// The deploy-time check: every secret to which a revision refers can be read by its service
    /// account (7.1, 2.5).
    pub(crate) fn secret_access(&mut self, findings: &mut Findings) {
        self.secret_accessors();
        let policies = Policies::new(&self.topology.iam);
        let items = self.model.secrets.items.iter().enumerate();
        let indices: HashMap<_, _> = items.map(|(index, item)| (&item.link, index)).collect();
        for one in &self.secret_uses {
            let Some(index) = indices.get(&one.secret).copied() else { continue };
            let item = &self.model.secrets.items[index];
            let Some(secret) = self.topology.secrets.get(index) else { continue };
            let name = format!("projects/{}/secrets/{}", secret.project_number, item.name());
            let access = policies.access(Permission::SecretVersionsAccess, item.link.as_str());
            if let Err(denied) = access.check(Principal::ServiceAccount(&one.account)) {
                // The form of the text: (unconfirmed).
                findings.error(
                    Code::SecretsAccessCheckFailed,
                    one.at,
                    format!(
                        "Permission denied on secret: {name}/versions/{} for Revision service account {}. The service account used must be granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project or higher level.",
                        one.version, one.account
                    ),
                    denied.fix().unwrap_or_default(),
                );
                continue;
            }
            let version = match one.version.as_str() {
                "latest" => secret.versions.last(),
                text => {
                    let number = text.parse().ok().or_else(|| secret.aliases.get(text).copied());
                    secret.versions.iter().find(|own| Some(own.version) == number)
                }
            };
            match version.map(|version| version.state) {
                Some(run::SecretState::Enabled) => {}
                None if item.raw.faulty => {}
                None => findings.error(
                    Code::SecretsAccessCheckFailed,
                    one.at,
                    format!("Secret {name}/versions/{} was not found", one.version),
                    "add the version, or refer to one that is there",
                ),
                Some(state) => {
                    let state =
                        if state == run::SecretState::Disabled { "DISABLED" } else { "DESTROYED" };
                    let what = format!(
                        "Secret version {name}/versions/{} is in {state} state.",
                        one.version
                    );
                    let fix = "refer to an enabled version";
                    if one.at_start {
                        findings.error(Code::SecretsAccessCheckFailed, one.at, what, fix);
                    } else {
                        // Nobody looks before the file is opened (7.1).
                        findings.warning(Code::SecretsAccessCheckFailed, one.at, what, fix);
                    }
                }
            }
        }
    }
}

/// `projects/P/secrets/S/versions/3`, or 3.
fn number(name: &At<crate::decode::TextOrNumber>, findings: &mut Findings) -> Option<u64> {
    let number = last_segment(&name.value.0).parse().ok().filter(|number| *number > 0);
    if number.is_none() {
        findings.error(
            Code::Secret,
            name.at,
            format!("`{}` is no version; versions are numbered from 1", name.value.0),
            "write a number, or projects/P/secrets/S/versions/NUMBER",
        );
    }
    number
}
