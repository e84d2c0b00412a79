#!/usr/bin/env bash
# Set-up, build, and every test. The last line counts: "N passed, N failed, N skipped".
#
#   scripts/test.sh                    everything, optimised
#   scripts/test.sh --preset asan      the C++ tests under the address and undefined-behaviour sanitizers
#   scripts/test.sh --preset emulated  CUDA's kernels run on the CPU (docs/cuda.md); emulated-asan: under those sanitizers
#   scripts/test.sh --preset tsan      the C++ tests under the thread sanitizer
#   scripts/test.sh --room layers      only tests/layers (repeatable)
#   scripts/test.sh --jobs 4           compile four files at a time (default: the number of cores)
#   scripts/test.sh --strict           a warning of the compiler ends the build
#
# Tests that need pretrained files or data sets take them from the folder REVERIE_DATA, and are skipped without it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

preset=release jobs=$(nproc) rooms=() strict=OFF
usage() { echo "test.sh: $1 (scripts/test.sh --help)" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:-}; shift 2 || usage "--preset needs a name" ;;
    --room) rooms+=("${2:-}"); shift 2 || usage "--room needs a name" ;;
    --jobs) jobs=${2:-}; shift 2 || usage "--jobs needs a number" ;;
    --strict) strict=ON; shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown argument '$1'" ;;
  esac
done
case $jobs in '' | *[!0-9]* | 0) usage "--jobs needs a positive number, got '$jobs'" ;; esac

build=build/$preset
log=$build/build.log
arguments=(--build "$build" --label "$preset" --summary "$build/test-summary.json")
case $preset in
  release | emulated | cuda) ;;
  dev) arguments+=(--kind gtest --kind python) ;;  # check_isa_objects.py looks at optimised objects
  asan | emulated-asan)
    # Python tests and checks of the sources say nothing that the release run has not said.
    arguments+=(--kind gtest)
    # No fake stack: g++ 12 places vectors of 64 bytes on it that are not aligned to 64 (GCC bug 110027), and AVX-512 faults.
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0:strict_string_checks=1:check_initialization_order=1}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
    ;;
  tsan)
    # Parallel loops are watched too: core/parallel.h tells the sanitizer where they begin and end. Libraries (oneDNN) are not
    # built for it, and not watched.
    arguments+=(--kind gtest)
    export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:second_deadlock_stack=1:suppressions=$root/tests/support/tsan_suppressions.txt}
    ;;
  *) usage "unknown preset '$preset' (known: release, dev, emulated, cuda, asan, emulated-asan, tsan)" ;;
esac
for room in "${rooms[@]}"; do
  [ -d "tests/$room" ] || usage "there is no tests/$room"
  arguments+=(--room "$room")
done

# Whatever stops the script early is a failure, and the last line says so too.
step="start"
fail() { echo "test.sh: failed at: $step" >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
say() { step=$1; printf '\n==> %s\n' "$1"; }

say "packages"
scripts/install_dependencies.sh --tests || fail

say "build ($preset)"
mkdir -p "$build"
cmake --preset "$preset" -DREVERIE_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=$strict >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail; }
targets=()
for room in "${rooms[@]}"; do
  # The targets of one room are its binary and, for what its Python tests run, the program.
  [ -n "$(find "tests/$room" -name 'test_*.cpp' -print -quit)" ] && targets+=("test_$room")
  compgen -G "tests/$room/test_*.py" >/dev/null && targets+=(all)
done
cmake --build --preset "$preset" --parallel "$jobs" ${targets:+--target "${targets[@]}"} >>"$log" 2>&1 || { tail -n 60 "$log" >&2; fail; }

say "tests"
exec python3 scripts/run_tests.py "${arguments[@]}"
