"""Benchmarks of the GPU: what is measured, in which order.

Works: `gpt2` is GPT-2 of 124 million parameters (batch 16, context 1024, 12 layers, 12 heads, width 768, 50257 tokens), `shakespeare`
nanoGPT's shakespeare_char (64, 256, 6, 6, 384, 65), both without biases and dropout; `kernels` holds single kernels against the rate
at which memory is copied and large matrices are multiplied. Without --work, all of them.

Every round measures, one after the other and each alone, in an order that turns from round to round:
- Reverie as its user gets it: `reverie train` on device cuda; the times of the steps from metrics.jsonl, without the first ones;
- PyTorch: the same model, tokens and batch; torch.compile, scaled_dot_product_attention, bf16 by autocast, fused AdamW, clipped
  gradients, tokens on the GPU and no wait within the steps; a process that lives through all rounds and gives its memory back;
- kernels and ceilings: bench_kernels of tests/benchmarks (a copy on the device, a large product by cublasLt, and the same product by
  PyTorch, where works are measured, too: the faster one is the ceiling).
A round's figure of a work is the mean of its steps; a row holds the medians over the rounds. The model's operations are counted as
6 N + 12 L T d a token (works.py); utilisation (MFU) is held against the GPU's data sheet.
Tokens are drawn at random with the frequencies of a language, so that nothing needs to be fetched.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarking.machine import Neighbours, machine_info
from benchmarking.output import save, say, warn
from benchmarking.programs import ProgramError, Reverie
from benchmarking.pytorch import ENVIRONMENT, PyTorchError, Worker, ensure_environment
from benchmarking.rounds import turned
from benchmarking.tables import duration
from benchmarking.works import Work

from . import kernels, machine, report
from .works import TINY, WORKS, write_tokens

PRECISIONS = ("bf16", "f32")
WORK_NAMES = (*WORKS, "kernels")
WORKER = Path(__file__).resolve().with_name("pytorch_worker.py")
PRODUCT, TINY_PRODUCT = (8192, 20), (32, 2)  # size and how often; of PyTorch's, as bench_kernels' own
SETTLE_SECONDS = 0.5  # between two contenders
BUSY_PERCENT = 5  # of the GPU, before the run: above it others use it


@dataclass(frozen=True)
class Effort:
    """What one round does."""

    warmup: int  # steps of a process of Reverie before those that count
    pytorch_first: int  # steps of a PyTorch worker before the first round: compiles, fills its allocator
    pytorch_warmup: int  # of a worker that is compiled
    steps: int


EFFORTS = {"gpt2": Effort(10, 10, 5, 40), "shakespeare": Effort(30, 20, 10, 200)}
TINY_EFFORT = Effort(1, 1, 1, 2)


def works_of(options: argparse.Namespace) -> list[Work]:
    works = [work for name, work in (TINY if options.tiny else WORKS).items() if name in options.work]
    return [replace(work, batch=options.batch) if options.batch and work.name == "gpt2" else work for work in works]


class Bench:
    """All contenders, alive together, and their rounds."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.until = time.monotonic() + (options.seconds or float("inf"))
        self.threads = len(os.sched_getaffinity(0))
        self.works = works_of(options)
        self.programs: dict[str, Reverie] = {}  # by work: each reads its own tokens
        self.workers: dict[str, Worker] = {}
        self.failed: dict[tuple[str, str], str] = {}  # (work, precision): why PyTorch could not
        self.neighbours = Neighbours(lambda: [w.pid for w in self.workers.values()])
        self.kernels = None
        if "kernels" in options.work:
            self.kernels = kernels.Kernels(options.benchmarks.resolve(), options.device, options.tiny, self.threads, options.preset)
        for work in self.works:
            folder = scratch / work.name
            folder.mkdir()
            program = Reverie(options.reverie.resolve(), self.threads, folder, device=options.device, preset=options.preset)
            program.data = write_tokens(folder / "tokens", work)
            self.programs[work.name] = program

    def effort(self, work: Work) -> Effort:
        return TINY_EFFORT if self.options.tiny else EFFORTS[work.name]

    def check_reverie(self) -> None:
        """Fails now rather than after minutes."""
        for work in self.works:
            for precision in self.options.precision:
                if why := self.programs[work.name].why_not(work, precision):
                    raise ProgramError(f"reverie cannot train {work.name} in {precision}: {why}")

    def start_pytorch(self, python: Path) -> None:
        for work in self.works:
            start = {"work": asdict(work), "mode": "compiled", "tokens": str(self.scratch / work.name / "tokens" / "train.bin"), "device": self.options.device}
            if self.options.tiny:
                start["threads"] = self.threads
            worker = Worker(python, WORKER, start, dict(os.environ), self.scratch / f"pytorch-{work.name}.log")
            self.workers[work.name] = worker
            if worker.about["parameters"] != work.parameters:
                raise ProgramError(f"the PyTorch twin of {work.name} has {worker.about['parameters']} parameters; Reverie's model {work.parameters}")
            for precision in self.options.precision:
                begin = time.monotonic()
                try:
                    worker.steps(precision, 0, self.effort(work).pytorch_first)
                    say(f"{work.name} {precision}: PyTorch is warm after {time.monotonic() - begin:.0f} s")
                except PyTorchError as failure:
                    self.failed[work.name, precision] = str(failure)
                    warn(f"{work.name} {precision}: PyTorch is left out: {failure}")

    def measure(self, who: str, work: Work | None, precision: str) -> dict:
        if work is None:
            return self.measure_kernels()
        e = self.effort(work)
        if who == "pytorch":
            return self.workers[work.name].steps(precision, e.pytorch_warmup, e.steps)
        run = self.programs[work.name].train(work, precision, e.warmup, e.steps)
        return run | {"ms": sum(run["steps_ms"]) / len(run["steps_ms"])}  # as PyTorch's

    def measure_kernels(self) -> dict:
        """A round of bench_kernels, with PyTorch's large products beside Reverie's: the ceiling must not be low because ours are."""
        found = self.kernels.measure()
        worker = next(iter(self.workers.values()), None)
        for precision in PRECISIONS if worker else ():
            size, count = PRODUCT if not self.options.tiny else TINY_PRODUCT
            answer = worker.ask({"product": {"precision": precision, "size": size, "count": count}})
            found["ceilings"][f"pytorch_gemm_{precision}_tflops"] = answer["tflops"]
        return found

    def run(self, after_round: Callable[[int, dict], None]) -> None:
        """`after_round` gets how many rounds are done, and those of each (contender, work, precision). None begins that would
        take longer than --seconds leave, judged by the longest before it."""
        contenders = [(who, work, precision) for work in self.works for precision in self.options.precision
                      for who in ("reverie", *(["pytorch"] if self.workers and (work.name, precision) not in self.failed else []))]
        if self.kernels:
            contenders.append(("kernels", None, ""))
        found: dict[tuple[str, str, str], list[dict]] = {(who, work.name if work else "", precision): [] for who, work, precision in contenders}
        longest = 0.0
        for number in range(self.options.rounds):
            begin = time.monotonic()
            if number > 0 and begin + longest > self.until:
                warn(f"{number} of {self.options.rounds} rounds: another would take longer than --seconds allows")
                break
            for who, work, precision in turned(contenders, number):
                time.sleep(SETTLE_SECONDS)
                self.neighbours.start()
                result = self.measure(who, work, precision)
                result["others_cpu_share"] = self.neighbours.stop()
                found[who, work.name if work else "", precision].append(result)
                what = f"{work.name} {precision}: {who} {duration(result['ms'])} a step" if work else "kernels"
                say(f"round {number + 1} of {self.options.rounds}: {what}")
            longest = max(longest, time.monotonic() - begin)
            after_round(number + 1, found)

    def close(self) -> None:
        while self.workers:
            self.workers.popitem()[1].close()


def flavour_of(options: argparse.Namespace, about: dict) -> str:
    """gpu, emulated or cpu: what the program runs its kernels on."""
    if options.device == "cpu":
        return "cpu"
    flavour = "emulated" if "emulated" in about["cuda"] else "gpu"
    if flavour == "emulated" and not options.tiny:
        raise ProgramError(f"{options.reverie} has emulated kernels, whose speed says nothing; wanted a build of the preset cuda (--reverie build/cuda/reverie)")
    return flavour


def measure(options: argparse.Namespace, command: str) -> dict:
    gpu = {} if options.tiny else machine.query_gpu()
    if (gpu.get("busy_percent") or 0) > BUSY_PERCENT:
        warn(f"others use this GPU: it is {gpu['busy_percent']:.0f} % busy before the run")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        doctor = Reverie(options.reverie.resolve(), len(os.sched_getaffinity(0)), scratch, device=options.device, preset=options.preset)
        about, commit = doctor.about(), doctor.commit()
        flavour = flavour_of(options, about)
        if commit.endswith("-dirty"):
            warn(f"{options.reverie} was built from changed files ({commit})")
        bench = Bench(options, scratch)
        result = {"trial": options.tiny, "flavour": flavour, "commit": commit, "gpu": gpu.get("gpu"), "driver": gpu.get("driver"), "cuda": machine.cuda_version(),
                  "gpu_info": gpu, "machine": machine_info() | {"reverie": about}, "threads": bench.threads, "command": command, "round_count": 0,
                  "left_out": [], "rows": []}
        try:
            bench.check_reverie()
            if bench.works and not options.no_pytorch:
                bench.start_pytorch(options.pytorch or ensure_environment(ENVIRONMENT, upgrade=False, say=say))
                result["pytorch"] = next(iter(bench.workers.values())).about
            # Each round is saved: whoever ends the script has what was measured before.
            def after_round(count: int, found: dict[tuple[str, str, str], list[dict]]) -> None:
                result.update(round_count=count, rows=[], left_out=[])
                result["machine"] |= bench.neighbours.summary()
                add_rows(options, bench, found, result)
                save(options.json, result)

            bench.run(after_round)
        finally:
            bench.close()
    return result


def add_rows(options: argparse.Namespace, bench: Bench, found: dict[tuple[str, str, str], list[dict]], result: dict) -> None:
    """From the rounds to what is told."""
    if bench.kernels:
        result |= kernels.merged(found["kernels", "", ""])
    for work in bench.works:
        for precision in options.precision:
            rounds = {who: found.get((who, work.name, precision), []) for who in ("reverie", "pytorch")}
            gemm = kernels.gemm_rate(result["ceilings"], precision) if bench.kernels else None
            peak = machine.peak_tflops(result["gpu"], precision) if result["gpu"] else None
            result["rows"].append(report.build_row(work, precision, rounds, gemm, peak) | {"detail": rounds})
    for (name, precision), why in bench.failed.items():
        result["left_out"].append({"what": f"PyTorch on {name} in {precision}", "why": why})
    result["aims"] = report.aims(result, 0 if options.tiny else report.LEAST_CONTEXT)
    if options.tiny:
        result["aims"] = [a | {"met": None} for a in result["aims"]]  # a trial meets nothing


def measured(result: dict) -> bool:
    """A run that went through measured all that it was asked for."""
    return True
