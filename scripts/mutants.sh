#!/usr/bin/env bash
# Shows that the history checker sees: breaks the product on purpose, one patch of tests/reliability/mutants at a time, and looks for a seed
# at which the checker tells. The unbroken product goes first, under the same plans, and must show nothing.
# ONLY="name name" takes some of them; SEEDS and LIMIT bound the search for each (runs, seconds), CONTROL the unbroken runs of a plan.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
export GIT_CEILING_DIRECTORIES=$SUNSEO_CACHE/mutants
patches=$PWD/tests/reliability/mutants
tree=$SUNSEO_CACHE/mutants/tree
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$SUNSEO_CACHE/mutants/target}"
seeds=${SEEDS:-60} limit=${LIMIT:-300} control=${CONTROL:-10}
names=${ONLY:-$(cd "$patches" && ls -- *.patch | sed 's/\.patch$//')}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
of() { sed -n "s/^$1: //p" "$patches/$2.patch"; }
# without assertions inside: the checker is to see it, from outside
build() {
  local crate assertions=()
  for crate in log replica broker; do
    assertions+=(--config "profile.dev.package.sunseo-$crate.debug-assertions=false")
  done
  (cd "$tree" && cargo build --locked --quiet --package sunseo-reliability "${assertions[@]}")
}
run() { timeout $((limit + 300)) "$CARGO_TARGET_DIR/debug/sunseo-reliability" "$@"; }

for name in $names; do
  [ -e "$patches/$name.patch" ] || { echo "there is no mutant $name in $patches"; exit 2; }
done
rm -rf "$tree" && mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard --deduplicate | while IFS= read -r -d '' file; do
  if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | tar --null --files-from - --create --file - | tar --extract --file - --directory "$tree"
# what was built last may have been a mutant of them
sed -n 's|^+++ b/||p' "$patches"/*.patch | sort -u | (cd "$tree" && xargs touch --no-create)

rows=() failed=0
if [ "$control" -gt 0 ]; then
  build
  for stress in $(for name in $names; do of Stress "$name"; done | sort -u); do
    say "no mutant, plan \"$stress\""
    if run sim --stress "$stress" --seeds "$control" | tee "$tree/said"; then told="nothing seen in $control runs"; else
      told="NOT CLEAN: $(grep -m 1 '^seed' "$tree/said" || echo 'a run broke off')" failed=1
    fi
    rows+=("(none)|$stress|$told")
  done
fi
for name in $names; do
  stress=$(of Stress "$name") expect=$(of Expect "$name")
  say "$name: $(of What "$name")"
  (cd "$tree" && git apply "$patches/$name.patch") || {
    echo "$name does not apply any more: make its patch anew"
    exit 2
  }
  build
  if run hunt --stress "$stress" --seeds "$seeds" --seconds "$limit" --expect "${expect// /,}" | tee "$tree/said"; then
    told=$(grep -m 1 '^caught' "$tree/said")
  else
    told="MISSED: $(tail -n 1 "$tree/said")" failed=1
  fi
  rows+=("$name|$stress|$told")
  (cd "$tree" && git apply --reverse "$patches/$name.patch")
done
say "mutants"
printf '%s\n' "${rows[@]}" | column -t -s '|' | cut -c 1-180
exit "$failed"
