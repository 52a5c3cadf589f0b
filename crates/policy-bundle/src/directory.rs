//! API products, developers, apps and keys (10.3), as VerifyAPIKey asks for them.

use crate::pattern::PathPattern;
use crate::value::Value;
use aws_lc_rs::digest;
use slice::apigee::{ApiProduct, App, Credential, Developer, Organization};
use std::collections::HashMap;
use std::sync::Arc;

/// Who may call what.
#[derive(Debug, Default)]
pub struct Directory {
    keys: HashMap<String, Key>,
}

/// One consumer key.
#[derive(Debug)]
struct Key {
    approved: bool,
    expires_at: i64,
    app_approved: bool,
    developer_active: bool,
    products: Vec<Product>,
}

/// An API product as one key sees it.
#[derive(Debug)]
struct Product {
    approved: bool,
    environments: Vec<String>,
    proxies: Vec<String>,
    resources: Vec<(String, Resource)>,
    grant: Grant,
}

/// What a verified key gives.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The API product.
    pub product: Arc<str>,
    /// Variables below `verifyapikey.P.`.
    pub variables: Arc<HashMap<String, Value<'static>>>,
}

/// A resource path of a product (10.3).
#[derive(Debug)]
enum Resource {
    /// `/`: the base path and everything below.
    All,
    /// Everything below the base path, `/*`, `/orders/**` and so on.
    Pattern(PathPattern),
}

/// Why a key is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// No such key.
    Unknown,
    /// The key is revoked.
    NotApproved,
    /// The key has expired.
    Expired,
    /// The app is revoked.
    AppNotApproved,
    /// The developer is inactive.
    DeveloperNotActive,
    /// No approved product of the key covers environment, proxy and path.
    NoProduct,
}

impl Directory {
    /// The directory of an organisation.
    pub fn new(organization: &Organization) -> Directory {
        let products: HashMap<&str, &ApiProduct> =
            organization.api_products.iter().map(|product| (&*product.name, product)).collect();
        let developers: HashMap<&str, &Developer> = organization
            .developers
            .iter()
            .map(|developer| (&*developer.email, developer))
            .collect();
        let mut keys = HashMap::new();
        for app in &organization.apps {
            let developer = developers.get(&*app.developer).copied();
            for credential in &app.credentials {
                let key = Key::new(organization, app, developer, credential, &products);
                keys.entry(credential.consumer_key.clone()).or_insert(key);
            }
        }
        Directory { keys }
    }

    /// Checks a key for a call; the first product that covers it supplies the variables, and the
    /// second value is the resource that matched.
    pub(crate) fn verify(
        &self,
        key: &str,
        now: i64,
        environment: &str,
        proxy: &str,
        path_suffix: &str,
    ) -> Result<(&Grant, &str), KeyRefusal> {
        let key = self.keys.get(key).ok_or(KeyRefusal::Unknown)?;
        if !key.approved {
            return Err(KeyRefusal::NotApproved);
        }
        if key.expires_at >= 0 && key.expires_at <= now {
            return Err(KeyRefusal::Expired);
        }
        if !key.developer_active {
            return Err(KeyRefusal::DeveloperNotActive);
        }
        if !key.app_approved {
            return Err(KeyRefusal::AppNotApproved);
        }
        let covers =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|item| item == name);
        key.products
            .iter()
            .filter(|product| {
                product.approved
                    && covers(&product.environments, environment)
                    && covers(&product.proxies, proxy)
            })
            .find_map(|product| Some((&product.grant, product.resource(path_suffix)?)))
            .ok_or(KeyRefusal::NoProduct)
    }
}

impl Product {
    /// The resource path that covers a path; no resource paths at all cover everything.
    fn resource(&self, path_suffix: &str) -> Option<&str> {
        if self.resources.is_empty() {
            return Some("/");
        }
        let (written, _) = self.resources.iter().find(|(_, resource)| match resource {
            Resource::All => true,
            Resource::Pattern(pattern) => pattern.matches(path_suffix),
        })?;
        Some(written)
    }
}

impl Key {
    fn new(
        organization: &Organization,
        app: &App,
        developer: Option<&Developer>,
        credential: &Credential,
        products: &HashMap<&str, &ApiProduct>,
    ) -> Key {
        let approved = |status: &str| status.eq_ignore_ascii_case("approved");
        let of = |(name, status): &(String, String)| {
            let product = products.get(name.as_str())?;
            let resources = product.api_resources.iter().map(|written| {
                let resource = match written.as_str() {
                    "/" => Resource::All,
                    pattern => Resource::Pattern(PathPattern::new(pattern)),
                };
                (written.clone(), resource)
            });
            Some(Product {
                approved: approved(status),
                environments: product.environments.clone(),
                proxies: product.proxies.clone(),
                resources: resources.collect(),
                grant: grant(organization, app, developer, credential, product),
            })
        };
        Key {
            approved: approved(&credential.status),
            expires_at: credential.expires_at,
            app_approved: approved(&app.status),
            developer_active: developer
                .is_some_and(|developer| developer.status.eq_ignore_ascii_case("active")),
            products: credential.api_products.iter().filter_map(of).collect(),
        }
    }
}

fn grant(
    organization: &Organization,
    app: &App,
    developer: Option<&Developer>,
    credential: &Credential,
    product: &ApiProduct,
) -> Grant {
    let app_id = stable_id(&["app", &organization.name, &app.developer, &app.name]);
    let developer_id = stable_id(&["developer", &organization.name, &app.developer]);
    let mut variables: HashMap<String, Value<'static>> = HashMap::new();
    let mut set = |name: String, value: &str| {
        variables.insert(name, Value::owned(value));
    };
    for (key, value) in &product.attributes {
        set(format!("apiproduct.{key}"), value);
    }
    for (key, value) in &app.attributes {
        set(format!("app.{key}"), value);
    }
    for (key, value) in developer.map(|developer| &developer.attributes).into_iter().flatten() {
        set(format!("developer.{key}"), value);
    }
    for (name, value) in [
        ("client_id", Some(&credential.consumer_key)),
        ("client_secret", Some(&credential.consumer_secret)),
        ("redirection_uris", app.attributes.get("callbackUrl")),
        ("DisplayName", app.attributes.get("DisplayName").or(Some(&app.name))),
        ("developer.app.id", Some(&app_id)),
        ("developer.app.name", Some(&app.name)),
        ("developer.id", Some(&developer_id)),
        ("developer.email", developer.map(|developer| &developer.email)),
        ("developer.firstName", developer.map(|developer| &developer.first_name)),
        ("developer.lastName", developer.map(|developer| &developer.last_name)),
        ("developer.userName", developer.map(|developer| &developer.user_name)),
        ("developer.status", developer.map(|developer| &developer.status)),
        ("app.name", Some(&app.name)),
        ("app.id", Some(&app_id)),
        ("app.status", Some(&app.status)),
        ("apiproduct.name", Some(&product.name)),
        ("apiproduct.developer.quota.limit", product.quota.as_ref()),
        ("apiproduct.developer.quota.interval", product.quota_interval.as_ref()),
        ("apiproduct.developer.quota.timeunit", product.quota_time_unit.as_ref()),
    ] {
        if let Some(value) = value {
            set(name.to_owned(), value);
        }
    }
    set("app.appType".to_owned(), "Developer");
    Grant { product: product.name.as_str().into(), variables: Arc::new(variables) }
}

/// The topology has no ids for apps and developers: they are derived from the names, in the shape
/// of a UUID, and so are the same at every start.
fn stable_id(names: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, names.join("\0").as_bytes());
    let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-5{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::tests::organization;

    #[test]
    fn every_link_from_key_to_resource_is_checked() {
        let directory = Directory::new(&organization());
        for (key, environment, proxy, path, expected) in [
            ("good", "prod", "orders", "/1", Ok("/**")),
            ("good", "prod", "orders", "/1/2", Ok("/**")),
            ("good", "test", "orders", "/1", Err(KeyRefusal::NoProduct)),
            ("good", "prod", "other", "/1", Err(KeyRefusal::NoProduct)),
            ("narrow", "prod", "orders", "/admin/users", Ok("/*/users")),
            ("narrow", "prod", "orders", "/admin/users/1", Err(KeyRefusal::NoProduct)),
            ("all", "prod", "anything", "", Ok("/")),
            ("nope", "prod", "orders", "/1", Err(KeyRefusal::Unknown)),
            ("revoked", "prod", "orders", "/1", Err(KeyRefusal::NotApproved)),
            ("expired", "prod", "orders", "/1", Err(KeyRefusal::Expired)),
            ("pending", "prod", "orders", "/1", Err(KeyRefusal::NoProduct)),
            ("revoked-app", "prod", "orders", "/1", Err(KeyRefusal::AppNotApproved)),
            ("inactive", "prod", "orders", "/1", Err(KeyRefusal::DeveloperNotActive)),
        ] {
            let verdict =
                directory.verify(key, 1000, environment, proxy, path).map(|(_, resource)| resource);
            assert_eq!(verdict, expected, "{key} {environment} {proxy} {path}");
        }
    }

    #[test]
    fn a_good_key_gives_the_documented_variables() {
        let directory = Directory::new(&organization());
        let (grant, _) =
            directory.verify("good", 1000, "prod", "orders", "/1").expect("a good key");
        for (name, value) in [
            ("client_id", "good"),
            ("developer.email", "dev@example.com"),
            ("developer.app.name", "app"),
            ("app.tier", "gold"),
            ("apiproduct.name", "orders-product"),
            ("apiproduct.developer.quota.limit", "5"),
            ("apiproduct.access", "public"),
        ] {
            assert_eq!(grant.variables.get(name), Some(&Value::text(value)), "{name}");
        }
        let id = grant.variables.get("app.id").map(|id| id.as_text().len());
        assert_eq!(id, Some(36));
    }
}
