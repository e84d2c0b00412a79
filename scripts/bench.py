#!/usr/bin/env python3
"""How fast Reverie trains on this machine, beside PyTorch and beside what the machine can do.

    scripts/bench.py --work all --rounds 5 --json cpu_speed.json --markdown docs/results/cpu_speed.md
    scripts/bench.py --work small --precision f32 --rounds 1 --json /tmp/look.json
    scripts/bench.py --work growth attention decode tokenize latents imm --json more.json
    scripts/bench.py --work stored --base gemma.gguf --threads 1 --json stored.json
    scripts/bench.py --work gate --against OTHER/reverie --json gate_cost.json --markdown docs/results/gate_cost.md
    scripts/bench.py --device cuda --json gpu_speed.json --markdown gpu_speed.md
    scripts/bench.py --device cuda --work kernels --json /tmp/kernels.json
    scripts/bench.py --device cpu --tiny --json /tmp/trial.json       tries the works of the GPU; no figures

Every round measures, one after the other and each alone, in an order that turns from round to round, Reverie as its
user gets it (`reverie train`, the times of its steps from metrics.jsonl), PyTorch with the same model and batch, and what
bounds both. A row holds the medians over the rounds.

Needs a build with the programs of tests/benchmarks (cmake --preset release, or cuda; cmake --build --preset ...). PyTorch
is installed into ~/.cache/reverie/pytorch (several GB) unless --pytorch names a Python that has it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path

from benchmarking.cpu import driver as cpu
from benchmarking.cuda import driver as cuda
from benchmarking.output import say, warn
from benchmarking.programs import ROOT, ProgramError
from benchmarking.pytorch import PyTorchError
from benchmarking.tables import WANTED_ROUNDS

RESULTS = ROOT / "docs" / "results"
PRECISIONS = ("f32", "bf16")
# Options that one driver alone knows.
CPU_ONLY = ("threads", "steps", "upgrade_pytorch", "base", "text", "against", "llama_cpp", "models")
CUDA_ONLY = ("batch", "no_pytorch", "seconds")


def parser() -> argparse.ArgumentParser:
    cores = len(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(description=f"{__doc__}\n{cpu.__doc__}\n{cuda.__doc__}", formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="exit status: 0 measured; 1 something failed, or nothing was left to measure; 2 wrong usage")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="what is measured (%(default)s)")
    p.add_argument("--work", nargs="+", metavar="WORK", help=f"on the CPU {', '.join(cpu.WORK_NAMES)} (`all`: small and baby); on a GPU {', '.join(cuda.WORK_NAMES)} "
                                                             "(without --work: all of them)")
    p.add_argument("--rounds", type=int, help=f"of everything, interleaved ({WANTED_ROUNDS}; with --tiny 1)")
    p.add_argument("--json", type=Path, required=True, metavar="OUT", help="where the figures go")
    p.add_argument("--markdown", type=Path, metavar="OUT", help="a page of tables; of one that is there only what stands between its marks changes")
    p.add_argument("--precision", nargs="+", choices=[*PRECISIONS, "both"], help="of the works (on the CPU both, on a GPU bf16)")
    p.add_argument("--reverie", type=Path, help="the program (build/release/reverie; on a GPU build/cuda/reverie)")
    p.add_argument("--benchmarks", type=Path, metavar="DIR", help="where the bench_* programs are (tests/benchmarks beside the program)")
    p.add_argument("--pytorch", type=Path, metavar="PYTHON", help="a Python that has PyTorch, instead of an environment of our own")
    only = p.add_argument_group("on the CPU")
    only.add_argument("--threads", type=int, help=f"for everybody (this machine: {cores})")
    only.add_argument("--steps", type=int, help=f"that count in a round ({', '.join(f'{k}: {e.steps}' for k, e in cpu.EFFORTS.items())})")
    only.add_argument("--upgrade-pytorch", action="store_true", help="bring our own environment up to the newest PyTorch")
    only.add_argument("--base", nargs="+", metavar="MODEL",
                      help="of `latents`, one table each: stories260K (alone unless others are named), a model's file or folder, or random weights of "
                           "Llama's shape, as llama:width=96,heads=3,kv_heads=1,hidden=256,layers=5,vocabulary=512")
    only.add_argument("--text", type=Path, help="train on this text, tokenise it and read it, instead of tiny Shakespeare")
    only.add_argument("--against", type=Path, metavar="PROGRAM", help="of `gate` and `stored`: another build of reverie, measured in turn with the first (without it, "
                                                                      "`stored` takes this one with REVERIE_WEIGHTS=f32)")
    only.add_argument("--llama-cpp", type=Path, metavar="PYTHON", help="of `stored`: a Python with the package llama-cpp-python, whose llama.cpp is measured in turn")
    only.add_argument("--models", nargs="+", choices=["small", "baby", "smollm2", "smollm2_rematerialized"], help="of `gate` (all)")
    only = p.add_argument_group("on a GPU")
    only.add_argument("--batch", type=int, metavar="N", help="sequences of a step of gpt2, for both (16); fewer where memory does not hold them")
    only.add_argument("--no-pytorch", action="store_true", help="leave PyTorch out")
    only.add_argument("--seconds", type=float, help="begin no round that would end later than this after the start; the first is measured all the same")
    only.add_argument("--tiny", action="store_true", help="try the works of the GPU at sizes that say nothing, on any device; the output says so, and is not written to docs/results")
    return p


def check(p: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with status 2 where options are wrong or do not go together."""
    foreign, place = (CPU_ONLY, "the CPU") if options.driver is cuda else (CUDA_ONLY, "a GPU")
    for name in foreign:
        if getattr(options, name):
            p.error(f"--{name.replace('_', '-')} is for measurements on {place}; this one is on device {options.device}{' with --tiny' if options.tiny else ''}")
    for work in options.work or ():
        if work not in options.driver.WORK_NAMES:
            p.error(f"argument --work: invalid choice: '{work}' (of device {options.device} choose from {', '.join(options.driver.WORK_NAMES)})")
    if options.driver is cpu and options.work and "stored" in options.work:
        for file in [*(options.base or ["stories260K"]), *filter(None, [options.against, options.llama_cpp])]:
            if not Path(file).exists():
                p.error(f"--work stored: {file} is not there; --base names files of published models, --against a program, --llama-cpp a Python")
    if options.driver is cpu and not options.work:
        p.error(f"--work is missing; wanted some of {', '.join(cpu.WORK_NAMES)}")
    for name in ("rounds", "threads", "steps", "batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            p.error(f"--{name} is {value}; wanted at least 1")
    if options.pytorch and options.upgrade_pytorch:
        p.error("--upgrade-pytorch is for our own environment, not for --pytorch PYTHON")
    if options.pytorch and options.no_pytorch:
        p.error("got both --pytorch and --no-pytorch; wanted one of them")
    for file in filter(None, (options.json, options.markdown)):
        if options.tiny and file.resolve().is_relative_to(RESULTS):
            p.error(f"{file}: what --tiny writes is no result and does not go to docs/results; name another file")
    if options.markdown and (refusal := options.driver.report.PAGE.refusal(options.markdown)):
        p.error(refusal)
    if not options.json.resolve().parent.is_dir():
        p.error(f"--json {options.json}: there is no folder {options.json.resolve().parent}")


def parse(arguments: list[str]) -> argparse.Namespace:
    p = parser()
    options = p.parse_args(arguments)
    options.driver = cuda if options.device == "cuda" or options.tiny else cpu
    check(p, options)
    options.rounds = options.rounds or (1 if options.tiny else WANTED_ROUNDS)
    options.threads = options.threads or len(os.sched_getaffinity(0))
    options.base = options.base or ["stories260K"]
    options.work = options.work or [*cuda.WORK_NAMES]
    asked = options.precision or (["both"] if options.driver is cpu else ["bf16"])
    options.precision = list(PRECISIONS) if "both" in asked else asked
    options.preset = "release" if options.device == "cpu" else "cuda"
    options.reverie = options.reverie or ROOT / "build" / options.preset / "reverie"
    options.benchmarks = options.benchmarks or options.reverie.parent / "tests" / "benchmarks"
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.rounds < WANTED_ROUNDS and not options.tiny:
        warn(f"{options.rounds} rounds are a look, not a measurement; wanted at least {WANTED_ROUNDS}")
    try:
        result = options.driver.measure(options, shlex.join(["scripts/bench.py", *arguments]))
    except (ProgramError, PyTorchError) as failure:
        print(f"bench.py: {failure}", file=sys.stderr)
        return 1
    tables = options.driver.report.markdown(result)
    say("\n" + tables)
    if options.markdown:
        options.driver.report.PAGE.write(options.markdown, tables)
    if not options.driver.measured(result):
        print("bench.py: nothing was measured", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
