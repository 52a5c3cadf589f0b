//! Endpoints that are named (`INTERNET_FQDN_PORT`): their addresses, asked from the network's own
//! resolver in the background.

use crate::InternalLb;
use arc_swap::ArcSwap;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts,
    ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use runtime::Worker;
use runtime::log::{self, Severity};
use slice::METADATA_ADDRESS;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// More addresses of one name are not used.
const ADDRESSES_MAX: usize = 64;
/// An answer is asked for again no sooner and no later than this, whatever its TTL.
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(300);
/// After a failure, doubled up to the second one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A name, and the addresses that it had last.
pub struct Name {
    pub fqdn: Arc<str>,
    addresses: ArcSwap<Vec<Ipv4Addr>>,
}

impl Name {
    pub fn new(fqdn: Arc<str>) -> Name {
        Name { fqdn, addresses: ArcSwap::default() }
    }

    /// With this port.
    pub fn addresses(&self, port: u16) -> impl Iterator<Item = SocketAddrV4> {
        let addresses = self.addresses.load_full();
        (0..addresses.len()).map(move |at| SocketAddrV4::new(addresses[at], port))
    }

    /// Asks again and again, and puts in force what is new. A resolver that does not answer changes
    /// nothing; a name without address has no endpoint.
    pub async fn follow(self: Arc<Self>, worker: Rc<Worker<InternalLb>>) {
        let mut wait = RETRY_FIRST;
        loop {
            let network = worker.context().network();
            let server = network.real(SocketAddrV4::new(METADATA_ADDRESS, 53));
            let pause = match ask(server, &self.fqdn).await {
                Ok((mut addresses, time_to_live)) => {
                    addresses.sort_unstable();
                    addresses.dedup();
                    addresses.truncate(ADDRESSES_MAX);
                    if *self.addresses.load_full() != addresses {
                        self.moved(&worker, addresses);
                    }
                    wait = RETRY_FIRST;
                    time_to_live.clamp(REFRESH_MIN, REFRESH_MAX)
                }
                Err(error) => {
                    // Once, not at every attempt.
                    if wait == RETRY_FIRST {
                        log::entry(Severity::Warning, "an endpoint's name could not be resolved")
                            .field("fqdn", &*self.fqdn)
                            .field("error", error.as_str())
                            .emit();
                    }
                    let pause = wait;
                    wait = (wait * 2).min(RETRY_MAX);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn moved(&self, worker: &Worker<InternalLb>, addresses: Vec<Ipv4Addr>) {
        let text: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        log::entry(Severity::Info, "an endpoint's name has other addresses")
            .field("fqdn", &*self.fqdn)
            .field("addresses", text.join(" ").as_str())
            .emit();
        self.addresses.store(Arc::new(addresses));
        worker.snapshot().backends.moved(&worker.program.kept);
    }
}

/// Addresses and time to live; no address where the resolver says that there is none.
async fn ask(server: SocketAddr, fqdn: &str) -> Result<(Vec<Ipv4Addr>, Duration), String> {
    // Absolute: no search list.
    let name = format!("{}.", fqdn.trim_end_matches('.'));
    let lookup = match resolver(server)?.ipv4_lookup(name).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
            return Ok((Vec::new(), REFRESH_MIN));
        }
        Err(error) => return Err(error.to_string()),
    };
    let addresses = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Ok((addresses.collect(), Duration::from_secs(seconds.into())))
}

fn resolver(server: SocketAddr) -> Result<TokioResolver, String> {
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
    options.cache_size = 0; // what is kept is the addresses
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())
}
