"""Says what a container of a Cloud Run instance finds: one JSON document for each question."""
import http.server, json, os, resource, stat, sys


def kind(path):
    """What a path is, and its permissions."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.__class__.__name__
    letters = {stat.S_IFCHR: "c", stat.S_IFDIR: "d", stat.S_IFREG: "-", stat.S_IFIFO: "p"}
    return letters.get(stat.S_IFMT(mode), "?") + format(stat.S_IMODE(mode), "o")


def sure(path, what):
    """Does this work?"""
    try:
        return what(path)
    except OSError as error:
        return error.__class__.__name__


def read(path, count):
    with open(path, "rb", buffering=0) as file:
        return len(file.read(count))


def write(path):
    with open(path, "wb", buffering=0) as file:
        return file.write(b"x")


FILES = (
    "/dev/fd /dev/full /dev/null /dev/ptmx /dev/random /dev/stdin /dev/stdout /dev/stderr /dev/tty"
    " /dev/urandom /dev/zero /dev/console /proc/self/fd /proc/self/fd/0 /proc/self/fd/1"
    " /proc/self/fd/2 /tmp /etc/resolv.conf /sys/fs/cgroup"
).split()


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what = self.path.split("?")[0].strip("/")
        found = {
            "env": lambda: dict(os.environ),
            "headers": lambda: [[name.lower(), value] for name, value in self.headers.items()],
            "files": lambda: {path: kind(path) for path in FILES},
            "devices": lambda: {
                "null": sure("/dev/null", write),
                "full": sure("/dev/full", write),
                "zero": sure("/dev/zero", lambda path: read(path, 16)),
                "random": sure("/dev/random", lambda path: read(path, 16)),
                "urandom": sure("/dev/urandom", lambda path: read(path, 16)),
            },
            "tmp": lambda: sure("/tmp/written", write),
            "sysctl": lambda: sure("/proc/sys/kernel/hostname", write),
            "process": lambda: {
                "stdin": STDIN,
                "tty": [os.isatty(descriptor) for descriptor in range(3)],
                "pid": os.getpid(),
                "cwd": os.getcwd(),
                "peer": self.client_address[0],
                "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                "cgroup": open("/proc/self/cgroup").read(),
                "capabilities": [line for line in open("/proc/self/status") if "Cap" in line],
            },
            "say": lambda: print(self.headers["x-say"], flush=True),
            "error": lambda: print(self.headers["x-say"], file=sys.stderr, flush=True),
        }[what]()
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


STDIN = sys.stdin.read()
print("ready", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), App).serve_forever()
