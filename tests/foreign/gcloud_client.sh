#!/bin/sh
# gcloud, unmodified: tokens of the workload from the metadata server, of a key file from the token
# endpoint, and of an account that the workload may act as; one that it may not.
set -eu
account=$1
CLOUDSDK_CONFIG=$(mktemp -d)
export CLOUDSDK_CONFIG CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=true
export CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=true
trap 'rm -rf "$CLOUDSDK_CONFIG"' EXIT
audience=https://orders-303000000003.europe-west1.run.app
orders() { curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" https://internal.example.com/orders; }

test "$(gcloud auth list --format='value(account)')" = "$account"
token=$(gcloud auth print-identity-token --audiences="$audience")
test "$(orders "$token")" = 200
case $(gcloud auth print-access-token) in ya29.*) ;; *) exit 1 ;; esac
token=$(gcloud auth print-identity-token --audiences="$audience" --include-email \
  --impersonate-service-account="$TARGET_ACCOUNT")
test "$(orders "$token")" = 403
gcloud auth activate-service-account --key-file="$KEY_FILE"
token=$(gcloud auth print-identity-token --audiences="$audience")
test "$(orders "$token")" = 200
echo "gcloud: ok"
