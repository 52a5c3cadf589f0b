//! API products, developers, apps and their keys (apigee 10.3).

use super::apigee::{duplicate, unknown};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::apigee::{
    App, ApprovalStatus, Attribute, DeveloperApp, DeveloperStatus, Organization,
};
use slice::apigee;
use std::collections::{BTreeMap, HashMap, HashSet};

/// API products, and their names.
pub(super) fn api_products(
    raw: &Organization,
    environments: &[&str],
    proxies: &HashSet<&str>,
    findings: &mut Findings,
) -> (Vec<apigee::ApiProduct>, HashSet<String>) {
    let mut names = HashSet::new();
    let mut all = Vec::new();
    for product in &raw.apiproducts {
        if !names.insert(product.name.value.clone()) {
            duplicate("API product", &product.name, findings);
            continue;
        }
        for environment in &product.environments {
            if !environments.contains(&environment.as_str()) {
                unknown("environment", environment, environment, environments, findings);
            }
        }
        for proxy in &product.proxies {
            if !proxies.contains(proxy.as_str()) {
                let known: Vec<&str> = proxies.iter().copied().collect();
                unknown("deployed API proxy", proxy, proxy, &known, findings);
            }
        }
        let quota = [
            product.quota.is_some(),
            product.quota_interval.is_some(),
            product.quota_time_unit.is_some(),
        ];
        if quota.contains(&true) && quota.contains(&false) && !product.faulty {
            findings.error(
                Code::MissingField,
                product.at,
                format!("the quota of `{}` is incomplete; it is made of quota, quotaInterval and quotaTimeUnit", product.name.value),
                "write all three, or none",
            );
        }
        if let Some(unit) = &product.quota_time_unit
            && !["minute", "hour", "day", "month"].contains(&unit.as_str())
        {
            findings.error(
                Code::InvalidValue,
                unit.at,
                format!("`{}` is no unit of a quota", unit.value),
                "write minute, hour, day or month",
            );
        }
        all.push(apigee::ApiProduct {
            name: product.name.value.clone(),
            display_name: product.display_name.as_ref().unwrap_or(&product.name).value.clone(),
            environments: texts(&product.environments),
            proxies: texts(&product.proxies),
            api_resources: texts(&product.api_resources),
            quota: product.quota.as_ref().map(|quota| quota.0.clone()),
            quota_interval: product.quota_interval.as_ref().map(|interval| interval.0.clone()),
            quota_time_unit: product.quota_time_unit.as_ref().map(|unit| unit.value.clone()),
            attributes: attributes(&product.attributes),
        });
    }
    (all, names)
}

/// Developers, and apps with their keys.
pub(super) fn developers_and_apps(
    raw: &Organization,
    products: &HashSet<String>,
    findings: &mut Findings,
) -> (Vec<apigee::Developer>, Vec<apigee::App>) {
    let mut developers: Vec<apigee::Developer> = Vec::new();
    let mut emails = HashSet::new();
    for developer in &raw.developers {
        if !emails.insert(developer.email.to_ascii_lowercase()) {
            duplicate("developer", &developer.email, findings);
            continue;
        }
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        let status = match developer.status {
            None | Some(DeveloperStatus::Active) => "active",
            Some(DeveloperStatus::Inactive) => "inactive",
        };
        developers.push(apigee::Developer {
            email: developer.email.value.clone(),
            first_name: text(&developer.first_name).unwrap_or_default(),
            last_name: text(&developer.last_name).unwrap_or_default(),
            user_name: text(&developer.user_name).unwrap_or_default(),
            status: status.to_owned(),
            attributes: attributes(&developer.attributes),
        });
    }
    let nested = raw.developers.iter().flat_map(|developer| {
        developer.apps.iter().filter_map(|app| match app {
            DeveloperApp::App(app) => Some((&**app, Some(&developer.email))),
            DeveloperApp::Name => None,
        })
    });
    let mut keys: HashMap<String, Mark> = HashMap::new();
    let mut names = HashSet::new();
    let mut apps = Vec::new();
    for (app, owner) in nested.chain(raw.apps.iter().map(|app| (app, app.developer.as_ref()))) {
        let owner = owner.or(app.developer_id.as_ref());
        let Some(owner) = owner else {
            if !app.faulty {
                findings.error(
                    Code::MissingField,
                    app.at,
                    format!("the app `{}` has no developer", app.name.value),
                    "add developer: EMAIL, or write the app under its developer",
                );
            }
            continue;
        };
        if !emails.contains(&owner.to_ascii_lowercase()) {
            let known: Vec<&str> = emails.iter().map(String::as_str).collect();
            unknown("developer", owner, owner, &known, findings);
        }
        if !names.insert((owner.to_ascii_lowercase(), app.name.value.clone())) {
            duplicate("app", &app.name, findings);
            continue;
        }
        apps.push(lower_app(app, owner, products, &mut keys, findings));
    }
    (developers, apps)
}

fn lower_app(
    app: &App,
    owner: &Text,
    products: &HashSet<String>,
    keys: &mut HashMap<String, Mark>,
    findings: &mut Findings,
) -> apigee::App {
    let status = |status: Option<ApprovalStatus>| {
        match status {
            None | Some(ApprovalStatus::Approved) => "approved",
            Some(ApprovalStatus::Revoked) => "revoked",
            Some(ApprovalStatus::Pending) => "pending",
        }
        .to_owned()
    };
    let mut credentials = Vec::with_capacity(app.credentials.len());
    for credential in &app.credentials {
        let key = &credential.consumer_key;
        if let Some(first) = keys.insert(key.value.clone(), key.at) {
            let first = findings.position(first);
            findings.error(
                Code::DuplicateResource,
                key.at,
                format!("this key belongs to an app already, at {first}"),
                "give each app its own key",
            );
        }
        let mut approved = Vec::with_capacity(credential.api_products.len());
        for product in &credential.api_products {
            if !products.contains(&product.apiproduct.value) {
                let known: Vec<&str> = products.iter().map(String::as_str).collect();
                unknown("API product", &product.apiproduct, &product.apiproduct, &known, findings);
            }
            approved.push((product.apiproduct.value.clone(), status(product.status)));
        }
        credentials.push(apigee::Credential {
            consumer_key: key.value.clone(),
            consumer_secret: credential
                .consumer_secret
                .as_ref()
                .map(|s| s.value.clone())
                .unwrap_or_default(),
            status: status(credential.status),
            expires_at: credential.expires_at.as_ref().map_or(-1, |expires| expires.value.0),
            api_products: approved,
        });
    }
    apigee::App {
        name: app.name.value.clone(),
        developer: owner.value.clone(),
        status: status(app.status),
        attributes: attributes(&app.attributes),
        credentials,
    }
}

fn attributes(raw: &[Attribute]) -> BTreeMap<String, String> {
    let value = |attribute: &Attribute| attribute.value.as_ref().map(|value| value.value.clone());
    raw.iter().map(|a| (a.name.value.clone(), value(a).unwrap_or_default())).collect()
}

fn texts(raw: &[Text]) -> Vec<String> {
    raw.iter().map(|text| text.value.clone()).collect()
}
