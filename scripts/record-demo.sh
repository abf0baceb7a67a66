#!/usr/bin/env bash
# Records src/demo/demo.pcap, the capture that `ftagent demo` plays: people loading pages and asking for names, a SYN
# flood in two steps over it, and people again. Real clients, a real generator and real servers, in the network
# namespaces of scripts/record/lab.sh, which it makes and removes; nothing leaves the machine.
#
#   sudo scripts/record-demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/record/lab.sh

[ "$(id -u)" = 0 ] || { echo "record-demo.sh: network namespaces need root" >&2; exit 77; }
# The lab keeps what it records here until it is as it should be.
data=$work/data
# The capture is part of the program.
readonly most_demo_bytes=500000
readonly quiet_seconds=15 first_seconds=3 second_seconds=5 after_seconds=24
readonly all_seconds=$((quiet_seconds + first_seconds + second_seconds + after_seconds))

# Twenty addresses of people, known to the victim so that no connection waits for ARP.
settle() {
  local n
  for n in $(seq 101 120); do
    ip -n "$attacker" address add "10.99.0.$n/24" dev a-victim
    in_victim ip neighbour replace "10.99.0.$n" lladdr $mac_attacker dev v-attacker nud permanent
  done
}

# Page loads, two pages each, at the uneven pace of people; the same ones in each recording.
people() {
  RANDOM=1
  local end=$((SECONDS + all_seconds)) from
  while [ $SECONDS -lt $end ]; do
    from=10.99.0.$((RANDOM % 20 + 101))
    in_attacker curl -sf --max-time 2 --interface "$from" -o /dev/null -o /dev/null "http://$victim_v4/page[1-2]" || true
    sleep "0.$((RANDOM % 35 + 10))"
  done
}

trap tear_down EXIT
trap 'exit 130' INT TERM
set_up
settle
start_servers
# Answers to forged sources are not repeated: they would be half of the file.
in_victim sysctl -qw net.ipv4.tcp_synack_retries=0
seq -f 'host%g.example.com A' 1 200 >"$work/names"
# Whole headers, options included, and no content.
begin demo v-attacker 74 20000
people &
clients=$!
started+=("$clients")
in_attacker_for_all() { ip netns exec "$attacker" timeout --signal=KILL $((all_seconds + 10)) "$@"; }
in_attacker_for_all dnsperf -s $victim_v4 -d "$work/names" -c 2 -Q 3 -l $all_seconds >/dev/null &
names=$!
started+=("$names")
sleep $quiet_seconds
hping $((first_seconds * 120)) 8333 --rand-source -S -p 80
hping $((second_seconds * 260)) 3846 --rand-source -S -p 80
wait "$clients" "$names"
finish syn_flood syn_flood "$version_of_hping3, $version_of_curl, $version_of_dnsperf, $version_of_nginx, $version_of_knot"
size=$(stat -c %s "$data/demo.pcap")
[ "$size" -le $most_demo_bytes ] || { echo "record-demo.sh: $size bytes, more than $most_demo_bytes" >&2; exit 1; }
mv "$data/demo.pcap" src/demo/demo.pcap
echo "src/demo/demo.pcap: $size bytes"
