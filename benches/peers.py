"""The candidates of side_by_side.py: their configurations and start commands.

Each is an HTTP(S) reverse proxy with one worker: hosts `svc-N.example.com` to 100 back ends, no
access log, connections kept on both sides, TLS 1.3, HTTP/2 where there is TLS. Ours is configured by
topology.py and writes its request log, as it always does.
"""

import dataclasses
import glob
import json
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SERVICES = 100
RELOAD = {"ours": signal.SIGHUP, "nginx": signal.SIGHUP, "haproxy": signal.SIGUSR2}


@dataclasses.dataclass
class Setup:
    """What a candidate is to serve."""

    folder: str
    port: int
    backend_port: int
    tls: bool
    cert: str  # path without .crt, .key, .pem
    hosts: int


def ours(name):
    """One of our own programs."""
    folder = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "target", "release"))
    return os.path.join(folder, name)


def program(name):
    """A peer's program: $ENVOY and the like, PATH, /usr/sbin, the venv that .ci/run makes."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = os.environ.get(name.upper()) or shutil.which(name, path=path)
    if not found and name == "envoy":
        packaged = glob.glob(f"{ROOT}/target/foreign-venv/lib/python3*/site-packages/envoy/_bin/envoy")
        found = packaged[0] if packaged else None
    return found


def prepare(name, setup):
    """Writes the configuration; the start command and its environment."""
    return {"ours": internal_lb, "nginx": nginx, "haproxy": haproxy, "envoy": envoy}[name](setup)


def address(service):
    """Where a back end is: every one is the same program, which listens on all of 127/8."""
    return f"127.1.{service // 250}.{service % 250 + 1}"


def rules(setup):
    """(host, service) of every host rule."""
    return ((f"svc-{i}.example.com", i % SERVICES) for i in range(setup.hosts))


def write(path, text):
    """A file of the candidate's folder."""
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
    return path


def internal_lb(setup):
    """Ours, by the topology that the shared harness uses too."""
    hostmap = "".join(
        f"{host}\t{address(service)}:{setup.backend_port}\n" for host, service in rules(setup))
    values = {
        "DIR": setup.folder, "LISTEN": f"127.0.0.1:{setup.port}", "PORT": setup.port,
        "HOSTMAP": write(f"{setup.folder}/hosts", hostmap), "TLS": int(setup.tls),
        "CERT": setup.cert + ".crt", "KEY": setup.cert + ".key",
        "SERVICES": SERVICES, "BACKEND_PORT": setup.backend_port,
    }
    env = {f"BENCH_{name}": str(value) for name, value in values.items()}
    subprocess.run([sys.executable, f"{HERE}/topology.py", "l7"], env={**os.environ, **env}, check=True)
    command = [
        ours("internal-lb"), "--topology", f"{setup.folder}/topology", "--network", "bench/lb",
        "--state-dir", f"{setup.folder}/state", "--workers", "1"]
    return command, {}


def nginx(setup):
    """A map of hosts, an upstream with kept connections for each back end."""
    folder = setup.folder
    upstreams = "".join(
        f"upstream u{k} {{ server {address(k)}:{setup.backend_port}; keepalive 64; }}\n"
        for k in range(SERVICES))
    hosts = "".join(f"{host} u{service};\n" for host, service in rules(setup))
    tls = ""
    if setup.tls:
        tls = (f"ssl_certificate {setup.cert}.crt; ssl_certificate_key {setup.cert}.key; "
               "ssl_protocols TLSv1.3;")
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = write(f"{folder}/nginx.conf", f"""daemon off; worker_processes 1; worker_rlimit_nofile 20000;
pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log off; {temporary}
  keepalive_requests 1000000000; keepalive_timeout 3600s;
  map_hash_max_size 262144; map_hash_bucket_size 128;
  map $host $to {{ default ""; include {write(f"{folder}/hosts", hosts)}; }}
  {upstreams}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; {tls}
  server {{
    listen 127.0.0.1:{setup.port} {"ssl http2" if setup.tls else ""} backlog=4096;
    location / {{ if ($to = "") {{ return 404; }} proxy_pass http://$to; }}
  }}
}}
""")
    return [program("nginx"), "-c", path, "-e", f"{folder}/error.log"], {}


def haproxy(setup):
    """A map file of hosts; master and worker, so that it can be told to reload."""
    hosts = "".join(f"{host} u{service}\n" for host, service in rules(setup))
    hosts = write(f"{setup.folder}/hosts", hosts)
    tls = f"ssl crt {setup.cert}.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3" if setup.tls else ""
    backends = "".join(
        f"backend u{k}\n  server s {address(k)}:{setup.backend_port}\n" for k in range(SERVICES))
    path = write(f"{setup.folder}/haproxy.cfg", f"""global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 60s
  http-reuse always
frontend front
  bind 127.0.0.1:{setup.port} backlog 4096 {tls}
  use_backend %[req.hdr(host),lower,map({hosts},none)]
{backends}""")
    return [program("haproxy"), "-W", "-f", path], {}


def envoy(setup):
    """A virtual host for each host."""
    api = "type.googleapis.com/envoy.extensions."
    at = lambda ip, port: {"socket_address": {"address": ip, "port_value": port}}  # noqa: E731
    hosts = [
        {"name": host, "domains": [host],
         "routes": [{"match": {"prefix": "/"}, "route": {"cluster": f"u{service}"}}]}
        for host, service in rules(setup)]
    manager = {
        "@type": api + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "h", "generate_request_id": False, "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router",
                          "typed_config": {"@type": api + "filters.http.router.v3.Router"}}]}
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    if setup.tls:
        certificate = {"certificate_chain": {"filename": setup.cert + ".crt"},
                       "private_key": {"filename": setup.cert + ".key"}}
        context = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]}
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": api + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": context}}
    clusters = [
        {"name": f"u{k}", "type": "STATIC", "load_assignment": {
            "cluster_name": f"u{k}", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": at(address(k), setup.backend_port)}}]}]}}
        for k in range(SERVICES)]
    listener = {"name": "l", "address": at("127.0.0.1", setup.port), "filter_chains": [chain]}
    path = write(f"{setup.folder}/envoy.json", json.dumps(
        {"static_resources": {"listeners": [listener], "clusters": clusters}}))
    command = [program("envoy"), "-c", path, "--concurrency", "1", "--disable-hot-restart",
               "--log-level", "error"]
    return command, {}
