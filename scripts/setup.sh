#!/usr/bin/env bash
# Installs what is missing to build and run Tessera on Debian 12 or Ubuntu 22.04 and newer: the compiler, libraries (apt,
# as root or by sudo) and LibTorch (the torch wheel, by pip, into .venv). Does nothing, in well under two seconds, when
# all is there. Run by train.sh and test.sh; safe to run again.
#
#   scripts/setup.sh           to build, train and test
#   scripts/setup.sh --fuzz    clang and libFuzzer as well, for scripts/fuzz.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly TORCH_VERSION=2.13.0
readonly VENV="$TESSERA_ROOT/.venv"

# command:package, for tools that may also come from elsewhere than apt.
readonly TOOLS=(g++:g++ cmake:cmake ninja:ninja-build ccache:ccache python3:python3)
readonly LIBRARIES=(
  libtomlplusplus-dev libcli11-dev nlohmann-json3-dev libspdlog-dev libsimdjson-dev libgtest-dev libgmock-dev)

missing_packages() {
  local pair package
  for pair in "${TOOLS[@]}"; do
    command -v "${pair%%:*}" > /dev/null || echo "${pair##*:}"
  done
  for package in "${LIBRARIES[@]}"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" == installed ]] || echo "$package"
  done
  python3 -c 'import ensurepip, venv' 2> /dev/null || echo python3-venv
}

# clang, and libFuzzer, which is a package of its own, named by clang's version, in some distributions.
missing_clang() { command -v clang++ > /dev/null || echo clang; }
missing_fuzz_runtime() {
  local folder
  folder="$(dirname "$(clang++ -print-libgcc-file-name --rtlib=compiler-rt)")"
  compgen -G "$folder/libclang_rt.fuzzer*.a" > /dev/null || echo "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
}

install_packages() {
  local as_root=()
  command -v apt-get > /dev/null || die "this machine has no apt-get; install these packages yourself: $*"
  if ((EUID != 0)); then
    sudo -n true 2> /dev/null || die "missing packages. Run as root: apt-get install -y $*"
    as_root=(sudo)
  fi
  say "installing $*"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

has_torch() {
  local version_files=("$VENV"/lib/python3*/site-packages/torch/version.py)
  [[ -f "${version_files[0]}" ]] && grep -q "__version__ = '$TORCH_VERSION" "${version_files[0]}"
}

install_torch() {
  say "installing torch $TORCH_VERSION into $VENV"
  [[ -x "$VENV/bin/python" ]] || python3 -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet "torch==$TORCH_VERSION"
  has_torch || die "pip reported success, but torch $TORCH_VERSION is not in $VENV"
}

# install_missing <function that lists packages>
install_missing() {
  local missing
  mapfile -t missing < <("$1")
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

install_missing missing_packages
if [[ "${1:-}" == --fuzz ]]; then
  install_missing missing_clang
  install_missing missing_fuzz_runtime
fi
has_torch || install_torch
