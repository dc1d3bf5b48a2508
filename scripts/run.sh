#!/usr/bin/env bash
# Prepares the machine, then runs the command given in the build's environment.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/prepare.sh
source scripts/env.sh
exec "$@"
