#!/usr/bin/env bash
# Sets the machine up with clang, builds the fuzz programs of the parsers (tests/fuzz) and runs each for some time:
#
#   scripts/fuzz.sh          30 seconds each
#   scripts/fuzz.sh 600      ten minutes each
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds="${1:-30}"
[[ "$seconds" =~ ^[0-9]+$ ]] || die "expected a number of seconds, got \"$seconds\""

"$TESSERA_ROOT/scripts/setup.sh" --fuzz
cmake --preset release -S "$TESSERA_ROOT" "-DTESSERA_FUZZ_SECONDS=$seconds" >&2
configure_and_build fuzz
ctest --test-dir "$TESSERA_ROOT/build/release" --parallel "$(nproc)" --label-regex '^fuzz$' --no-tests=error --output-on-failure
