"""Answers with what its container gives it."""

import http.server
import json
import os
import urllib.request


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return type(error).__name__


def write(path):
    try:
        with open(path, "w") as file:
            file.write("x")
        return "written"
    except OSError as error:
        return type(error).__name__


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {
            "service": os.environ["K_SERVICE"],
            "password": os.environ["PASSWORD"],
            "file": read("/secrets/database/password"),
            "mode": oct(os.stat("/secrets/database/password").st_mode & 0o777),
            "overwrite": write("/secrets/database/password"),
            "shared": read("/var/shared/started"),
            # The sidecar by its name, on the instance's own loopback.
            "clock": urllib.request.urlopen("http://clock:5000/", timeout=5).read().decode(),
            "sidecarPort": read("/var/shared/port"),
            "tmp": write("/tmp/of-one-container"),
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
