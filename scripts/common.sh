# Shared by the scripts of this folder; sourced, not run.
# defines: TESSERA_ROOT, say, die, configure_and_build

TESSERA_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '[tessera] %s\n' "$*" >&2; }
die() { printf '[tessera] error: %s\n' "$*" >&2; exit 1; }

# Compile jobs: one per core, but at most one per 1.5 GB of memory, which is what a LibTorch source file can take.
build_jobs() {
  local cores memory_kb by_memory
  cores="$(nproc)"
  memory_kb="$(awk '/MemAvailable/ {print $2}' /proc/meminfo)"
  by_memory=$((memory_kb / 1500000))
  ((by_memory >= 1)) || by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# configure_and_build [targets...]: Release build in build/release; no targets means all.
configure_and_build() {
  local build="$TESSERA_ROOT/build/release"
  if [[ ! -f "$build/build.ninja" ]]; then
    cmake --preset release -S "$TESSERA_ROOT" >&2
  fi
  local targets=()
  (($# == 0)) || targets=(--target "$@")
  cmake --build "$build" --parallel "$(build_jobs)" "${targets[@]}" >&2
}
