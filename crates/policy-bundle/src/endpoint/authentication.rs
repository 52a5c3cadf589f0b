//! Authentication of targets by Google ID tokens (1.4).

use crate::context::Context;
use crate::policies::RefOrText;
use crate::target::IdTokenRequest;
use crate::variable::Variable;
use crate::xml::{One, Reader};
use http::HeaderName;
use http::header::AUTHORIZATION;
use roxmltree::Node;

/// `Authentication/GoogleIDToken`.
#[derive(Clone, Debug)]
pub(crate) struct Authentication {
    header: HeaderName,
    header_reference: Option<Variable>,
    audience: Audience,
    include_email: RefOrText,
}

#[derive(Clone, Debug)]
enum Audience {
    /// `ref`, with the text as fallback.
    Named(RefOrText),
    /// `useTargetUrl`.
    TargetUrl,
}

impl Authentication {
    pub fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<Authentication> {
        reader.attributes(node, &[]);
        let parts = reader.children(
            node,
            &[("HeaderName", One), ("GoogleIDToken", One), ("GoogleAccessToken", One)],
        );
        let mut header = AUTHORIZATION;
        let mut header_reference = None;
        let mut token = None;
        for part in parts {
            match part.tag_name().name() {
                "HeaderName" => {
                    let value = RefOrText::parse(part, reader);
                    if let Some(text) = &value.text {
                        match HeaderName::from_bytes(text.as_bytes()) {
                            Ok(name) => header = name,
                            Err(_) => reader.error(
                                part,
                                "INVALID_VALUE",
                                format!("`{text}` is no header name."),
                                "A name has letters, digits and `-`.",
                            ),
                        }
                    }
                    header_reference = value.reference;
                }
                "GoogleIDToken" => token = Some(part),
                _ => reader.unsupported(
                    part,
                    "Only `<GoogleIDToken>` is supported: Cloud Run takes ID tokens.",
                ),
            }
        }
        let token = match token {
            Some(token) => token,
            None => {
                let what = "`<Authentication>` holds no `<GoogleIDToken>`.";
                reader.error(node, "MISSING_ELEMENT", what, "Give it one with an `<Audience>`.");
                return None;
            }
        };
        reader.attributes(token, &[]);
        let mut audience = None;
        let mut include_email = RefOrText::default();
        for part in reader.children(token, &[("Audience", One), ("IncludeEmail", One)]) {
            if part.has_tag_name("IncludeEmail") {
                include_email = RefOrText::parse(part, reader);
                let text = include_email.text.as_deref().unwrap_or("false");
                if !text.eq_ignore_ascii_case("true") && !text.eq_ignore_ascii_case("false") {
                    reader.error(
                        part,
                        "INVALID_VALUE",
                        format!("`{text}` is neither true nor false."),
                        "Write true or false.",
                    );
                }
            } else {
                audience = Audience::parse(part, reader);
            }
        }
        if !token.children().any(|child| child.has_tag_name("Audience")) {
            let what = "`<GoogleIDToken>` has no `<Audience>`.";
            reader.error(
                token,
                "MISSING_ELEMENT",
                what,
                "Name the audience that the service accepts.",
            );
        }
        Some(Authentication { header, header_reference, audience: audience?, include_email })
    }

    /// What has to be minted for this call.
    pub fn request(&self, context: &Context, base_url: &str) -> Result<IdTokenRequest, String> {
        let audience = match &self.audience {
            Audience::TargetUrl => without_query(base_url),
            Audience::Named(value) => value.resolve(context).unwrap_or_default(),
        };
        let header =
            match self.header_reference.as_ref().and_then(|variable| context.read(variable)) {
                Some(name) => HeaderName::from_bytes(name.as_text().trim().as_bytes())
                    .map_err(|_| format!("`{}` is no header name", name.as_text()))?,
                None => self.header.clone(),
            };
        Ok(IdTokenRequest {
            service_account: context.facts.service_account.clone().unwrap_or_default(),
            audience,
            include_email: self
                .include_email
                .resolve(context)
                .is_some_and(|text| text.trim().eq_ignore_ascii_case("true")),
            header,
        })
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        if let Audience::Named(value) = &self.audience {
            value.variables(visit);
        }
        self.include_email.variables(visit);
        if let Some(variable) = &self.header_reference {
            visit(variable);
        }
    }
}

impl Audience {
    fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Option<Audience> {
        reader.attributes(node, &["ref", "useTargetUrl"]);
        let use_target_url = reader.boolean_attribute(node, "useTargetUrl", false);
        let text = reader.text(node);
        if text.contains(['{', '}']) {
            // The words of Apigee's own deployment error (1.4).
            let what = format!("the audience `{text}` must not contain variables.");
            reader.error(node, "INVALID_AUDIENCE", what, "Use `ref` with the name of a variable.");
        }
        let value = RefOrText {
            reference: reader.reference(node).map(Variable::parse),
            text: (!text.is_empty()).then(|| text.into()),
        };
        match (use_target_url, value == RefOrText::default()) {
            (true, _) => Some(Audience::TargetUrl),
            (false, false) => Some(Audience::Named(value)),
            (false, true) => {
                let fix = "Give it a text, a `ref`, or useTargetUrl=\"true\".";
                reader.error(node, "INVALID_AUDIENCE", "the audience is empty.", fix);
                None
            }
        }
    }
}

/// The audience of `useTargetUrl` (exact trimming unconfirmed): the URL without its query and
/// without a trailing slash, because that is how Cloud Run writes a service's URL.
fn without_query(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url[..end].trim().trim_end_matches('/').to_owned()
}
