#!/usr/bin/env bash
# Is replaying a capture at most twice as slow as copying it with tcpdump? Makes a file of SYNs from random sources,
# times both in turn on it, prints the medians and fails when the bar is missed. Leaves nothing behind.
#
#   benches/replay_vs_tcpdump.sh [PACKETS] [RUNS]

set -euo pipefail

readonly packets=${1:-5000000}
readonly runs=${2:-5}
# The bar, in hundredths.
readonly most_percent=200
# The protected host, and a limit that the flood crosses at once: an incident is open while the file is read.
readonly host=192.0.2.10
readonly limit_pps=1000000

cd "$(dirname "$0")/.."
cargo build --release --locked --bin ftagent --example flood_capture
target_dir=$(cargo metadata --locked --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
readonly release=$target_dir/release

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
readonly file=$scratch/flood.pcap
"$release/examples/flood_capture" "$packets" >"$file"

with_host() { "$release/ftagent" replay "$file" --host "$host" --threshold-pps "$limit_pps" >"$scratch/incidents"; }
without_host() { "$release/ftagent" replay "$file" --threshold-pps "$limit_pps" >"$scratch/incidents"; }
copied() { tcpdump -r "$file" -w /dev/null 2>"$scratch/said"; }

# Milliseconds that a command took on the wall.
millis() {
    local begun=${EPOCHREALTIME/./}
    "$@"
    echo $(((${EPOCHREALTIME/./} - begun) / 1000))
}

median() {
    sort -n "$1" | sed -n "$(((runs + 1) / 2))p"
}

# In turn, so that whatever else the machine does meets all of them alike; the first round warms the page cache.
for ((run = 0; run <= runs; run++)); do
    for command in copied with_host without_host; do
        took=$(millis "$command")
        if ((run > 0)); then
            echo "$took" >>"$scratch/$command"
        fi
    done
done
grep -q syn_flood "$scratch/incidents" || {
    echo "replay_vs_tcpdump: the flood was not found:" >&2
    cat "$scratch/incidents" >&2
    exit 1
}

base=$(median "$scratch/copied")
report() {
    local took
    took=$(median "$scratch/$1")
    printf '%-34s %6d ms %8.1f ns/packet %6.2f x\n' "$2" "$took" \
        "$(awk "BEGIN { print $took * 1e6 / $packets }")" "$(awk "BEGIN { print $took / $base }")"
}
echo "$packets packets, median of $runs runs:"
report copied "tcpdump -r FILE -w /dev/null"
report with_host "ftagent replay FILE --host $host"
report without_host "ftagent replay FILE"
if (($(median "$scratch/with_host") * 100 > base * most_percent)); then
    echo "replay_vs_tcpdump: ftagent replay --host takes more than twice the time of tcpdump" >&2
    exit 1
fi
