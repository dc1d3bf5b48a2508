# Sourced: where things are kept between checkouts, and how cargo finds the RocksDB that prepare.sh compiled.
# SUNSEO_CACHE may be set from outside; everything in it can be deleted at any time.
export SUNSEO_CACHE="${SUNSEO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sunseo}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$SUNSEO_CACHE/target}"
rocksdb_version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
export ROCKSDB_LIB_DIR="$SUNSEO_CACHE/librocksdb-$rocksdb_version"
export ROCKSDB_STATIC=1
export SUNSEO_PYTHON="${SUNSEO_PYTHON:-$SUNSEO_CACHE/python/bin/python}"
mkdir -p "$SUNSEO_CACHE"
