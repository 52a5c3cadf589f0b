"""Writes the topology of the shared bench's `dns` role: `dns_topology.py` reads the BENCH_* variables.

One private zone with the records of BENCH_ZONE, visible to the network `bench/v0` or, with views, to
`bench/v0` .. `bench/v49`. The resolver of `bench/v0` is placed at BENCH_LISTEN; the client of view k
is placed at BENCH_VIEW_FIRST_IP + k, and that tells the program which network asks.
"""

import ipaddress
import json
import os


def main() -> None:
    """Zone file in, `{BENCH_DIR}/topology/topology.json` out."""
    origin = os.environ["BENCH_ORIGIN"].rstrip(".") + "."
    views = int(os.environ["BENCH_VIEWS"])
    networks = [f"v{view}" for view in range(max(views, 1))]
    placements = [
        {"network": "v0", "declared": "169.254.169.254:53", "actual": os.environ["BENCH_LISTEN"]}
    ]
    if views:
        first = ipaddress.IPv4Address(os.environ["BENCH_VIEW_FIRST_IP"])
        placements += [
            {"network": name, "declared": "10.0.0.2:0", "actual": f"{first + view}:0"}
            for view, name in enumerate(networks)
        ]
    topology = {
        "project": "bench",
        "networks": [{"name": name} for name in networks],
        "managedZones": [
            {
                "name": "corp",
                "dnsName": origin,
                "visibility": "private",
                "privateVisibilityConfig": {"networks": [{"networkUrl": name} for name in networks]},
                "rrsets": list(record_sets(os.environ["BENCH_ZONE"], origin)),
            }
        ],
        "placements": placements,
    }
    folder = os.path.join(os.environ["BENCH_DIR"], "topology")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "topology.json"), "w", encoding="ascii") as out:
        json.dump(topology, out)


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
            data = [absolute(text, origin) for text in data[:names]] + data[names:]
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


if __name__ == "__main__":
    main()
