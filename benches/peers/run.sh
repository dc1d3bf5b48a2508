#!/usr/bin/env bash
# Called by `make peers`: builds what is compared, and compares. SUNSEO_BINARIES names a folder with binaries to be taken instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${SUNSEO_BINARIES:-}" ]; then
    cargo build --locked --release --package sunseo --package sunseo-benches --bins
    export SUNSEO_BINARIES="${CARGO_TARGET_DIR:-target}/release"
fi
# a server that happens to run must not be measured by accident
unset SUNSEO_SERVER
exec "$SUNSEO_PYTHON" benches/peers
