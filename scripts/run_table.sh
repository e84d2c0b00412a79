#!/usr/bin/env bash
# A table in the background, at the lowest priority, until it is done: `repro` trains what is missing, and goes on where it was stopped.
#   scripts/run_table.sh start PRESET OUT [ARGUMENTS OF reverie repro]
#   scripts/run_table.sh status OUT
#   scripts/run_table.sh stop OUT
# Environment: TABLE (configs/tables/cache_augmentation.json), REVERIE (build/release/reverie), OMP_NUM_THREADS (1).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
table=${TABLE:-$root/configs/tables/cache_augmentation.json}
reverie=${REVERIE:-$root/build/release/reverie}
usage() { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

running() { # the process that works on $1, where there is one
  [ -f "$1/table.pid" ] && kill -0 "$(cat "$1/table.pid")" 2>/dev/null
}

case "${1:-}" in
  start)
    [ $# -ge 3 ] || usage
    preset=$2 out=$3
    shift 3
    mkdir -p "$out"
    if running "$out"; then echo "process $(cat "$out/table.pid") works on $out already" >&2; exit 1; fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    nohup nice -n 19 "$reverie" repro "$table" --preset "$preset" --run-dir "$out" "$@" >>"$out/table.log" 2>&1 </dev/null &
    echo $! >"$out/table.pid"
    echo "process $! works on $out; $out/table.log says how far it is"
    ;;
  status)
    [ $# -eq 2 ] || usage
    if running "$2"; then echo "process $(cat "$2/table.pid") works on it"; else echo "no process works on it"; fi
    find "$2/runs" -name summary.json 2>/dev/null | wc -l | sed 's/$/ runs have finished/'
    tail -n 3 "$2/table.log"
    ;;
  stop)
    [ $# -eq 2 ] || usage
    running "$2" || { echo "no process works on $2"; exit 0; }
    kill -TERM "$(cat "$2/table.pid")"
    echo "it saves a checkpoint and ends; the same start goes on from there"
    ;;
  *) usage ;;
esac
