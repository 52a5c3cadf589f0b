//! SSL policies and server TLS policies of target HTTPS proxies (private-connectivity 2.1).

use super::Lowering;
use super::rules::same_region;
use crate::decode::At;
use crate::diagnostic::{Code, Findings};
use crate::fields::load_balancing::{
    ClientValidationMode, MinTlsVersion, PemCertificate, ServerTlsPolicy, SslPolicy, SslProfile,
    TargetHttpsProxy,
};
use crate::model::Item;
use slice::load_balancer as lb;

/// The cipher suites of TLS 1.2 that SSL policies know, and whether MODERN and RESTRICTED have them
/// (Google's table "SSL policy features"). Those of TLS 1.3 are in every profile and cannot be chosen.
const FEATURES: [(&str, bool, bool); 17] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", true, true),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", true, true),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", true, true),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", true, true),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", true, true),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", true, true),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", true, false),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", true, false),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", true, false),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", true, false),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", false, false),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", false, false),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", false, false),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", false, false),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", false, false),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", false, false),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", false, false),
];

impl Lowering<'_> {
    /// Reads every policy once, used or not.
    pub(crate) fn tls_policies(&mut self, findings: &mut Findings) {
        for item in &self.model.ssl_policies.items {
            let policy = read_ssl_policy(item, findings);
            self.ssl_policies.insert(item.link.clone(), policy);
        }
        for item in &self.model.server_tls_policies.items {
            if let Some(policy) = self.read_server_tls_policy(item, findings) {
                self.server_tls_policies.insert(item.link.clone(), policy);
            }
        }
    }

    /// The SSL policy of a target HTTPS proxy.
    pub(crate) fn ssl_policy(
        &self,
        proxy: &Item<TargetHttpsProxy>,
        findings: &mut Findings,
    ) -> Option<lb::SslPolicy> {
        let reference = proxy.raw.ssl_policy.as_ref()?;
        let stores = &self.model.ssl_policies;
        let item = self.model.find(stores, reference, &proxy.scope(), findings)?;
        same_region(proxy, item, reference, findings);
        self.ssl_policies.get(&item.link).cloned()
    }

    /// The server TLS policy of a target HTTPS proxy.
    pub(crate) fn server_tls_policy(
        &self,
        proxy: &Item<TargetHttpsProxy>,
        findings: &mut Findings,
    ) -> Option<lb::ServerTlsPolicy> {
        let reference = proxy.raw.server_tls_policy.as_ref()?;
        let stores = &self.model.server_tls_policies;
        let item = self.model.find(stores, reference, &proxy.scope(), findings)?;
        self.server_tls_policies.get(&item.link).cloned()
    }

    /// A server TLS policy with its trust config.
    fn read_server_tls_policy(
        &self,
        item: &Item<ServerTlsPolicy>,
        findings: &mut Findings,
    ) -> Option<lb::ServerTlsPolicy> {
        let model = self.model;
        let raw = &item.raw;
        let Some(mtls) = &raw.mtls_policy else {
            if !raw.faulty {
                findings.error(
                    Code::MissingField,
                    raw.at,
                    "`mtlsPolicy` is missing; without it the policy says nothing to a load balancer",
                    "add mtlsPolicy: {clientValidationMode: REJECT_INVALID, clientValidationTrustConfig: NAME}",
                );
            }
            return None;
        };
        let mode = mtls.client_validation_mode.as_ref().map(|At { value, .. }| *value);
        let Some(mode) = mode else {
            if !mtls.faulty {
                findings.error(
                    Code::MissingField,
                    mtls.at,
                    "`clientValidationMode` is missing",
                    "write REJECT_INVALID or ALLOW_INVALID_OR_MISSING_CLIENT_CERT",
                );
            }
            return None;
        };
        let pem = |all: &[PemCertificate], findings: &mut Findings| {
            for text in all.iter().map(|one| &one.pem_certificate) {
                let certificates = super::certificates::pem(text, "CERTIFICATE");
                if certificates.is_none_or(|all| all.is_empty()) {
                    findings.error(
                        Code::Certificate,
                        text.at,
                        "the text holds no PEM certificate",
                        "paste the PEM with its BEGIN CERTIFICATE and END CERTIFICATE lines under `pemCertificate: |`",
                    );
                }
            }
            all.iter().map(|one| one.pem_certificate.value.clone()).collect::<Vec<_>>()
        };
        let mut policy = lb::ServerTlsPolicy {
            self_link: item.link.clone(),
            allow_invalid_or_missing: mode == ClientValidationMode::Allow,
            trust_anchors: Vec::new(),
            intermediate_cas: Vec::new(),
            allowlisted_certificates: Vec::new(),
        };
        match &mtls.client_validation_trust_config {
            Some(reference) => {
                let config =
                    model.find(&model.trust_configs, reference, &item.scope(), findings)?;
                for store in &config.raw.trust_stores {
                    policy.trust_anchors.extend(pem(&store.trust_anchors, findings));
                    policy.intermediate_cas.extend(pem(&store.intermediate_cas, findings));
                }
                policy.allowlisted_certificates =
                    pem(&config.raw.allowlisted_certificates, findings);
                if policy.trust_anchors.is_empty()
                    && policy.allowlisted_certificates.is_empty()
                    && !config.raw.faulty
                {
                    findings.error(
                        Code::MissingField,
                        config.raw.at,
                        "the trust config has neither a trust anchor nor an allowlisted certificate; no client certificate would be good",
                        "add trustStores: [{trustAnchors: [{pemCertificate: …}]}]",
                    );
                }
            }
            None if mode == ClientValidationMode::Reject && !mtls.faulty => {
                findings.error(
                    Code::MissingField,
                    mtls.at,
                    "REJECT_INVALID needs `clientValidationTrustConfig`; no client certificate would be good",
                    "add clientValidationTrustConfig: NAME",
                );
                return None;
            }
            None => {}
        }
        Some(policy)
    }
}

/// An SSL policy with the features of its profile.
fn read_ssl_policy(item: &Item<SslPolicy>, findings: &mut Findings) -> lb::SslPolicy {
    let raw = &item.raw;
    let profile = raw.profile.unwrap_or(SslProfile::Compatible);
    let restricted = profile == SslProfile::Restricted;
    let min_tls_version = match raw.min_tls_version.as_ref().map(|version| version.value) {
        Some(MinTlsVersion::Tls13) => lb::TlsVersion::Tls13,
        Some(MinTlsVersion::Tls10 | MinTlsVersion::Tls11) if restricted => {
            let at = raw.min_tls_version.as_ref().map_or(raw.at, |version| version.at);
            findings.error(
                Code::SslPolicy,
                at,
                "the profile RESTRICTED needs minTlsVersion TLS_1_2 or TLS_1_3",
                "write minTlsVersion: TLS_1_2",
            );
            lb::TlsVersion::Tls12
        }
        Some(MinTlsVersion::Tls10 | MinTlsVersion::Tls11) => {
            findings.warning(
                Code::NotYetHonoured,
                raw.min_tls_version.as_ref().map_or(raw.at, |version| version.at),
                "TLS 1.0 and 1.1 are not spoken here; TLS 1.2 is the oldest version",
                "write minTlsVersion: TLS_1_2 to silence this warning",
            );
            lb::TlsVersion::Tls12
        }
        _ => lb::TlsVersion::Tls12,
    };
    let features = match profile {
        SslProfile::Custom => {
            if raw.custom_features.is_empty() && !raw.faulty {
                findings.error(
                    Code::SslPolicy,
                    raw.at,
                    "the profile CUSTOM needs customFeatures",
                    "add customFeatures: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, …]",
                );
            }
            for feature in &raw.custom_features {
                if !FEATURES.iter().any(|(name, ..)| *name == feature.as_str()) {
                    findings.error(
                        Code::SslPolicy,
                        feature.at,
                        format!("`{}` is no feature of SSL policies", feature.value),
                        "see `gcloud compute ssl-policies list-available-features`",
                    );
                }
            }
            raw.custom_features.iter().map(|feature| feature.value.clone()).collect()
        }
        other => {
            if let Some(first) = raw.custom_features.first() {
                findings.error(
                    Code::ConflictingFields,
                    first.at,
                    "customFeatures is for the profile CUSTOM",
                    "write profile: CUSTOM, or remove customFeatures",
                );
            }
            let in_profile = |(_, modern, restricted): &&(&str, bool, bool)| match other {
                SslProfile::Modern => *modern,
                SslProfile::Restricted | SslProfile::Fips => *restricted,
                SslProfile::Compatible | SslProfile::Custom => true,
            };
            let fips = |name: &&str| other != SslProfile::Fips || !name.contains("CHACHA20");
            let names = FEATURES.iter().filter(in_profile).map(|(name, ..)| *name);
            names.filter(fips).map(str::to_owned).collect()
        }
    };
    lb::SslPolicy { self_link: item.link.clone(), min_tls_version, features }
}
