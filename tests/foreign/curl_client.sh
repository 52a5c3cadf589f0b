#!/bin/sh
# Nothing but curl: a token from the metadata server, a call with it, and what tokeninfo says.
set -eu
account=$1
audience=https://orders-303000000003.europe-west1.run.app
token=$(curl -sf -H 'Metadata-Flavor: Google' \
  "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity?audience=$audience&format=full")
status() { curl -s -o /dev/null -w '%{http_code}' "$@" https://internal.example.com/orders; }
test "$(status -H "Authorization: Bearer $token")" = 200
test "$(status -H "X-Serverless-Authorization: Bearer $token" -H 'Authorization: Basic x')" = 200
test "$(status -H "Authorization: Bearer $token" -H 'X-Serverless-Authorization: Bearer x.y.z')" = 401
test "$(status)" = 403
curl -sf "https://oauth2.googleapis.com/tokeninfo?id_token=$token" | grep -q "\"email\":\"$account\""
echo "curl: ok"
