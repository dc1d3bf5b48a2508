#!/usr/bin/env bash
# Seeded runs of a node whose histories are checked: in process (SEEDS, FROM), then the release binary as a process (PROCESSES; 0 for none).
#
# The clock of the binary is put wrong by libfaketime, which is installed when it can be; without it, clock jumps are left to the first part.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh

cargo run --locked --package sunseo-reliability -- sim --seeds "${SEEDS:-200}" --from "${FROM:-0}"

processes=${PROCESSES:-20}
[ "$processes" -eq 0 ] && exit 0
library() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' | head -1; }
if [ -z "$(library)" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libfaketime >/dev/null || true
fi
faketime=()
[ -n "$(library)" ] && faketime=(--faketime "$(library)")
cargo build --locked --release --bin sunseo
cargo run --locked --package sunseo-reliability -- process --seeds "$processes" --from "${FROM:-0}" \
    --binary "$CARGO_TARGET_DIR/release/sunseo" "${faketime[@]}"
