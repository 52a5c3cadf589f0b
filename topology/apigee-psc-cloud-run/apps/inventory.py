"""The service `inventory`: Python's standard library, nothing else.

Keeps the Cloud Run container contract: listens on 0.0.0.0:$PORT, ends on SIGTERM after the running
requests, logs one JSON object per line. A URL mask does not rewrite, so every path begins with the
service's own name; whatever stands before the last known word is ignored.

    GET …/items            the whole stock
    GET …/items/SKU        one item, or 404
    GET …/slow?seconds=2   answers after that long (at most 600 s)
    GET …/headers          the request's headers
    anything else          who is answering
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

STOCK = {
    "bell": {"sku": "bell", "name": "Brass bell", "count": 3},
    "lantern": {"sku": "lantern", "name": "Storm lantern", "count": 12},
    "rope": {"sku": "rope", "name": "Hemp rope, 20 m", "count": 7},
}


def log(severity, message, **fields):
    line = json.dumps({"severity": severity, "message": message, **fields})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "inventory"

    def parse_request(self):
        parsed = super().parse_request()
        if parsed:
            self.running = True
            self.server.count(1)
        return parsed

    def handle_one_request(self):
        self.running = False
        try:
            super().handle_one_request()
        finally:
            if self.running:
                self.server.count(-1)

    def do_GET(self):
        url = urlsplit(self.path)
        words = [unquote(word) for word in url.path.split("/") if word]
        if "items" in words:
            self.items(words[words.index("items") + 1 :])
        elif words[-1:] == ["slow"]:
            self.slow(parse_qs(url.query).get("seconds", ["1"])[0])
        elif words[-1:] == ["headers"]:
            self.answer(200, {name.lower(): value for name, value in self.headers.items()})
        else:
            self.answer(200, {"path": url.path, "query": url.query})

    do_HEAD = do_GET

    def do_POST(self):
        self.answer(200, {"path": self.path, "bodyBytes": self.read_body()})

    do_PUT = do_PATCH = do_DELETE = do_POST

    def read_body(self):
        """Reads the body to its end, in whatever form it comes, and returns its length."""
        if "chunked" not in (self.headers.get("Transfer-Encoding") or "").lower():
            return len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        length = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            length += len(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return length

    def items(self, rest):
        if not rest:
            self.answer(200, {"items": list(STOCK.values())})
        elif rest[0] in STOCK:
            self.answer(200, STOCK[rest[0]])
        else:
            self.answer(404, {"error": f"no item {rest[0]!r}"})

    def slow(self, text):
        try:
            seconds = min(max(float(text), 0.0), 600.0)
        except ValueError:
            self.answer(400, {"error": "seconds has to be a number"})
            return
        time.sleep(seconds)
        self.answer(200, {"slept": seconds})

    def answer(self, status, content):
        who = {
            "service": os.environ.get("K_SERVICE", "inventory"),
            "revision": os.environ.get("K_REVISION", ""),
            "warehouse": os.environ.get("WAREHOUSE", ""),
        }
        body = json.dumps({**who, **content}).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        trace = (self.headers.get("X-Cloud-Trace-Context") or "").split("/")[0]
        status = int(code) if str(code).isdigit() else 0
        request = {"requestMethod": self.command, "requestUrl": self.path, "status": status}
        fields = {"httpRequest": request}
        if trace:
            fields["logging.googleapis.com/trace"] = trace
        log("INFO", f"{self.command} {self.path} {status}", **fields)

    def log_message(self, format, *args):
        log("WARNING", format % args)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # an idle keep-alive connection must not hold the program up

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.requests = 0
        self.changed = threading.Condition()

    def count(self, change):
        with self.changed:
            self.requests += change
            self.changed.notify_all()

    def drain(self, seconds):
        """Waits until no request runs; False when that takes too long."""
        with self.changed:
            return self.changed.wait_for(lambda: self.requests == 0, seconds)


def main():
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler)

    def stop(signum, frame):
        # `shutdown` waits for the accept loop, which runs in this very thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log("INFO", f"listening on {server.server_address[0]}:{server.server_address[1]}")
    server.serve_forever(poll_interval=0.1)
    server.socket.close()
    # Cloud Run kills ten seconds after SIGTERM.
    drained = server.drain(9)
    log("INFO" if drained else "WARNING", "drained" if drained else "requests were cut off")


if __name__ == "__main__":
    main()
