#!/usr/bin/env bash
# Sets the machine up, builds everything and runs all tests that need no GPU, but those that take long (docs/testing.md).
# Arguments go to ctest:
#
#   scripts/test.sh                     everything
#   scripts/test.sh -R attention        tests whose name matches
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$TESSERA_ROOT/scripts/setup.sh"
configure_and_build
ctest --test-dir "$TESSERA_ROOT/build/release" --parallel "$(nproc)" --label-exclude 'gpu|soak|fuzz' \
  --output-on-failure --progress "$@"
