//! Names of targets → addresses: asked from the resolver of the tenant network, remembered for as
//! long as the records say.

use crate::ApiProxy;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts,
    ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use runtime::Worker;
use slice::METADATA_ADDRESS;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

/// The most names that are remembered.
const NAMES_MAX: u64 = 1024;
/// For one question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// For the whole answer, all attempts together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// A name without an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved(pub String);

/// The resolver of one worker thread.
#[derive(Default)]
pub struct Resolver {
    current: RefCell<Option<Current>>,
}

struct Current {
    server: SocketAddr,
    /// A reload forgets the answers: zones may have changed in the same edit.
    generation: u64,
    resolver: Rc<TokioResolver>,
}

impl Resolver {
    /// The IPv4 addresses of a host, in the order of the answer.
    ///
    /// # Errors
    /// The name has none, or the resolver does not answer; in words for the log.
    pub async fn resolve(
        &self,
        worker: &Worker<ApiProxy>,
        host: &str,
    ) -> Result<Vec<Ipv4Addr>, Unresolved> {
        match host.parse() {
            Ok(IpAddr::V4(address)) => return Ok(vec![address]),
            Ok(IpAddr::V6(_)) => {
                return Err(Unresolved(format!("{host}: networks here have no IPv6")));
            }
            Err(_) => {}
        }
        let resolver = self.current(worker)?;
        // Absolute: no search list.
        let name = format!("{}.", host.trim_end_matches('.'));
        match tokio::time::timeout(ANSWER_TIMEOUT, resolver.ipv4_lookup(name)).await {
            Err(_) => Err(Unresolved(format!("{host}: the resolver does not answer"))),
            Ok(Err(error)) if error.is_nx_domain() => {
                Err(Unresolved(format!("{host}: no such name (NXDOMAIN)")))
            }
            Ok(Err(error)) if error.is_no_records_found() => {
                Err(Unresolved(format!("{host}: the name has no A record (NODATA)")))
            }
            Ok(Err(error)) => Err(Unresolved(format!("{host}: {error}"))),
            Ok(Ok(lookup)) => {
                let addresses: Vec<Ipv4Addr> = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        hickory_resolver::proto::rr::RData::A(address) => Some(address.0),
                        _ => None,
                    })
                    .collect();
                match addresses.is_empty() {
                    true => Err(Unresolved(format!("{host}: the name has no A record"))),
                    false => Ok(addresses),
                }
            }
        }
    }

    fn current(&self, worker: &Worker<ApiProxy>) -> Result<Rc<TokioResolver>, Unresolved> {
        let server = worker.context().network().real(SocketAddrV4::new(METADATA_ADDRESS, 53));
        let generation = worker.generation();
        let mut current = self.current.borrow_mut();
        if let Some(current) = &*current
            && current.server == server
            && current.generation == generation
        {
            return Ok(current.resolver.clone());
        }
        let resolver = Rc::new(build(server).map_err(Unresolved)?);
        *current = Some(Current { server, generation, resolver: resolver.clone() });
        Ok(resolver)
    }
}

fn build(server: SocketAddr) -> Result<TokioResolver, String> {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = server.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.ip_strategy = LookupIpStrategy::Ipv4Only;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = NAMES_MAX;
    options.timeout = QUESTION_TIMEOUT;
    options.attempts = 2;
    Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| format!("the resolver: {error}"))
}
