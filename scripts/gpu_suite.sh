#!/usr/bin/env bash
# On a machine with a GPU: builds the preset cuda, checks what ptxas says and what nvcc made, runs every test with the GPU's skips
# turned into failures, trains a small model on the CPU and on the GPU, measures how fast models train and kernels run beside
# PyTorch and the GPU's ceilings (scripts/bench.py --device cuda), and writes what came out to docs/results/gpu_<name>.json and .md.
#
#   scripts/gpu_suite.sh                    everything
#   scripts/gpu_suite.sh --jobs 16          compile sixteen files at a time (default: the number of cores)
#   scripts/gpu_suite.sh --pytorch PYTHON   a Python that has PyTorch, instead of an environment that the script makes
#   scripts/gpu_suite.sh --no-pytorch       measure Reverie alone
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

jobs=$(nproc) pytorch=()
usage() { echo "gpu_suite.sh: $1 (scripts/gpu_suite.sh --help)" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs=${2:-}; shift 2 || usage "--jobs needs a number" ;;
    --pytorch) pytorch=(--pytorch "${2:-}"); shift 2 || usage "--pytorch needs a Python" ;;
    --no-pytorch) pytorch=(--no-pytorch); shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown argument '$1'" ;;
  esac
done
command -v nvcc >/dev/null || usage "there is no nvcc here; the preset cuda wants the CUDA toolkit, 12 or newer"
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) ||
  usage "nvidia-smi finds no GPU here; without one, scripts/test.sh --preset emulated runs the same kernels on the CPU"
[ -n "$gpu" ] || usage "nvidia-smi names no GPU"
name=${gpu%%,*} driver=${gpu##*, }
results=docs/results/gpu_$(tr '[:upper:]' '[:lower:]' <<<"$name" | tr -cs 'a-z0-9' '_' | sed 's/^_*//; s/_*$//')
# What is built, before results are written beside it.
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain -- . ':!docs/results')" ] ||
  usage "git status names changed files: commit them first, so that the results can name what they are of"

say() { printf '\n==> %s\n' "$1"; }
build=build/cuda
log=$build/gpu_suite.log
mkdir -p "$build"

say "build for $name"
cmake --preset cuda -DREVERIE_TESTS=ON -DREVERIE_PTXAS_REPORT=ON >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
# Anew, so that ptxas reports on every kernel.
find "$build/kernels/CMakeFiles/reverie_kernels.dir/cuda" -name "*.cu.o" -delete
cmake --build --preset cuda --parallel "$jobs" >>"$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }

say "ptxas"
scripts/check_ptxas.py "$log"
scripts/check_ptx.py --build "$build"

say "tests"
tests=0
python3 scripts/run_tests.py --build "$build" --label cuda --summary "$build/test-summary.json" || tests=$?

say "a small model on the CPU and on the GPU"
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for device in cpu cuda; do
  "$build/reverie" train configs/shakespeare_gpt.json --run-dir "$runs/$device" --set device=$device --set train.steps=200
done

say "speed"
speed=0
scripts/bench.py --device cuda --json "$runs/speed.json" --markdown "$results.md" ${pytorch[@]+"${pytorch[@]}"} || speed=$?

say "results"
python3 - "$commit" "$name" "$driver" "$build/test-summary.json" "$runs" "$tests" "$speed" "$results.json" <<'PYTHON'
import json, re, sys
from pathlib import Path

commit, name, driver, summary, runs, tests, speed, file = sys.argv[1:4] + [Path(sys.argv[4]), Path(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7]), Path(sys.argv[8])]
suites = json.loads(summary.read_text())
# On a machine with a GPU, a test that looks for one and skips has not run.
unwanted = [f"{s['name']}: {test}: {why}" for s in suites for test, why in s["skipped"] if re.search("cuda|gpu", test + why, re.I)
            and "emulated in this build" not in why and "usable here" not in why and "no torch" not in why
            and "wants two GPUs" not in why]
figures = {}
for device in ("cpu", "cuda"):
    run = json.loads((runs / device / "summary.json").read_text())
    figures[device] = {key: run[key] for key in ("tokens_per_second", "train_loss", "val_loss")}
measured = json.loads((runs / "speed.json").read_text()) if speed == 0 else None
for row in measured["rows"] if measured else []:
    del row["detail"]  # single steps
result = {"commit": commit, "gpu": name, "driver": driver,
          "passed": sum(s["passed"] for s in suites), "failed": sum(len(s["failed"]) for s in suites) + len(unwanted),
          "skipped": sum(len(s["skipped"]) for s in suites) - len(unwanted), "shakespeare_gpt": figures,
          "speed": measured}
for line in unwanted:
    print(f"skipped, although there is a GPU: {line}")
if speed:
    print(f"scripts/bench.py --device cuda failed with status {speed}: there are no figures of speed")
file.write_text(json.dumps(result, indent=2) + "\n")
print(f"{file}: {result['passed']} passed, {result['failed']} failed, {result['skipped']} skipped")
sys.exit(1 if result["failed"] or tests or speed else 0)
PYTHON
