"""curl, wrk, h2load and nghttp against the load balancer, both HTTP versions, over every hop."""

import json
import re
import subprocess
import tempfile

import google.auth.transport.requests
import google.oauth2.id_token

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(google.auth.transport.requests.Request(), audience)
url = "https://internal.example.com/orders"
authorization = f"authorization: Bearer {token}"


def run(*command):
    """What the program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def curl(*options):
    """curl's output."""
    return run("curl", "--silent", "--show-error", "--fail", "--no-progress-meter",
               "--header", authorization, *options)


def number(pattern, text):
    """The number that a program reports."""
    found = re.search(pattern, text)
    assert found, text
    return int(found.group(1))


with tempfile.NamedTemporaryFile() as large:
    large.write(b"x" * (1 << 20))
    large.flush()
    for version, spoken in (("--http1.1", "1.1"), ("--http2", "2")):
        assert json.loads(curl(version, url))["path"] == "/orders"
        assert curl(version, "--output", "/dev/null", "--write-out", "%{http_version}", url) == spoken
        head = curl(version, "--head", url)
        assert " 200" in head.splitlines()[0] and "content-type:" in head, head
        for more in (["--header", "Expect: 100-continue"], ["--header", "Transfer-Encoding: chunked"]):
            if spoken == "2" and "Transfer-Encoding" in more[1]:
                continue
            sent = curl(version, *more, "--data-binary", f"@{large.name}", f"{url}/body",
                        "--output", "/dev/null", "--write-out", "%{size_download}")
            assert sent == str(1 << 20), f"{version} {more}: {sent}"
        many = curl(version, "--parallel", "--parallel-max", "8", "--output", "/dev/null",
                    "--write-out", "%{http_code}\n", f"{url}?[1-40]")
        assert many.split() == ["200"] * 40, many
print("curl: ok")

text = run("wrk", "-t1", "-c8", "-d1s", "-H", authorization, url)
assert number(r"(\d+) requests in", text) > 0 and "Non-2xx" not in text and "errors" not in text, text
print("wrk: ok")

for protocol in ([], ["--h1"]):
    text = run("h2load", "-n300", "-c4", "-m8", *protocol, "-H", authorization, url)
    assert number(r"(\d+) succeeded, 0 failed, 0 errored", text) == 300, text
    assert number(r"status codes: (\d+) 2xx", text) == 300, text
print("h2load: ok")

with tempfile.NamedTemporaryFile() as body:
    body.write(b"a little body")
    body.flush()
    text = run("nghttp", "--verbose", "--header", authorization, "--data", body.name,
               "--trailer", "x-last: word", f"{url}/body")
    assert ":status: 200" in text and "a little body" in text, text
    assert "Some requests were not processed" not in text, text
print("nghttp: ok")
