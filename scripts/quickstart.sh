#!/usr/bin/env bash
# From a bare Debian 12 to the table: packages, build, data, a small reproduction of the paper's
# table on the CPU. Takes about seven minutes on two cores; run it again and it only does what is missing.
#
#   scripts/quickstart.sh [PRESET]     PRESET of the table: smoke (default), laptop or paper
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

preset=${1:-smoke}
case $preset in
  smoke | laptop | paper) ;;
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "quickstart.sh: unknown preset '$preset' (known: smoke, laptop, paper)" >&2; exit 2 ;;
esac

step="start"
since=$SECONDS
say() { step=$1 since=$SECONDS; printf '\n==> %s\n' "$1"; }
took() { printf 'took %d:%02d\n' $(((SECONDS - since) / 60)) $(((SECONDS - since) % 60)); }
trap 'echo "quickstart.sh: failed at: $step (what went wrong is above; run it again to go on from there)" >&2' ERR

table=configs/tables/imm_shakespeare.json
log=build/release/build.log

say "1/4 packages"
scripts/install_dependencies.sh
took

say "2/4 build (a few minutes the first time)"
mkdir -p build/release
cmake --preset release -DREVERIE_TESTS=OFF -DREVERIE_BENCHMARKS=OFF >"$log" 2>&1 || { tail -n 30 "$log" >&2; false; }
cmake --build --preset release --target reverie --parallel "$(nproc)" >>"$log" 2>&1 || { tail -n 60 "$log" >&2; false; }
echo "built build/release/reverie"
took

say "3/4 data: the Shakespeare text"
python3 scripts/fetch.py shakespeare

say "4/4 table: $table, preset $preset"
build/release/reverie repro "$table" --preset "$preset"
took
