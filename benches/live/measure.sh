#!/usr/bin/env bash
# Measures what the whole agent takes and how fast it is, and prints one table, each figure beside its budget. Exits with 1
# when a budget is broken or something could not be measured. Needs root, for network namespaces; takes eight minutes.
#
#   benches/live/measure.sh [WHAT...]    of wire, cpu, memory, reload, outage; all of them without an argument

set -uo pipefail

cd "$(dirname "$0")/../.."
if (($# == 0)); then
    set -- wire cpu memory reload outage
fi

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

# Runs a command, shows what it says, and keeps the figures.
measure() {
    "$@" 2>&1 | tee -a "$lines" || failed+=("$*")
}

failed=()
for what in "$@"; do
    if [[ $what == outage ]]; then
        # In the time of a clock that is moved by hand: how the tests are compiled changes no figure.
        measure env FTAGENT_LONG=1 cargo test --locked --lib -- --nocapture --test-threads=1 uplink::task::outage
    else
        measure cargo bench --locked --bench live -- "$what"
    fi
done

printf '\n%-80s %-76s %-16s %s\n' quantity measured budget ''
grep -aoP 'measured\t.*' "$lines" | while IFS=$'\t' read -r _ quantity figure budget verdict; do
    printf '%-80s %-76s %-16s %s\n' "$quantity" "$figure" "$budget" "$verdict"
done
if ((${#failed[@]} > 0)); then
    printf 'not measured: %s\n' "${failed[@]}" >&2
    exit 1
fi
if grep -aqP 'measured\t.*\tBROKEN$' "$lines"; then
    echo 'a budget is broken' >&2
    exit 1
fi
