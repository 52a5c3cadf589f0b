"""Says which revision answers. With MODE=broken it ends before it listens."""

import http.server
import json
import os
import sys

if os.environ.get("MODE") == "broken":
    sys.exit(7)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        answer = {"service": os.environ["K_SERVICE"], "revision": os.environ["K_REVISION"]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
