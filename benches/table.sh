#!/usr/bin/env bash
# Prints what the benches measured: the median over the samples of each, one section a unit. The clock is the time that
# the measuring thread ran (benches/common/cpu.rs).
#
#   benches/table.sh TARGET_DIR [NEWER_THAN]    results in TARGET_DIR/criterion, only those newer than a file

set -euo pipefail

readonly target_dir=${1:?usage: table.sh TARGET_DIR [NEWER_THAN]}
newer=()
if [[ -n ${2-} ]]; then
    newer=(-newer "$2")
fi

# The first number behind a key in one of criterion's files, which are one line each.
number() {
    sed -n "s/.*\"$1\":[^0-9]*\([0-9.e+-]*\).*/\1/p" "$2"
}

# One line a bench: name, elements (0 where an iteration is one of what is measured), nanoseconds of an iteration.
results() {
    local file elements
    find "$target_dir/criterion" -path '*/new/estimates.json' "${newer[@]}" -print0 | sort -z |
        while IFS= read -r -d '' file; do
            local bench=${file%/estimates.json}/benchmark.json
            elements=$(number Elements "$bench")
            printf '%s %s %s\n' \
                "$(sed -n 's/.*"full_id":"\([^"]*\)".*/\1/p' "$bench")" \
                "${elements:-0}" \
                "$(sed -n 's/.*"median":{[^{]*{[^}]*},"point_estimate":\([0-9.e+-]*\).*/\1/p' "$file")"
        done
}

results | awk '
function packets_of(name) { return elements[name] > 1 }
function nanos_of(name) { return nanos[name] / elements[name] }
{
    names[++count] = $1
    elements[$1] = $2
    nanos[$1] = $3
    if (split($1, part, "/") == 3 && part[1] == "hot_path" && !(part[2] in seen)) {
        seen[part[2]] = 1
        traffic[++traffics] = part[2]
    }
}
END {
    if (traffics) {
        print "The hot path, in CPU time of one thread; 10 GbE line rate is 67.2 ns a packet, 14.88 Mpps"
        printf "%-28s %12s %12s %12s %12s %12s\n", "", "etherparse", "classify", "engine", "engine", "engine /"
        printf "%-28s %12s %12s %12s %12s %12s\n", "", "ns/packet", "ns/packet", "ns/packet", "Mpps", "etherparse"
        for (t = 1; t <= traffics; t++) {
            path = "hot_path/" traffic[t] "/"
            if (!((path "engine") in nanos) || !((path "etherparse") in nanos) || !((path "classify") in nanos))
                continue
            engine = nanos_of(path "engine")
            yardstick = nanos_of(path "etherparse")
            printf "%-28s %12.1f %12.1f %12.1f %12.2f %12.2f\n", traffic[t], yardstick, nanos_of(path "classify"),
                engine, 1000 / engine, engine / yardstick
        }
        print ""
    }
    print "Parts of it and files in memory, in CPU time of one thread"
    printf "%-40s %12s %12s\n", "", "ns/packet", "Mpps"
    for (n = 1; n <= count; n++)
        if (packets_of(names[n]) && names[n] !~ /^hot_path\//)
            printf "%-40s %12.1f %12.2f\n", names[n], nanos_of(names[n]), 1000 / nanos_of(names[n])
    print ""
    print "Once a window or an incident, in CPU time of one thread"
    printf "%-40s %12s\n", "", "µs each"
    for (n = 1; n <= count; n++)
        if (!packets_of(names[n]))
            printf "%-40s %12.1f\n", names[n], nanos[names[n]] / 1000
}'
