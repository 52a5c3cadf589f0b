//! Certificates: PEM as it is written, or the names for which the dev CA issues one.

use super::Lowering;
use crate::diagnostic::{Code, Findings};
use crate::fields::load_balancing::{SslCertificate, TargetHttpsProxy};
use crate::model::Item;
use base64::Engine;
use slice::load_balancer as lb;

impl Lowering<'_> {
    /// The certificates of a target HTTPS proxy, in order.
    pub(crate) fn certificates(
        &self,
        proxy: &Item<TargetHttpsProxy>,
        findings: &mut Findings,
    ) -> Option<Vec<lb::SslCertificate>> {
        let model = self.model;
        let wanted = &proxy.raw.ssl_certificates;
        if wanted.is_empty() && !proxy.raw.faulty {
            findings.error(
                Code::MissingField,
                proxy.raw.at,
                format!("the target HTTPS proxy `{}` has no certificate", proxy.name()),
                "add sslCertificates: [NAME]",
            );
        }
        if wanted.len() > 15 {
            findings.error(
                Code::ListTooLong,
                wanted[15].at,
                "a target HTTPS proxy takes at most 15 certificates",
                "remove some",
            );
        }
        let mut all = Vec::with_capacity(wanted.len());
        let mut complete = !wanted.is_empty();
        for reference in wanted {
            let item = model.find(&model.ssl_certificates, reference, &proxy.scope(), findings);
            match item.and_then(|item| self.topology_certificates.get(&item.link)) {
                Some(certificate) => all.push(certificate.clone()),
                None => complete = false,
            }
        }
        complete.then_some(all)
    }

    /// Reads every certificate once.
    pub(crate) fn read_certificates(&mut self, findings: &mut Findings) {
        for item in &self.model.ssl_certificates.items {
            if let Some(certificate) = read(item, findings) {
                self.topology_certificates.insert(item.link.clone(), certificate);
            }
        }
    }
}

fn read(item: &Item<SslCertificate>, findings: &mut Findings) -> Option<lb::SslCertificate> {
    let raw = &item.raw;
    let own = raw.self_managed.as_ref();
    let chain = raw.certificate.as_ref().or(own.and_then(|own| own.certificate.as_ref()));
    let key = raw.private_key.as_ref().or(own.and_then(|own| own.private_key.as_ref()));
    let managed = raw.managed.iter().flat_map(|managed| &managed.domains);
    let ours = raw.postern.iter().flat_map(|postern| &postern.domains);
    let mut domains: Vec<String> = Vec::new();
    let mut bad_names = raw.faulty;
    for name in ours.chain(managed).chain(&raw.subject_alternative_names) {
        let bare = name.strip_prefix("*.").unwrap_or(name);
        if !crate::names_rules::is_hostname(bare) {
            bad_names = true;
            findings.error(
                Code::DnsName,
                name.at,
                format!("`{}` is no host name; certificates carry host names", name.value),
                "write a name such as api.internal.example.com or *.example.com",
            );
        } else if !domains.contains(&name.to_ascii_lowercase()) {
            domains.push(name.to_ascii_lowercase());
        }
    }
    if let (None, Some(key)) = (chain, key) {
        findings.error(
            Code::Certificate,
            key.at,
            "there is a key without a certificate",
            "add `certificate`, or remove `privateKey`",
        );
        return None;
    }
    let Some(chain) = chain else {
        if domains.is_empty() {
            if bad_names {
                return None;
            }
            findings.error(
                Code::MissingField,
                raw.at,
                format!("the certificate `{}` has neither PEM nor names", item.name()),
                "add `certificate` and `privateKey`, or postern: {domains: [NAME]} to let the dev CA issue one",
            );
            return None;
        }
        return Some(lb::SslCertificate {
            self_link: item.link.clone(),
            certificate: String::new(),
            private_key: String::new(),
            domains,
        });
    };
    let certificates = pem(chain, "CERTIFICATE");
    match &certificates {
        Some(all) if (1..=5).contains(&all.len()) => {}
        Some(all) if all.len() > 5 => findings.error(
            Code::Certificate,
            chain.at,
            format!("the chain has {} certificates; at most 5 are taken", all.len()),
            "leave out the root and what is not needed",
        ),
        _ => findings.error(
            Code::Certificate,
            chain.at,
            "the text holds no PEM certificate",
            "paste the PEM with its BEGIN CERTIFICATE and END CERTIFICATE lines under `certificate: |`",
        ),
    }
    let certificates = certificates.filter(|all| !all.is_empty())?;
    if let Some(key) = key
        && pem(key, "PRIVATE KEY").is_none_or(|keys| keys.len() != 1)
    {
        findings.error(
            Code::Certificate,
            key.at,
            "the text holds no PEM private key, or more than one",
            "paste the PEM with its BEGIN PRIVATE KEY and END PRIVATE KEY lines under `privateKey: |`",
        );
        return None;
    }
    if key.is_none() {
        if domains.is_empty() {
            domains = crate::x509::dns_names(&certificates[0]);
        }
        if domains.is_empty() {
            findings.error(
                Code::Certificate,
                chain.at,
                "the certificate has no key here and no DNS name for which the dev CA could issue another",
                "add `privateKey`, or postern: {domains: [NAME]}",
            );
            return None;
        }
        findings.warning(
            Code::CertificateWithoutKey,
            raw.at,
            format!("`{}` has no private key here (exports never do); the dev CA issues a certificate for {}", item.name(), domains.join(", ")),
            "add `privateKey` to use the certificate itself",
        );
    }
    Some(lb::SslCertificate {
        self_link: item.link.clone(),
        certificate: chain.value.clone(),
        private_key: key.map(|key| key.value.clone()).unwrap_or_default(),
        domains,
    })
}

/// The DER of each PEM block whose label ends in `label`; `None` where a block is broken.
pub(crate) fn pem(text: &str, label: &str) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (name, body) = after.split_once("-----")?;
        let (body, after) = body.split_once("-----END ")?;
        rest = after;
        if name.ends_with(label) {
            let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            all.push(base64::engine::general_purpose::STANDARD.decode(body).ok()?);
        }
    }
    Some(all)
}
