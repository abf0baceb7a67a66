#!/usr/bin/env bash
# Prints what the benches measured as one table: the median time of an element, and how many of them make a second.
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

# One line a bench: name, elements, nanoseconds of an iteration.
results() {
    local file
    find "$target_dir/criterion" -path '*/new/estimates.json' "${newer[@]}" -print0 | sort -z |
        while IFS= read -r -d '' file; do
            local bench=${file%/estimates.json}/benchmark.json
            printf '%s %s %s\n' \
                "$(sed -n 's/.*"full_id":"\([^"]*\)".*/\1/p' "$bench")" \
                "$(number Elements "$bench")" \
                "$(sed -n 's/.*"median":{[^{]*{[^}]*},"point_estimate":\([0-9.e+-]*\).*/\1/p' "$file")"
        done
}

printf '%-44s %12s %12s %14s\n' bench 'ns each' 'M each/s' 'µs in all'
results | awk '{
    elements = $3 == "" ? 1 : $2
    nanos = $NF
    printf "%-44s %12.2f %12.3f %14.1f\n", $1, nanos / elements, elements * 1000 / nanos, nanos / 1000
}'
