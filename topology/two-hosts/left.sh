#!/bin/sh
# The consumer's host: ./left.sh shop|guest. Gives the endpoint's address to this machine, and runs
# its program until Ctrl-C. As root, for the address; the program itself needs no privilege.
set -eu
cd "$(dirname "$0")"
network=$1-project/$1-network
ip address replace 10.0.0.9/32 dev lo
exec endpoint-attachment --topology . --network "$network" --state-dir "${STATE:-/var/lib/postern}"
