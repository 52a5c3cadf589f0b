//! How container images run on this machine (top-level `images`).

use super::super::{Disk, Lowering};
use super::Template;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::Container;
use crate::fields::ours::{ContainerImage, Image};
use crate::model::ImageItem;
use crate::node::{self, Kind, Node};
use slice::run;
use std::path::Path;

impl Lowering<'_> {
    /// How the image runs on this machine, with the container's own command and arguments.
    pub(super) fn run(
        &self,
        template: &Template<'_>,
        container: &Container,
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<run::Run> {
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
        let ways =
            [raw.command.is_some(), raw.url.is_some(), raw.container.is_some(), raw.mock.is_some()];
        if ways.iter().filter(|there| **there).count() != 1 {
            if !raw.faulty {
                findings.error(
                    Code::ConflictingFields,
                    *at,
                    format!("`{image}` has none or several of `command`, `url`, `container` and `mock`; exactly one of them says how it runs"),
                    "write command: [PROGRAM, ARGUMENT], url: http://HOST:PORT, container: IMAGE or mock: OPENAPI_DOCUMENT",
                );
            }
            return None;
        }
        for unused in [raw.args.as_ref().and_then(|args| args.first()), raw.directory.as_ref()] {
            if let Some(unused) = unused.filter(|_| raw.command.is_none()) {
                findings.warning(
                    Code::NoEffect,
                    unused.at,
                    "`args` and `directory` count only beside `command`",
                    "remove it",
                );
            }
        }
        if let Some(url) = &raw.url {
            return url_of(url, template, findings);
        }
        if let Some(command) = &raw.command {
            return self.command(container, *at, raw, command, findings);
        }
        if let Some(mock) = &raw.mock {
            let openapi = self.model.directory(*at).join(&mock.value);
            return mock_is_good(mock, &openapi, disk, findings)
                .then_some(run::Run::Mock { openapi });
        }
        let known_as = match &raw.container.as_ref()?.value {
            ContainerImage::Named(name) => name.clone(),
            ContainerImage::Same => image.to_owned(),
        };
        let own = |own: &Option<Vec<Text>>| own.as_deref().filter(|own| !own.is_empty()).map(texts);
        Some(run::Run::Container {
            image: known_as,
            command: own(&container.command),
            args: own(&container.args),
        })
    }

    fn command(
        &self,
        container: &Container,
        at: Mark,
        raw: &Image,
        command: &At<Vec<Text>>,
        findings: &mut Findings,
    ) -> Option<run::Run> {
        // As with containers: `command` replaces the image's entry point and with it the image's
        // arguments, `args` replaces the arguments.
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
                format!("the command of `{}` is empty", container.image.value),
                "write command: [PROGRAM, ARGUMENT]",
            );
            return None;
        }
        let mut directory = self.model.directory(at);
        if let Some(own) = &raw.directory {
            directory.push(&own.value);
        }
        Some(run::Run::Command { command: whole, directory })
    }

    /// The description of an image: as written, or of the same repository under any tag or digest.
    fn image(&self, image: &str) -> Option<&ImageItem> {
        self.model.images.get(image).or_else(|| self.model.images.get(without_tag(image)))
    }
}

fn texts(texts: &[Text]) -> Vec<String> {
    texts.iter().map(|text| text.value.clone()).collect()
}

/// Something that already runs: it has one address, so that there is one container.
fn url_of(url: &Text, template: &Template<'_>, findings: &mut Findings) -> Option<run::Run> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let good = authority.is_some_and(|authority| {
        authority.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() > 0)
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
    if let Some(second) = template.raw.containers.get(1) {
        findings.error(
            Code::ServiceContainers,
            second.at,
            "an image that is a `url` already runs elsewhere; it shares no network with other containers",
            "keep the one container, or give all of them a command or a container",
        );
    }
    Some(run::Run::Url(url.trim_end_matches('/').to_owned()))
}

/// Is the document there, an OpenAPI one, and has it examples?
fn mock_is_good(mock: &Text, path: &Path, disk: &Disk<'_>, findings: &mut Findings) -> bool {
    let what = match (disk.read)(path) {
        None => return true,
        Some(Err(what)) => what,
        Some(Ok(bytes)) => match std::str::from_utf8(&bytes) {
            Err(_) => "it is not UTF-8".to_owned(),
            Ok(text) => match openapi(text) {
                Ok(()) => return true,
                Err(what) => what,
            },
        },
    };
    findings.error(
        Code::Mock,
        mock.at,
        format!("no mock can answer from `{}`: {what}", mock.value),
        "name an OpenAPI document whose responses have examples; a relative path starts at the document's folder",
    );
    false
}

/// Judges an OpenAPI document.
fn openapi(text: &str) -> Result<(), String> {
    let mut own = Findings::new(vec![Path::new("").into()]);
    let parsed = node::parse(text, 0, &mut own);
    if let Some(first) = own.finish().into_iter().next() {
        return Err(format!("line {}: {}", first.at.line, first.message));
    }
    let document = parsed.documents.first().ok_or("it is empty")?;
    if document.get("openapi").or_else(|| document.get("swagger")).is_none() {
        return Err("it says neither `openapi` nor `swagger`".to_owned());
    }
    let Some(paths) = document.get("paths") else { return Err("it has no `paths`".to_owned()) };
    let components = ["components", "definitions", "responses"];
    let parts = components.iter().filter_map(|name| document.get(name));
    match std::iter::once(paths).chain(parts).any(has_example) {
        true => Ok(()),
        false => Err("none of its responses has an example".to_owned()),
    }
}

fn has_example(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Scalar { .. } => false,
        Kind::List(items) => items.iter().any(has_example),
        Kind::Map(entries) => entries.iter().any(|(key, value)| {
            matches!(&*key.text, "example" | "examples") && !value.is_null() || has_example(value)
        }),
    }
}

/// An image without `@sha256:…` and `:tag`.
pub(super) fn without_tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::{openapi, without_tag};

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

    #[test]
    fn a_mock_needs_an_openapi_document_with_an_example() {
        let good = "openapi: 3.0.3\npaths: {/: {get: {responses: {'200': {content: {application/json: {example: {a: 1}}}}}}}}";
        assert_eq!(openapi(good), Ok(()));
        for bad in [
            "",
            "a: 1",
            "openapi: 3.0.3",
            "openapi: 3.0.3\npaths: {/: {get: {responses: {'200': {description: none}}}}}",
            "openapi: [",
        ] {
            assert!(openapi(bad).is_err(), "{bad}");
        }
    }
}
