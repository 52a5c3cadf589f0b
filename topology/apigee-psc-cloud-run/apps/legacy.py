"""What runs on the consumer's old machine `legacy`, 10.0.0.5 port 8080: Python's standard library.

It has the address that the load balancer has in the producer's network. Nothing goes wrong,
because the two networks never meet.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        answer = {"machine": "legacy", "path": self.path, "client": self.client_address[0]}
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
