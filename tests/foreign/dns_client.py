"""dig, kdig, dnspython, dnsperf and the system resolvers of glibc and musl get the same answers."""

import re
import subprocess
import tempfile

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver

SERVER = "169.254.169.254"
CASES = [
    ("internal.example.com", "A"),
    ("internal.example.com", "AAAA"),
    ("internal.example.com", "SOA"),
    ("internal.example.com", "TYPE65400"),
    ("none.internal.example.com", "A"),
    ("metadata.google.internal", "A"),
    ("svc-1-ew.a.run.app", "A"),
    ("no.such.name.example", "A"),
]
MUSL = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int n, char **names) {
    for (int i = 1; i < n; i++) {
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found, *one;
        int code = getaddrinfo(names[i], 0, &hints, &found);
        printf("%s", names[i]);
        if (code) printf(" none");
        for (one = code ? 0 : found; one; one = one->ai_next) {
            char text[64];
            inet_ntop(AF_INET, &((struct sockaddr_in *)one->ai_addr)->sin_addr, text, sizeof text);
            printf(" %s", text);
        }
        printf("\n");
    }
}
"""


def run(*command, code=0):
    """What the program prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def told(text):
    """Code and answer records of what dig or kdig printed."""
    code = re.search(r"status: (\w+)", text).group(1)
    section = re.search(r";; ANSWER SECTION:\n((?:[^;\n].*\n)*)", text)
    lines = section.group(1).splitlines() if section else []
    return code, sorted(" ".join(line.split()).lower() for line in lines)


def dnspython(name, kind, **how):
    """The same of dnspython."""
    query = dns.message.make_query(name, kind, **how)
    answers = [dns.query.udp(query, SERVER, timeout=10), dns.query.tcp(query, SERVER, timeout=10)]
    # A name in random case is answered as it was asked.
    mixed = dns.message.make_query(name.swapcase(), kind)
    answer = dns.query.udp(mixed, SERVER, timeout=10)
    assert answer.question[0].name.to_text() == name.swapcase() + ".", answer
    answers.append(answer)
    found = []
    for answer in answers:
        lines = [line.lower() for records in answer.answer for line in records.to_text().splitlines()]
        found.append((dns.rcode.to_text(answer.rcode()), sorted(lines)))
    assert found[0] == found[1] == found[2], found
    return found[0]


expected = {}
for case in CASES:
    name, kind = case
    expected[case] = told(run("dig", name, kind))
    ways = [
        ("dig", name, kind, "+tcp"),
        ("dig", name, kind, "+noedns", "+nocookie"),
        ("dig", name, kind, "+dnssec", "+nsid", "+padding=128", "+ednsopt=65001:abcd"),
        ("kdig", name, kind),
        ("kdig", name, kind, "+tcp"),
        ("kdig", name, kind, "+edns", "+padding=64", "+cookie", "+dnssec", "+nsid"),
    ]
    for way in ways:
        assert told(run(*way)) == expected[case], f"{way}: {told(run(*way))}, not {expected[case]}"
print("dig, kdig: ok")

for (name, kind), answer in expected.items():
    for how in ({}, {"use_edns": 0, "payload": 4096}, {"want_dnssec": True},
                {"use_edns": 0, "options": [dns.edns.GenericOption(65001, b"x")]}):
        got = dnspython(name, kind, **how)
        assert got == answer, f"dnspython {name} {kind} {how}: {got}, not {answer}"
bad = dns.message.make_query("internal.example.com", "A", use_edns=1)
assert dns.query.udp(bad, SERVER, timeout=10).rcode() == dns.rcode.BADVERS
own = dns.resolver.resolve("internal.example.com")
assert own.nameserver == SERVER and own.response.flags & dns.flags.RA
print("dnspython: ok")

names = [name for name, kind in CASES if kind == "A"]
addresses = {}
for name in names:
    lines = [line.split() for line in expected[(name, "A")][1]]
    addresses[name] = {line[-1] for line in lines if line[3] == "a"}
assert addresses["internal.example.com"] and addresses["metadata.google.internal"] == {SERVER}
for name in names:
    done = subprocess.run(["getent", "ahostsv4", name], capture_output=True, text=True, check=False)
    got = {line.split()[0] for line in done.stdout.splitlines()}
    assert got == addresses[name], f"glibc: {name}: {got}, not {addresses[name]}"
print("glibc: ok")

with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/ask.c", "w", encoding="utf-8") as source:
        source.write(MUSL)
    run("musl-gcc", "-static", "-o", f"{folder}/ask", f"{folder}/ask.c")
    for line in run(f"{folder}/ask", *names).splitlines():
        name, *got = line.split()
        assert set(got) - {"none"} == addresses[name], f"musl: {line}, not {addresses[name]}"
    print("musl: ok")

    with open(f"{folder}/questions", "w", encoding="utf-8") as questions:
        for name, kind in CASES:
            questions.write(f"{name} {kind}\n")
    for mode in ("udp", "tcp"):
        text = run("dnsperf", "-s", SERVER, "-m", mode, "-d", f"{folder}/questions", "-n", "500", "-c", "8")
        sent = int(re.search(r"Queries sent:\s+(\d+)", text).group(1))
        completed = int(re.search(r"Queries completed:\s+(\d+)", text).group(1))
        assert sent == completed == 500 * len(CASES), text
        assert set(re.findall(r"(\w+) \d+ \(", text.split("Response codes:")[1].splitlines()[0])) == \
            {"NOERROR", "NXDOMAIN"}, text
    print("dnsperf: ok")
