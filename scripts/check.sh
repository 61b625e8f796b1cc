#!/usr/bin/env bash
# What to run before a commit: format, build, tests, and clang-tidy on changed files.
#
#   scripts/check.sh                    changed files since HEAD
#   scripts/check.sh origin/main        changed files since another commit
#   scripts/check.sh --fix              also rewrite the format
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$TESSERA_ROOT"

fix=0
base=HEAD
for argument in "$@"; do
  case "$argument" in
    --fix) fix=1 ;;
    *) base="$argument" ;;
  esac
done

for tool in clang-format clang-tidy; do
  command -v "$tool" > /dev/null || die "$tool is missing: apt-get install clang-format clang-tidy"
done

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.h' '*.cpp')
if ((fix)); then
  clang-format -i "${sources[@]}"
else
  clang-format --dry-run --Werror "${sources[@]}"
fi

scripts/test.sh

mapfile -t changed < <({
  git diff --name-only --diff-filter=d "$base" -- '*.cpp'
  git ls-files --others --exclude-standard '*.cpp'
} | sort -u)
# The precompiled header is g++'s: clang reads the sources without it.
if ((${#changed[@]} > 0)); then
  say "clang-tidy on ${#changed[@]} files"
  database="$(mktemp -d)"
  trap 'rm -rf "$database"' EXIT
  sed -E 's/ -include [^ ]*cmake_pch[^ ]*//g; s/ -Winvalid-pch//g; s/ -fpch-preprocess//g; s/ -fopenmp//g' \
    build/release/compile_commands.json > "$database/compile_commands.json"
  # The fuzz programs are compiled apart, by rules of their own, and are not in the database.
  printf '%s\n' "${changed[@]}" | { grep -v '^tests/fuzz/' || true; } | xargs -r -P "$(build_jobs)" -n 1 clang-tidy --quiet -p "$database"
fi
say "all checks passed"
