//! VerifyAPIKey (7.6, 8.3).

use super::{RefOrText, World, children};
use crate::context::Context;
use crate::directory::KeyRefusal;
use crate::fault::Fault;
use crate::value::Value;
use crate::variable::Variable;
use crate::xml::{One, Reader};
use roxmltree::Node;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct VerifyApiKey {
    key: RefOrText,
    /// `verifyapikey.P.`
    prefix: Arc<str>,
    failed: Arc<str>,
}

impl VerifyApiKey {
    pub fn parse(root: Node<'_, '_>, name: &str, reader: &mut Reader<'_>) -> VerifyApiKey {
        let children =
            children(root, reader, &[], &[("APIKey", One), ("CacheExpiryInSeconds", One)]);
        let mut key = RefOrText::default();
        for child in &children {
            match child.tag_name().name() {
                "APIKey" => key = RefOrText::parse(*child, reader),
                _ => reader.warn(
                    *child,
                    "NO_EFFECT",
                    "`<CacheExpiryInSeconds>` has no effect: keys are known at once, nothing is cached.",
                    "",
                ),
            }
        }
        if key == RefOrText::default() {
            reader.error(
                root,
                "SpecifyValueOrRefApiKey",
                "the policy names no API key.",
                "Give `<APIKey>` a `ref`.",
            );
        }
        VerifyApiKey {
            key,
            prefix: format!("verifyapikey.{name}.").into(),
            failed: format!("verifyapikey.{name}.failed").into(),
        }
    }

    pub fn execute(&self, context: &mut Context, world: &World<'_>) -> Result<(), Fault> {
        let Some(key) = self.key.resolve(context).filter(|key| !key.is_empty()) else {
            return Err(Fault::of_policy(
                401,
                "steps.oauth.v2.FailedToResolveAPIKey",
                format!("Failed to resolve API Key variable {}", self.key.name()),
            ));
        };
        let facts = context.facts.clone();
        let verdict = world.directory.verify(
            &key,
            context.now,
            &facts.environment,
            &facts.api_proxy,
            &context.path_suffix,
        );
        let (grant, resource) = verdict.map_err(fault)?;
        context.groups.push((self.prefix.clone(), grant.variables.clone()));
        context.set(self.failed.clone(), Value::Boolean(false));
        context.set("apigee.client_id", Value::owned(key));
        context.set("apiproduct.name", Value::owned(&*grant.product));
        context.set("apiproduct.operation", Value::owned(resource));
        context.set("apiproduct.operation.resource", Value::owned(resource));
        context
            .set(format!("{}apiproduct.operation.resource", self.prefix), Value::owned(resource));
        Ok(())
    }

    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a Variable)) {
        self.key.variables(visit);
    }
}

/// The one table of refusals (8.3). Where the sheet leaves the prefix open, the one that live
/// answers show is used.
fn fault(refusal: KeyRefusal) -> Fault {
    let (code, text) = match refusal {
        KeyRefusal::Unknown => ("oauth.v2.InvalidApiKey", "Invalid ApiKey"),
        KeyRefusal::NoProduct => {
            ("oauth.v2.InvalidApiKeyForGivenResource", "Invalid ApiKey for given resource")
        }
        KeyRefusal::NotApproved => ("oauth.v2.ApiKeyNotApproved", "ApiKey not approved"),
        KeyRefusal::Expired => ("keymanagement.service.consumer_key_expired", "API Key expired"),
        KeyRefusal::AppNotApproved => {
            ("keymanagement.service.invalid_client-app_not_approved", "App is not approved")
        }
        KeyRefusal::DeveloperNotActive => {
            ("keymanagement.service.DeveloperStatusNotActive", "Developer Status is not Active")
        }
    };
    Fault::of_policy(401, code, text)
}
