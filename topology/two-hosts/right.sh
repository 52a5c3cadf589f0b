#!/bin/sh
# The producer's host: ./right.sh [PROGRAM…]. Gives the network's addresses to this machine, and runs
# all of its programs, or the named ones, until Ctrl-C. As root, for the addresses.
set -eu
cd "$(dirname "$0")"
state=${STATE:-/var/lib/postern}
ip address replace 10.0.0.5/32 dev lo            # the forwarding rule
ip address replace 10.0.0.7/32 dev lo            # the machine behind it
ip route replace local 10.0.1.0/26 dev lo        # the load balancer's own addresses
ip route replace local 10.0.2.0/28 dev lo        # the NAT addresses
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT INT TERM
for program in ${*:-service-attachment internal-lb ledger}; do
  case $program in
    ledger) python3 apps/ledger.py 10.0.0.7 & ;;
    *) "$program" --topology . --network bank-project/bank-network --state-dir "$state" & ;;
  esac
done
wait
