//! SPIFFE ids: `spiffe://TRUST_DOMAIN/project/PROJECT/network/NETWORK/PROGRAM`.

use names::NetworkId;
use slice::Role;
use std::fmt;
use std::str::FromStr;

/// The trust domain of certificates that are issued without naming another.
pub const TRUST_DOMAIN: &str = "postern";

/// Who a certificate speaks for: one program of one VPC network, in one trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    trust_domain: Box<str>,
    network: NetworkId,
    role: Role,
}

/// A text that is no SPIFFE id of a program here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnIdentity(pub String);

impl fmt::Display for NotAnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = "spiffe://TRUST_DOMAIN/project/PROJECT/network/NETWORK/PROGRAM";
        write!(f, "`{}` is not of the form {form}", self.0)
    }
}

impl std::error::Error for NotAnIdentity {}

impl Identity {
    /// The identity of a program that speaks between machines: an endpoint attachment or a service
    /// attachment.
    ///
    /// # Errors
    /// Another program, or a name that a SPIFFE id cannot hold.
    pub fn new(trust_domain: &str, network: &NetworkId, role: Role) -> Result<Self, NotAnIdentity> {
        let identity =
            Identity { trust_domain: trust_domain.into(), network: network.clone(), role };
        let text = identity.to_string();
        let speaks = matches!(role, Role::EndpointAttachment | Role::ServiceAttachment);
        let domain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        let fine = speaks
            && text.len() <= TEXT_MAX
            && !trust_domain.is_empty()
            && trust_domain.bytes().all(domain)
            && [segment(&network.project), network.name.to_string()].iter().all(|s| is_segment(s));
        if fine { Ok(identity) } else { Err(NotAnIdentity(text)) }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The VPC network.
    pub fn network(&self) -> &NetworkId {
        &self.network
    }

    /// The program.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Another program's identity in the same trust domain.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn peer(&self, network: &NetworkId, role: Role) -> Result<Self, NotAnIdentity> {
        Identity::new(&self.trust_domain, network, role)
    }
}

/// SPIFFE-ID 2.3: at most so many bytes.
const TEXT_MAX: usize = 2048;

/// SPIFFE-ID 2.2: letters, digits, dots, dashes, underscores; no relative segment.
fn is_segment(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(fine)
}

/// Projects of a domain have a colon (`example.com:project`), which a path segment cannot have. No
/// project id has an underscore, which so stands for it.
fn segment(project: &str) -> String {
    project.replace(':', "_")
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { trust_domain, network, role } = self;
        let (project, name) = (segment(&network.project), &network.name);
        write!(f, "spiffe://{trust_domain}/project/{project}/network/{name}/{}", role.program())
    }
}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let wrong = || NotAnIdentity(text.chars().take(TEXT_MAX).collect());
        let path = text.strip_prefix("spiffe://").ok_or_else(wrong)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "project", project, "network", name, program] = parts[..] else {
            return Err(wrong());
        };
        let known = [Role::EndpointAttachment, Role::ServiceAttachment];
        let role = known.into_iter().find(|role| role.program() == program).ok_or_else(wrong)?;
        let network = NetworkId::new(&project.replace('_', ":"), name);
        let identity = Identity::new(trust_domain, &network, role)?;
        // One text for one identity: two that differ are two.
        if identity.to_string() == text { Ok(identity) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_identity_is_one_text() {
        for text in [
            "spiffe://postern/project/shop/network/shop-network/endpoint-attachment",
            "spiffe://example.org/project/example.com_db/network/n/service-attachment",
        ] {
            let identity: Identity = text.parse().expect("an identity");
            assert_eq!(identity.to_string(), text);
        }
        let scoped: Identity = "spiffe://d/project/example.com_db/network/n/service-attachment"
            .parse()
            .expect("an identity");
        assert_eq!(*scoped.network(), NetworkId::new("example.com:db", "n"));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in [
            "",
            "spiffe://",
            "https://postern/project/p/network/n/endpoint-attachment",
            "spiffe://postern/project/p/network/n/internal-lb",
            "spiffe://postern/project/p/network/n",
            "spiffe://postern/project/p/network/n/endpoint-attachment/",
            "spiffe://postern/project//network/n/endpoint-attachment",
            "spiffe://postern/project/../network/n/endpoint-attachment",
            "spiffe://POSTERN/project/p/network/n/endpoint-attachment",
            "spiffe://postern:443/project/p/network/n/endpoint-attachment",
            "spiffe://u@postern/project/p/network/n/endpoint-attachment",
            "spiffe:///project/p/network/n/endpoint-attachment",
            "spiffe://postern/project/p:q/network/n/endpoint-attachment",
            "spiffe://postern/project/p/network/n%20/endpoint-attachment",
            "spiffe://postern/project/p/network/n/endpoint-attachment?x",
            "spiffe://postern/ns/default/sa/default",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
        let network = NetworkId::new("p", "n");
        assert!(Identity::new("postern", &network, Role::InternalLb).is_err());
        assert!(Identity::new("", &network, Role::ServiceAttachment).is_err());
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_written_back(text in "(spiffe://)?[a-z._-]{0,5}/project/[a-z_.:]{0,5}/network/[a-z.]{0,3}/(endpoint|service)-attachment") {
            if let Ok(identity) = text.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }
    }
}
