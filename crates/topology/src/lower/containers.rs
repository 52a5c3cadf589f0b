//! Containers: how their image runs on this machine, port and environment (cloud-run 1.1).

use super::Lowering;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::Container;
use crate::model::ImageItem;
use slice::run;
use std::collections::BTreeMap;

/// Names that the platform sets itself (1.1).
const RESERVED_ENV: &[&str] = &["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"];

impl Lowering<'_> {
    /// How the image runs on this machine, with the container's own command and arguments.
    pub(super) fn run(&self, container: &Container, findings: &mut Findings) -> Option<run::Run> {
        let image = container.image.value.as_str();
        let Some(ImageItem { at, raw }) = self.image(image) else {
            let bare = without_tag(image);
            let near = crate::similar::closest(bare, self.model.images.keys().map(String::as_str));
            let fix = match near {
                Some(near) => format!(
                    "did you mean `{near}`? or add under `images:` `{bare}: {{command: [PROGRAM, ARGUMENT]}}`"
                ),
                None => format!(
                    "add at the top of a document: images: {{\"{bare}\": {{command: [PROGRAM, ARGUMENT]}}}}"
                ),
            };
            findings.error(
                Code::ImageUnknown,
                container.image.at,
                format!("nothing says how the image `{image}` runs on this machine"),
                fix,
            );
            return None;
        };
        let texts =
            |texts: &[Text]| texts.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
        match (&raw.command, &raw.url) {
            (None, Some(url)) => {
                let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
                let good = authority.is_some_and(|authority| {
                    authority
                        .parse::<std::net::SocketAddr>()
                        .is_ok_and(|address| address.port() > 0)
                        || authority.rsplit_once(':').is_some_and(|(host, port)| {
                            crate::names_rules::is_hostname(host)
                                && port.parse::<u16>().is_ok_and(|port| port > 0)
                        })
                });
                if !good {
                    findings.error(
                        Code::InvalidValue,
                        url.at,
                        format!("`{}` is no URL of the form http://HOST:PORT", url.value),
                        "write a URL such as http://127.0.0.1:8080",
                    );
                    return None;
                }
                Some(run::Run::Url(url.trim_end_matches('/').to_owned()))
            }
            (Some(command), None) => {
                // As with containers: `command` replaces the image's entry point and with it the
                // image's arguments, `args` replaces the arguments.
                let (entry, default_args) = match &container.command {
                    Some(own) if !own.is_empty() => (texts(own), Vec::new()),
                    _ => (texts(command), raw.args.as_deref().map(texts).unwrap_or_default()),
                };
                let args = container.args.as_deref().map(texts).unwrap_or(default_args);
                let whole: Vec<String> = entry.into_iter().chain(args).collect();
                if whole.is_empty() || whole[0].is_empty() {
                    findings.error(
                        Code::MissingField,
                        command.at,
                        format!("the command of `{image}` is empty"),
                        "write command: [PROGRAM, ARGUMENT]",
                    );
                    return None;
                }
                let mut directory = self.model.directory(*at);
                if let Some(own) = &raw.directory {
                    directory.push(&own.value);
                }
                Some(run::Run::Command { command: whole, directory })
            }
            _ => {
                if !raw.faulty {
                    findings.error(
                        Code::ConflictingFields,
                        *at,
                        format!("`{image}` has neither or both of `command` and `url`; exactly one of the two says how it runs"),
                        "write command: [PROGRAM, ARGUMENT] or url: http://HOST:PORT",
                    );
                }
                None
            }
        }
    }

    /// The description of an image: as written, or of the same repository under any tag or digest.
    fn image(&self, image: &str) -> Option<&ImageItem> {
        self.model.images.get(image).or_else(|| self.model.images.get(without_tag(image)))
    }
}

/// An image without `@sha256:…` and `:tag`.
fn without_tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// The one ingress port, and whether it speaks HTTP/2 without TLS (1.1).
pub(super) fn port(container: &Container, findings: &mut Findings) -> run::Port {
    let Some(ports) = &container.ports else { return run::Port::default() };
    if let Some(second) = ports.get(1) {
        findings.error(
            Code::ServicePorts,
            second.at,
            "a container has one port at the most",
            "remove the others; one port serves everything",
        );
    }
    let Some(port) = ports.first() else { return run::Port::default() };
    let mut h2c = false;
    match port.name.as_ref().map(|name| (name.at, name.as_str())) {
        None | Some((_, "" | "http1")) => {}
        Some((_, "h2c")) => h2c = true,
        Some((at, name)) => findings.error(
            Code::ServicePorts,
            at,
            format!("`{name}` is no name of a port; it is http1 or h2c"),
            "write name: h2c for HTTP/2 without TLS, or remove the name",
        ),
    }
    let number = port.container_port.as_ref().map_or(8080, |port| port.value.0);
    run::Port { number: u16::try_from(number).unwrap_or(8080), h2c }
}

pub(super) fn environment(
    container: &Container,
    findings: &mut Findings,
) -> BTreeMap<String, run::EnvValue> {
    let mut env = BTreeMap::new();
    let mut fault = |at: Mark, what: String, fix: &str| {
        findings.error(Code::ServiceEnv, at, what, fix);
    };
    if container.env.len() > 1000 {
        fault(
            container.at,
            format!("{} environment variables; at most 1000 are taken", container.env.len()),
            "remove some",
        );
    }
    for variable in &container.env {
        let name = &variable.name;
        if RESERVED_ENV.contains(&name.as_str()) {
            fault(name.at, format!("`{}` is set by Cloud Run itself", name.value), "remove it");
        } else if name.is_empty() || name.contains(['=', '\0']) {
            fault(
                name.at,
                format!("`{}` is no name of an environment variable", name.value),
                "rename it",
            );
        } else if env.contains_key(&name.value) {
            fault(
                name.at,
                format!("`{}` stands in `env` twice", name.value),
                "remove one of the two",
            );
        }
        let value = variable.value.as_ref().map(|value| value.value.clone()).unwrap_or_default();
        if value.len() > 32_768 || value.contains('\0') {
            fault(
                name.at,
                format!(
                    "the value of `{}` is longer than 32768 bytes or holds a zero byte",
                    name.value
                ),
                "shorten it",
            );
        }
        env.insert(name.value.clone(), run::EnvValue::Text(value));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::without_tag;

    #[test]
    fn an_image_is_known_under_any_tag_and_digest() {
        let check = |image, expected| assert_eq!(without_tag(image), expected, "{image}");
        check("r/p/i", "r/p/i");
        check("r/p/i:v1", "r/p/i");
        check("r/p/i@sha256:abc", "r/p/i");
        check("r/p/i:v1@sha256:abc", "r/p/i");
        check("localhost:5000/i", "localhost:5000/i");
        check("localhost:5000/i:v1", "localhost:5000/i");
    }
}
