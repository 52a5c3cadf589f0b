"""google-auth, unmodified: application default credentials, an ID token, a call with it, and the
token verified against our certificates."""

import sys

import google.auth
import google.auth.transport.requests
import google.oauth2.id_token
import requests

account = sys.argv[1]
request = google.auth.transport.requests.Request()

credentials, project = google.auth.default(
    scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(request)
assert credentials.service_account_email == account, credentials.service_account_email
assert credentials.token.startswith("ya29."), credentials.token[:8]
assert project, project

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(request, audience)
certs = "http://metadata.google.internal/oauth2/v1/certs"
claims = google.oauth2.id_token.verify_token(token, request, audience=audience, certs_url=certs)
assert claims["email"] == account and claims["email_verified"] is True, claims
assert claims["iss"] == "https://accounts.google.com", claims
try:
    google.oauth2.id_token.verify_token(token, request, audience="https://x", certs_url=certs)
except Exception as error:  # google.auth raises several kinds
    print("wrong audience refused:", type(error).__name__)
else:
    raise AssertionError("a wrong audience was accepted")

url = "https://internal.example.com/orders/7?color=blue"
good = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
assert good.status_code == 200, (good.status_code, good.text)
body = good.json()
authorization = {k.lower(): v for k, v in body["headers"].items()}["authorization"]
assert str(authorization).strip("[]'\"").endswith(".SIGNATURE_REMOVED_BY_GOOGLE"), authorization
none = requests.get(url, timeout=30)
assert none.status_code == 403, none.status_code
assert "Your client does not have permission to get URL <code>/orders/7" in none.text, none.text
access = requests.get(url, headers={"Authorization": f"Bearer {credentials.token}"}, timeout=30)
assert access.status_code == 401, access.status_code
challenge = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
assert access.headers["WWW-Authenticate"] == challenge, access.headers
print("google-auth: ok")
