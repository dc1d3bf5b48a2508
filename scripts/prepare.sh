#!/usr/bin/env bash
# Brings a bare Debian (or Ubuntu) machine with Rust to where `cargo build` works, and does nothing on the second run.
#
#   1. packages: a C++ compiler, libclang for RocksDB's bindings, Python for the independent Parquet reader;
#   2. a Python environment with scripts/requirements.txt, in the cache;
#   3. RocksDB compiled once, in the cache, so that neither a clean checkout nor another cargo profile builds it again.
#
# Prints nothing but progress; the variables to build with come from scripts/env.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh

say() { printf '\033[1m%s\033[0m\n' "prepare: $*" >&2; }

missing=()
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v git >/dev/null || missing+=(git)
# libclang-cpp is another library: bindgen loads libclang itself
compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' >/dev/null || compgen -G '/usr/lib/*/libclang[.-][s0-9]*' >/dev/null || missing+=(libclang-dev)
# the venv module is there only when ensurepip is: Debian ships them apart
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3 python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    say "installing ${missing[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "needs root (or sudo) to install: ${missing[*]}"; exit 1; }
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v cargo >/dev/null || { say "cargo is not on PATH: install Rust 1.95 or newer from https://rustup.rs"; exit 1; }

# one preparation at a time: a second one waits and then finds everything done
exec 9>"$SUNSEO_CACHE/prepare.lock"
flock 9

stamp="$SUNSEO_CACHE/python/installed-requirements.txt"
if [[ "$SUNSEO_PYTHON" == "$SUNSEO_CACHE"/* ]] && ! cmp -s scripts/requirements.txt "$stamp"; then
    say "installing DuckDB, the independent reader of the Parquet files, and an S3-compatible server for the tests"
    python3 -m venv --clear "$SUNSEO_CACHE/python"
    "$SUNSEO_PYTHON" -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cp scripts/requirements.txt "$stamp"
fi

if [ ! -f "$ROCKSDB_LIB_DIR/librocksdb.a" ]; then
    say "compiling RocksDB once (about 10 minutes on 2 cores), into $ROCKSDB_LIB_DIR"
    build="$SUNSEO_CACHE/rocksdb-build"
    # without the variables the crate compiles its own sources; no debug info, which would make the library 30 times as large
    env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_PROFILE_RELEASE_DEBUG=false CARGO_TARGET_DIR="$build" \
        cargo build --locked --release --package librocksdb-sys
    mkdir -p "$ROCKSDB_LIB_DIR"
    built=$(find "$build/release/build" -name librocksdb.a -print -quit)
    cp "$built" "$ROCKSDB_LIB_DIR/librocksdb.a.part"
    mv "$ROCKSDB_LIB_DIR/librocksdb.a.part" "$ROCKSDB_LIB_DIR/librocksdb.a"
    rm -rf "$build"
fi
