#!/usr/bin/env bash
# Records tests/data: small captures of real generators against real servers, and the manifest that says what each one
# is. Everything happens in three network namespaces that this script makes and removes:
#
#   attacker 10.99.0.1 ---- 10.99.0.2 victim
#       | 10.98.0.1         10.97.0.2 |
#       +---- 10.98.0.2 reflector ----+      (answers from 198.51.100.1 to .64)
#         10.97.0.1
#
# A reflected attack is one: the attacker sends queries with the victim's address to real servers on the reflector,
# and the victim receives answers that it never asked for. Nothing leaves the machine, every generator is bounded in
# packets and in time, no process, namespace or file outside tests/data remains.
#
#   sudo scripts/record.sh [NAME...]       all captures, or only those named
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/record/lab.sh
. scripts/record/attacks.sh
. scripts/record/benign.sh

needed=(ip sysctl ethtool ss tc tcpdump trafgen hping3 nping nginx wrk ab dnsperf knotd kdig ntpd ntpdig memcached iperf3 curl openssl)
for tool in "${needed[@]}"; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ -n "${missing:-}" ]; then
  echo "record.sh: not installed: ${missing[*]}" >&2
  echo "  Debian: apt-get install iproute2 ethtool procps tcpdump netsniff-ng hping3 nmap nginx-light wrk apache2-utils dnsperf knot" \
    "knot-dnsutils ntpsec ntpsec-ntpdig memcached iperf3 curl openssl" >&2
  exit 1
fi
[ "$(id -u)" = 0 ] || { echo "record.sh: network namespaces need root" >&2; exit 77; }

trap tear_down EXIT
trap 'exit 130' INT TERM
set_up
start_servers
for capture in $(declare -F | sed -n 's/^declare -f capture_//p'); do
  if [ $# -eq 0 ] || [[ " $* " == *" $capture "* ]]; then
    "capture_$capture"
  fi
done
write_manifest
check_sizes
