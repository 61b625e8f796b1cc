#!/usr/bin/env bash
# Runs the main job: sets the machine up, builds, and trains the Llama 3 debug model on the source files of the
# installed LibTorch package.
#
#   scripts/train.sh                                     configs/llama3_debug.toml as it stands
#   scripts/train.sh --training.steps 50                 with overrides
#   scripts/train.sh --config configs/llama3_8b.toml     another job
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$TESSERA_ROOT/scripts/setup.sh"
configure_and_build tessera

cd "$TESSERA_ROOT"
config=(--config configs/llama3_debug.toml)
for argument in "$@"; do
  case "$argument" in
    --config | --config=* | --job.config_file | --job.config_file=* | -h | --help) config=() ;;
  esac
done
exec build/release/bin/tessera train "${config[@]}" "$@"
