"""A sidecar: leaves a file in the shared volume, then listens, on all addresses: the platform's
probe does not reach 127.0.0.1."""

import http.server
import os

with open("/shared/started", "w") as file:
    file.write("yes")
with open("/shared/port", "w") as file:
    file.write(os.environ.get("PORT", "none"))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"tick"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 5000), Handler).serve_forever()
