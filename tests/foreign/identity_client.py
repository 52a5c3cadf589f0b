"""google-auth, unmodified, against Google's hosts for identity: tokens verified with nothing but the
defaults, a service account's key file, impersonation that is refused and one that is not."""

import json
import os
import sys

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
import google.oauth2.id_token
import requests
from google.auth import impersonated_credentials
from google.oauth2 import service_account

account, key_file, target = sys.argv[1], os.environ["KEY_FILE"], os.environ["TARGET_ACCOUNT"]
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
request = google.auth.transport.requests.Request()
audience = "https://orders-303000000003.europe-west1.run.app"

# The default certificates: https://www.googleapis.com/oauth2/v1/certs.
token = google.oauth2.id_token.fetch_id_token(request, audience)
claims = google.oauth2.id_token.verify_oauth2_token(token, request, audience=audience)
assert claims["email"] == account, claims
configuration = requests.get(
    "https://accounts.google.com/.well-known/openid-configuration", timeout=30).json()
keys = requests.get(configuration["jwks_uri"], timeout=30).json()["keys"]
assert len(keys) >= 2 and all(key["alg"] == "RS256" for key in keys), keys

# A key file: an ID token and an access token from the token endpoint.
own = service_account.IDTokenCredentials.from_service_account_file(
    key_file, target_audience=audience)
own.refresh(request)
claims = google.oauth2.id_token.verify_token(own.token, request, audience=audience)
assert claims["email"] == account, claims
good = requests.get("https://internal.example.com/orders",
                    headers={"Authorization": f"Bearer {own.token}"}, timeout=30)
assert good.status_code == 200, (good.status_code, good.text)
scoped = service_account.Credentials.from_service_account_file(key_file, scopes=SCOPES)
scoped.refresh(request)
assert scoped.token.startswith("ya29."), scoped.token[:8]
info = requests.get("https://oauth2.googleapis.com/tokeninfo",
                    params={"access_token": scoped.token}, timeout=30).json()
assert info["email"] == account, info

# A key that is not the account's.
spoiled = json.load(open(key_file))
spoiled["client_email"] = target
other = service_account.Credentials.from_service_account_info(spoiled, scopes=SCOPES)
try:
    other.refresh(request)
except google.auth.exceptions.RefreshError as error:
    assert "Invalid JWT Signature." in str(error), error
else:
    raise AssertionError("a key of another account was accepted")

# Impersonation.
source, _ = google.auth.default(scopes=SCOPES)
acting = impersonated_credentials.Credentials(
    source_credentials=source, target_principal=target, target_scopes=SCOPES)
acting.refresh(request)
as_target = impersonated_credentials.IDTokenCredentials(
    acting, target_audience=audience, include_email=True)
as_target.refresh(request)
claims = google.oauth2.id_token.verify_token(as_target.token, request, audience=audience)
assert claims["email"] == target, claims
signature = acting.sign_bytes(b"hello")
assert len(signature) == 256, len(signature)
denied = impersonated_credentials.Credentials(
    source_credentials=acting, target_principal=account, target_scopes=SCOPES)
try:
    denied.refresh(request)
except google.auth.exceptions.RefreshError as error:
    assert "IAM_PERMISSION_DENIED" in str(error), error
else:
    raise AssertionError("an account acted as another without a binding")
print("google-auth, identity: ok")
