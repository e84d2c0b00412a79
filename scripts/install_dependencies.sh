#!/usr/bin/env bash
# Installs what Reverie is built from: Debian packages, and only those that are missing.
#
#   scripts/install_dependencies.sh            what the `reverie` program needs
#   scripts/install_dependencies.sh --tests    also what the tests need
#   scripts/install_dependencies.sh --list     print the packages and stop
#
# Debian 12 is what it is tested on; other Debian and Ubuntu releases with these packages will do.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config git   # the tools (C++20: g++ 12 or newer; cmake 3.25 or newer)
  python3 ca-certificates                # scripts/fetch.py
  libdnnl-dev                            # matrix products (oneDNN)
  libfmt-dev libspdlog-dev               # messages
  nlohmann-json3-dev libcli11-dev        # configurations, the command line
  libcpp-httplib-dev                     # reverie serve
  libxxhash-dev                          # checksums of token files and checkpoints
  libpcre2-dev                           # how pretrained models' tokenizers split text
  zlib1g-dev libzstd-dev                 # compressed texts
  libopenmpi-dev openmpi-bin             # several ranks by mpirun; the build does without, too
)
test_packages=(
  libgtest-dev libgmock-dev              # GoogleTest
)

list=false
for argument in "$@"; do
  case $argument in
    --tests) packages+=("${test_packages[@]}") ;;
    --list) list=true ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "install_dependencies.sh: unknown argument '$argument' (known: --tests, --list)" >&2; exit 2 ;;
  esac
done
if $list; then printf '%s\n' "${packages[@]}"; exit 0; fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  {
    echo "install_dependencies.sh: this system has no apt-get, so nothing was installed."
    echo "Install what these Debian 12 packages hold, by their names on your system, and build with"
    echo "  cmake --preset release -DREVERIE_TESTS=OFF && cmake --build --preset release"
    echo "Packages: ${packages[*]}"
  } >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "dependencies: all ${#packages[@]} packages are installed"
  exit 0
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_dependencies.sh: not root, and there is no sudo. As root, run:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo)
fi

# apt-get is silent unless it fails; then its whole output is shown.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_apt() {
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 && return
  cat "$log" >&2
  echo "install_dependencies.sh: 'apt-get $1' failed (its output is above)" >&2
  exit 1
}
echo "dependencies: installing ${missing[*]}"
run_apt update -q
run_apt install -q -y --no-install-recommends "${missing[@]}"
echo "dependencies: installed ${#missing[@]} packages"
