#!/usr/bin/env bash
# The README's figures: `sunseo bench` on a node of its own, one JSON object a measurement, with the conditions beside it.
# Called by `make bench`; SUNSEO_BENCH_SECONDS shortens or lengthens it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SUNSEO_BENCH_SECONDS:-20}
results=benches/results
mkdir -p "$results"

cargo build --locked --release --bin sunseo
sunseo="${CARGO_TARGET_DIR:-target}/release/sunseo"
# a server that happens to run must not be measured by accident
unset SUNSEO_SERVER

field() { "$SUNSEO_PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["figures"][sys.argv[1]])' "$1"; }
half() { "$SUNSEO_PYTHON" -c 'import sys; print(max(1, int(float(sys.argv[1]) / 2)))' "$1"; }

rows=()
measure() { # measure NAME ARGS..: runs one measurement, keeps and shows its JSON
    local name=$1
    shift
    echo "bench: $name" >&2
    last=$("$sunseo" bench "$@" --json)
    rows+=("$last")
    echo "$last" >&2
}

for bytes in 100 1024; do
    measure "produce, $bytes B" produce --record-bytes "$bytes" --partitions 16 --duration "$seconds"
    rate=$(half "$(field throughput_records_per_s <<<"$last")")
    measure "consume, $bytes B" consume --record-bytes "$bytes" --partitions 16 --duration "$seconds"
    measure "end to end, $bytes B, half of that load" e2e --record-bytes "$bytes" --partitions 16 --rate "$rate" --duration "$seconds"
done
measure "pipeline" pipeline --partitions 8

printf '%s\n' "${rows[@]}" | "$SUNSEO_PYTHON" benches/conditions.py >"$results/sunseo.json"
echo "bench: $results/sunseo.json" >&2
