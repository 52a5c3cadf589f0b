"""The program of the tests: small enough to read, real enough to be started and killed."""
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, parse_qs

MODE = os.environ.get("MODE", "")
FINISHED = []
# What probes get, and how often they asked.
HEALTH = {"alive": 200, "ready": 200}
PROBES = {"alive": 0, "ready": 0}


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/env":
            names = ("K_SERVICE", "K_REVISION", "K_CONFIGURATION", "PORT", "MODE")
            env = {name: os.environ.get(name) for name in names}
            self.answer(200, json.dumps(env | {"pid": os.getpid(), "cwd": os.getcwd()}))
        elif url.path == "/echo":
            headers = [[name.lower(), value] for name, value in self.headers.items()]
            echo = {"path": self.path, "headers": headers}
            self.answer(200, json.dumps(echo), Set_Cookie="a=b", Cache_Control="public")
        elif url.path == "/sleep":
            time.sleep(float(query["s"]))
            FINISHED.append(query.get("id", ""))
            self.answer(200, str(os.getpid()))
        elif url.path == "/wait":
            while not os.path.exists(query["file"]):
                time.sleep(0.02)
            self.answer(200, "")
        elif url.path == "/finished":
            self.answer(200, json.dumps(FINISHED))
        elif url.path.startswith("/probe/"):
            what = url.path.removeprefix("/probe/")
            PROBES[what] += 1
            self.answer(HEALTH[what], "")
        elif url.path == "/set":
            HEALTH.update({what: int(status) for what, status in query.items()})
            PROBES.update({what: 0 for what in query})
            self.answer(200, "")
        elif url.path == "/probes":
            self.answer(200, json.dumps(PROBES))
        elif url.path == "/stall":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            time.sleep(600)
        elif url.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            except OSError:
                pass
        elif url.path == "/crash":
            os._exit(3)
        elif url.path == "/large":
            self.answer(200, b"x" * (32 * 1024 * 1024 + 1))
        else:
            self.answer(200, "hello")

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            size = 0
            while True:
                chunk = int(self.rfile.readline(), 16)
                size += len(self.rfile.read(chunk + 2)) - 2
                if chunk == 0:
                    break
        else:
            self.rfile.read(size)
        self.answer(200, str(size))

    def log_message(self, *_):
        pass


if MODE == "broken":
    sys.exit(7)
if MODE == "slow":
    time.sleep(1.0)
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App)
server.daemon_threads = True
server.serve_forever()
