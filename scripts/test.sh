#!/usr/bin/env bash
# Everything that has to hold before a change is taken. Ends with the test runner's own lines.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "format"
cargo fmt --all --check
step "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
step "tests"
"$SUNSEO_PYTHON" -m unittest discover --start-directory benches/peers
cargo test --locked --workspace --no-fail-fast
