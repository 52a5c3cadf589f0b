#!/usr/bin/env python3
"""Writes the topologies that our programs serve in the side-by-side benchmark (README.md).

    topology.py l7 | l4 | chain | dns
    topology.py wait PORT

Values come from the environment, as the harness gives them: BENCH_<NAME>. The result is the folder
BENCH_DIR/topology, one JSON file per project, each replaced as a whole so that a reload never reads
half of it. `wait` returns when 127.0.0.1:PORT accepts connections. Standard library only.
"""

import ipaddress
import json
import os
import socket
import sys
import time

REGION = "europe-west1"
PRODUCER = "bench"
CONSUMER = "bench-consumer"


def main() -> None:
    """Picks the sub-command."""
    roles = {"l7": l7, "l4": l4, "chain": chain, "dns": dns}
    match sys.argv[1:]:
        case ["wait", port]:
            wait(int(port))
        case [role] if role in roles:
            roles[role]()
        case _:
            sys.exit(__doc__)


def wait(port: int) -> None:
    """The harness starts a chain's programs at once and waits for the first one only."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"nobody listens on port {port}")


# ------------------------------------------------------------------ the roles
def l7() -> None:
    """One internal Application Load Balancer in front of 100 services.

    Each line of BENCH_HOSTMAP is a host and the address of its back end. Hosts of one back end share
    a path matcher, and a host rule has 1000 hosts at most. `lb.example.com` has path rules instead of
    a URL mask: a mask leads to Cloud Run, which is another process (see `chain`).
    """
    hosts_of = {}
    with open(value("HOSTMAP"), encoding="ascii") as lines:
        for line in lines:
            host, backend = line.split()
            hosts_of.setdefault(backend, []).append(host)
    names = {backend: f"backend-{i}" for i, backend in enumerate(hosts_of)}
    host_rules, matchers = [], []
    for backend, hosts in hosts_of.items():
        name = names[backend]
        for first in range(0, len(hosts), 1000):
            host_rules.append({"hosts": hosts[first : first + 1000], "pathMatcher": name})
        matchers.append({"name": name, "defaultService": name})
    masked = [(service, names.get(backend)) for service, backend in services()]
    path_rules = [
        {"paths": [f"/{service}", f"/{service}/*"], "service": name}
        for service, name in masked
        if name
    ]
    host_rules.append({"hosts": lb_hosts(), "pathMatcher": "lb"})
    matchers.append(
        {"name": "lb", "defaultService": "nothing-else-matched", "pathRules": path_rules}
    )
    tls = value("TLS") == "1"
    document = producer()
    document.update(
        front_end("lb", "10.0.0.5", 443 if tls else 80, "urlMaps/lb", tls=tls),
        urlMaps=[
            {
                "name": "lb",
                "defaultService": "nothing-else-matched",
                "hostRules": host_rules,
                "pathMatchers": matchers,
            }
        ],
        backendServices=[backend_service("nothing-else-matched", [])]
        + [backend_service(name, [name]) for name in names.values()],
        networkEndpointGroups=[address_group(name, at) for at, name in names.items()],
        placements=[placement("10.0.0.5", 443 if tls else 80, value("LISTEN"))],
    )
    write(producer=document)


def l4() -> None:
    """An endpoint and a service attachment for each pair `a=b` of BENCH_PAIRS: the endpoint is placed
    at a, the forwarding rule that the attachment publishes at b. BENCH_PP2=1 asks for PROXY v2."""
    pairs = [pair.split("=") for pair in value("PAIRS").split()]
    rules, attachments, endpoints, producers, consumers = [], [], [], [], []
    for i, (listen, to) in enumerate(pairs):
        rules.append(forwarding_rule(f"target-{i}", f"10.0.0.{10 + i}", 80, "targetHttpProxies/any"))
        attachments.append(service_attachment(i, f"target-{i}", value("PP2") == "1"))
        endpoints.append(endpoint(i))
        producers.append(placement(f"10.0.0.{10 + i}", 80, to))
        producers.append(nat_placement(i))
        consumers.append(placement(f"10.0.0.{10 + i}", 80, listen))
    document = producer(attachments=len(pairs))
    document.update(
        forwardingRules=rules,
        targetHttpProxies=[{"name": "any", "urlMap": "any"}],
        urlMaps=[{"name": "any", "defaultService": "any"}],
        backendServices=[backend_service("any", [])],
        serviceAttachments=attachments,
        placements=producers,
    )
    write(producer=document, consumer=consumer(endpoints, consumers))


def chain() -> None:
    """The whole private path: endpoint, service attachment, internal load balancer, Cloud Run, back
    end. The URL mask is `lb.example.com/<service>/`; every other host of BENCH_HOSTMAP leads to the
    service of its name. Invokers need an ID token of BENCH_ISSUER for BENCH_AUDIENCE."""
    every = services()
    names = [service for service, _ in every]
    document = producer(attachments=1)
    document.update(
        front_end("lb", "10.0.0.10", 443, "urlMaps/lb", tls=True),
        urlMaps=[
            {
                "name": "lb",
                "defaultService": "masked",
                "hostRules": [
                    {"hosts": [f"{name}.example.com"], "pathMatcher": name} for name in names
                ],
                "pathMatchers": [{"name": name, "defaultService": name} for name in names],
            }
        ],
        backendServices=[backend_service(name, [name]) for name in ["masked", *names]],
        networkEndpointGroups=[serverless_group("masked", urlMask="lb.example.com/<service>/")]
        + [serverless_group(name, service=name) for name in names],
        serviceAttachments=[service_attachment(0, "lb", False)],
        services=[
            {
                "name": name,
                "customAudiences": [value("AUDIENCE")],
                "template": {
                    "containers": [{"image": f"bench/{name}"}],
                    "maxInstanceRequestConcurrency": 1000,
                },
            }
            for name in names
        ],
        iamPolicies=[
            {
                "resource": f"projects/{PRODUCER}/locations/{REGION}/services/{name}",
                "bindings": [
                    {"role": "roles/run.invoker", "members": ["allAuthenticatedUsers"]}
                ],
            }
            for name in names
        ],
        images={f"bench/{name}": {"url": f"http://{backend}"} for name, backend in every},
        placements=[
            placement("10.0.0.10", 443, f"127.0.0.1:{value('PORT2')}"),
            nat_placement(0),
        ],
    )
    placed = [placement("10.0.0.10", 443, value("LISTEN"))]
    write(producer=document, consumer=consumer([endpoint(0)], placed))
    with open(value("JWKS"), encoding="ascii") as keys:
        trusted = {"issuer": value("ISSUER"), **json.load(keys)}
    folder = os.path.join(value("DIR"), "state", "keys")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    replace(os.path.join(folder, "jwks.json"), trusted)


def dns() -> None:
    """One private zone with the records of BENCH_ZONE. With BENCH_VIEWS=n there are n networks, each
    with a zone of its own of the same name and records, and the clients of network k are placed at
    BENCH_VIEW_FIRST_IP + k: that tells the resolver which network asks."""
    origin = value("ORIGIN").rstrip(".") + "."
    views = int(value("VIEWS"))
    networks = [f"v{view}" for view in range(max(views, 1))]
    records = list(record_sets(value("ZONE"), origin))
    placements = [{"network": "v0", "declared": "169.254.169.254:53", "actual": value("LISTEN")}]
    if views:
        first = ipaddress.IPv4Address(value("VIEW_FIRST_IP"))
        placements += [
            {"network": name, "declared": "10.0.0.2:0", "actual": f"{first + view}:0"}
            for view, name in enumerate(networks)
        ]
    document = {
        "project": PRODUCER,
        "networks": [{"name": name} for name in networks],
        "managedZones": [
            {
                "name": f"corp-{name}",
                "dnsName": origin,
                "visibility": "private",
                "privateVisibilityConfig": {"networks": [{"networkUrl": name}]},
                "rrsets": records,
            }
            for name in networks
        ],
        "placements": placements,
    }
    write(producer=document)


# ------------------------------------------------------------------ resources
def producer(attachments: int = 0) -> dict:
    """The producer's project with its network and subnetworks, one for NAT per attachment."""
    network = {"network": "lb", "region": REGION}
    subnetworks = [
        {"name": "lb", "ipCidrRange": "10.0.0.0/24", **network},
        {
            "name": "proxy-only",
            "ipCidrRange": "10.0.1.0/24",
            "purpose": "REGIONAL_MANAGED_PROXY",
            "role": "ACTIVE",
            **network,
        },
    ]
    subnetworks += [
        {
            "name": f"nat-{i}",
            "ipCidrRange": f"10.0.2.{8 * i}/29",
            "purpose": "PRIVATE_SERVICE_CONNECT",
            **network,
        }
        for i in range(attachments)
    ]
    return {
        "project": PRODUCER,
        "region": REGION,
        "limits": "NONE",  # 100,000 hosts are more than Google's load balancers take
        "networks": [{"name": "lb"}],
        "subnetworks": subnetworks,
    }


def consumer(endpoints: list, placements: list) -> dict:
    """The consumer's project: one network with these endpoints."""
    return {
        "project": CONSUMER,
        "region": REGION,
        "networks": [{"name": "vpc"}],
        "subnetworks": [{"name": "vpc", "network": "vpc", "ipCidrRange": "10.0.0.0/24"}],
        "forwardingRules": endpoints,
        "placements": placements,
    }


def endpoint(i: int) -> dict:
    """The consumer's endpoint of attachment i, at 10.0.0.(10 + i)."""
    return {
        "name": f"endpoint-{i}",
        "network": "vpc",
        "subnetwork": "vpc",
        "IPAddress": f"10.0.0.{10 + i}",
        "target": f"projects/{PRODUCER}/regions/{REGION}/serviceAttachments/attachment-{i}",
    }


def service_attachment(i: int, target: str, proxy_protocol: bool) -> dict:
    """Attachment i publishes a forwarding rule to the consumer's project."""
    return {
        "name": f"attachment-{i}",
        "targetService": target,
        "connectionPreference": "ACCEPT_MANUAL",
        "consumerAcceptLists": [{"projectIdOrNum": CONSUMER, "connectionLimit": 10}],
        "natSubnets": [f"nat-{i}"],
        "enableProxyProtocol": proxy_protocol,
    }


def front_end(name: str, address: str, port: int, url_map: str, tls: bool) -> dict:
    """A forwarding rule and its target proxy, with the bench's certificate where there is TLS."""
    kind = "targetHttpsProxies" if tls else "targetHttpProxies"
    proxy = {"name": name, "urlMap": url_map}
    collections = {
        "forwardingRules": [forwarding_rule(name, address, port, f"{kind}/{name}")],
        kind: [proxy],
    }
    if tls:
        proxy["sslCertificates"] = ["bench"]
        certificate = {"name": "bench", "certificate": text("CERT"), "privateKey": text("KEY")}
        collections["sslCertificates"] = [certificate]
    return collections


def forwarding_rule(name: str, address: str, port: int, target: str) -> dict:
    """The front end of an internal Application Load Balancer."""
    return {
        "name": name,
        "loadBalancingScheme": "INTERNAL_MANAGED",
        "IPProtocol": "TCP",
        "portRange": str(port),
        "network": "lb",
        "subnetwork": "lb",
        "IPAddress": address,
        "target": target,
    }


def backend_service(name: str, groups: list) -> dict:
    """A backend service that speaks HTTP to its groups."""
    return {
        "name": name,
        "loadBalancingScheme": "INTERNAL_MANAGED",
        "protocol": "HTTP",
        "backends": [{"group": group} for group in groups],
    }


def address_group(name: str, backend: str) -> dict:
    """A hybrid group with one address and port."""
    address, port = backend.split(":")
    return {
        "name": name,
        "zone": f"{REGION}-b",
        "network": "lb",
        "networkEndpointType": "NON_GCP_PRIVATE_IP_PORT",
        "networkEndpoints": [{"ipAddress": address, "port": int(port)}],
    }


def serverless_group(name: str, **cloud_run: str) -> dict:
    """A group that leads to Cloud Run."""
    return {"name": name, "networkEndpointType": "SERVERLESS", "cloudRun": cloud_run}


def placement(address: str, port: int, actual: str) -> dict:
    """Where a declared address and port is really bound."""
    return {"declared": f"{address}:{port}", "actual": actual}


def nat_placement(i: int) -> dict:
    """Where the first NAT address of attachment i really is: a whole address, so port 0."""
    return placement(f"10.0.2.{8 * i + 2}", 0, f"127.0.2.{8 * i + 2}:0")


# ------------------------------------------------------------------ what the bench says
def services() -> list:
    """The bench's services and where they listen: svc-K is 127.1.(K / 250).(K % 250 + 1)."""
    port = value("BACKEND_PORT")
    count = int(value("SERVICES"))
    return [(f"svc-{k}", f"127.1.{k // 250}.{k % 250 + 1}:{port}") for k in range(count)]


def lb_hosts() -> list:
    """A host rule with a port matches that port only, one without matches none: clients send both."""
    return ["lb.example.com", f"lb.example.com:{value('PORT')}"]


def record_sets(path: str, origin: str):
    """The zone file's lines, `NAME TYPE DATA...` with relative names, as record sets."""
    ttl = 300
    with open(path, encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if not fields or fields[0] == "$ORIGIN":
                continue
            if fields[0] == "$TTL":
                ttl = int(fields[1])
                continue
            name, kind, *data = fields
            names = {"SOA": 2, "NS": 1, "CNAME": 1}.get(kind, 0)
            data = [absolute(part, origin) for part in data[:names]] + data[names:]
            yield {
                "name": absolute(name, origin),
                "type": kind,
                "ttl": ttl,
                "rrdatas": [" ".join(data)],
            }


def absolute(name: str, origin: str) -> str:
    """A name of the zone file as the API writes it."""
    if name == "@":
        return origin
    return name if name.endswith(".") else f"{name}.{origin}"


def value(name: str) -> str:
    """A value that the harness gives."""
    try:
        return os.environ[f"BENCH_{name}"]
    except KeyError:
        sys.exit(f"BENCH_{name} is not set: this is a `prepare` step of the side-by-side harness")


def text(name: str) -> str:
    """The text of the file that a value names."""
    with open(value(name), encoding="ascii") as file:
        return file.read()


# ------------------------------------------------------------------ files
def write(**documents: dict) -> None:
    """Writes each document as a file of the topology folder."""
    folder = os.path.join(value("DIR"), "topology")
    os.makedirs(folder, exist_ok=True)
    for name, document in documents.items():
        replace(os.path.join(folder, f"{name}.json"), document)


def replace(path: str, document: dict) -> None:
    """Writes a file aside and renames it, so that nobody reads half of it."""
    aside = f"{path}.new"
    with open(aside, "w", encoding="ascii") as out:
        json.dump(document, out)
    os.rename(aside, path)


if __name__ == "__main__":
    main()
