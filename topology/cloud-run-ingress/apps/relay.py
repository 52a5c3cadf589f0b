"""Answers with its name, or relays: `/?url=URL` is answered with the status and the body of that call."""
import http.server
import json
import os
import urllib.error
import urllib.parse
import urllib.request


class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        status, body = 200, json.dumps({"service": os.environ.get("K_SERVICE", "vm")}).encode()
        if "url" in asked:
            try:
                with urllib.request.urlopen(asked["url"][0], timeout=3) as answer:
                    status, body = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, error.read()
            except OSError as error:  # no answer at all
                status, body = 504, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port = int(os.environ.get("PORT", "8080"))
http.server.ThreadingHTTPServer(("0.0.0.0", port), Relay).serve_forever()
