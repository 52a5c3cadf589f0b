"""requests over every hop: server-sent events, large bodies, forwarded addresses, a long answer."""

import google.auth.transport.requests
import google.oauth2.id_token
import requests

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(google.auth.transport.requests.Request(), audience)
session = requests.Session()
session.headers["Authorization"] = f"Bearer {token}"

with session.get("https://internal.example.com/orders/sse?count=5&interval=10", stream=True,
                 timeout=30) as events:
    assert events.status_code == 200, events.status_code
    assert events.headers["content-type"].startswith("text/event-stream"), events.headers
    data = [line for line in events.iter_lines() if line.startswith(b"data:")]
    assert len(data) == 5, data

headers = {k.lower(): v for k, v in
           session.get("https://internal.example.com/orders", timeout=30).json()["headers"].items()}
forwarded = headers["x-forwarded-for"]
forwarded = forwarded[0] if isinstance(forwarded, list) else forwarded
nat, balancer = forwarded.split(",")
assert nat.startswith("10.0.2."), forwarded
assert balancer == "10.0.0.5", forwarded
host = headers["host"]
assert (host[0] if isinstance(host, list) else host) == "internal.example.com", host

body = b"x" * (4 << 20)
posted = session.post("https://internal.example.com/orders", data=body, timeout=60)
assert posted.status_code == 200, posted.status_code
too_large = session.post("https://internal.example.com/orders", data=b"x" * (33 << 20), timeout=60)
assert too_large.status_code == 413, too_large.status_code
print("requests: ok")
