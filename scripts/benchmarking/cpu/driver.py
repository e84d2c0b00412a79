"""Benchmarks of the CPU: what is measured, in which order.

Works: `small` is nanoGPT's CPU recipe (batch 12, context 64, 4 layers, 4 heads, width 128), `baby` its
shakespeare_char (64, 256, 6, 6, 384); characters of Shakespeare, dropout 0, no biases. `all` is both.
`growth` shows how time and memory of a step grow with batch, context, width and depth; `attention`
what it costs a token at contexts of 64 to 4096. `decode` lets a model of GPT-2's shape write, 1 to 8
texts at once, beside the speed at which memory is read; `tokenize` prepares --text (Shakespeare) with
GPT-2's byte pairs beside tiktoken, which is installed beside PyTorch, and compares all tokens.
`latents` trains a coprocessor beside stories260K, or beside each --base, many insertion points in one
step, beside the same loss by separate forwards and beside the products of such a step alone. `imm`
trains the IMM in its five modes beside the same GPT without it. `stored` lets each --base (a file of a
published model) write and read --text with weights as its file has them, beside --against or, without
it, beside the same program that widens them, and beside llama.cpp (--llama-cpp); CPU seconds, which
others on the machine change little.
`gate` counts the CPU seconds of a start, an evaluation and an end of `reverie train` (small, baby, a
coprocessor beside SmolLM2), beside another build of Reverie (--against).

Every round measures, one after the other and each alone, in an order that turns from round to round:
- Reverie as its user gets it: `reverie train` on a prepared token file; the times of the steps from
  metrics.jsonl, without the first ones, the median of them;
- PyTorch: the same model and batch, fused AdamW, clipped gradients, scaled_dot_product_attention,
  denormals flushed, malloc told to keep its pages; eager and torch.compile, each a process that lives
  through all rounds (compiled once) and sleeps while others are measured; in bf16 with autocast;
- the bound: every matrix product of the step alone, by oneDNN, in its fastest way
  (shapes.py says what is counted).
A row holds the medians over the rounds; PyTorch's better mode counts. All use the same number of threads.
Beside them stands how much of the CPU other programs took meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarking.machine import QUIET_SHARE, Neighbours, available_bytes, cpu_seconds_of, machine_info
from benchmarking.output import save, say, warn
from benchmarking.programs import ROOT, ProgramError, Reverie
from benchmarking.pytorch import ENVIRONMENT, PyTorchError, Worker, ensure_environment
from benchmarking.rounds import turned
from benchmarking.tables import bytes_text, duration, median
from benchmarking.works import SMALL, WORKS, Work

from . import decoding, gate, latents, memories, pytorch, report, stored, sweeps, tokenization
from .benchmarks import Benchmarks

OTHER_WORKS = ("growth", "attention", "decode", "tokenize", "latents", "imm", "stored", "gate")  # and parts of the result
WORK_NAMES = (*WORKS, "all", *OTHER_WORKS)


@dataclass(frozen=True)
class Effort:
    """What one round does."""

    warmup: int  # steps of a process of Reverie before those that count
    pytorch_first: int  # steps of a PyTorch worker before the first round: compiles, fills its allocator
    pytorch_warmup: int  # of a worker that slept; it is long warm
    steps: int
    product_seconds: float  # for each way of each matrix product, at least


EFFORTS = {"small": Effort(8, 8, 3, 30, 0.03), "baby": Effort(1, 2, 1, 3, 0.05)}
SETTLE_SECONDS = 0.3  # between two contenders; idle OpenMP threads fall asleep after milliseconds
AWAKE_SHARE = 0.05  # of a core, for a worker that should sleep


def works_of(names: list[str]) -> list[Work]:
    return [work for name, work in WORKS.items() if name in names or "all" in names]


def find_text(given: Path | None) -> Path:
    if given:
        return given.resolve()
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch.py"), "shakespeare"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError("scripts/fetch.py found no Shakespeare (its reasons are above); --text FILE names a text")
    return Path(done.stdout.splitlines()[-1])


class Bench:
    """One work: its contenders, alive together, and their rounds."""

    def __init__(self, options: argparse.Namespace, work: Work, reverie: Reverie, benchmarks: Benchmarks, neighbours: Neighbours,
                 workers: list[Worker]) -> None:
        self.options, self.work, self.reverie, self.benchmarks, self.neighbours = options, work, reverie, benchmarks, neighbours
        self.workers = workers
        effort = EFFORTS[work.name]
        self.effort = replace(effort, steps=options.steps or effort.steps)
        self.failed: dict[tuple[str, str], str] = {}  # (mode, precision): why

    def start_worker(self, mode: str, python: Path, text: Path, log: Path) -> None:
        worker = pytorch.start_worker(python, mode, self.work, text, self.options.threads, log)
        self.workers.append(worker)
        if worker.about["parameters"] != self.work.parameters:
            raise ProgramError(f"the PyTorch twin of {self.work.name} has {worker.about['parameters']} parameters; Reverie's model {self.work.parameters}")

    def warm_up(self, precisions: list[str]) -> None:
        """Each mode's first steps, which compile. A mode that cannot is left out."""
        for worker in list(self.workers):
            for precision in precisions:
                begin = time.monotonic()
                try:
                    worker.steps(precision, 0, self.effort.pytorch_first)
                    say(f"{self.work.name} {precision}: PyTorch {worker.mode} is warm after {time.monotonic() - begin:.0f} s")
                except PyTorchError as failure:
                    self.failed[worker.mode, precision] = str(failure)
                    warn(f"{self.work.name} {precision}: PyTorch {worker.mode} is left out: {failure}")

    def settle(self) -> None:
        """Gives idle threads time to fall asleep, and notices those that do not."""
        before = {w.mode: cpu_seconds_of(w.pid) for w in self.workers}
        time.sleep(SETTLE_SECONDS / 3)
        middle = {w.mode: cpu_seconds_of(w.pid) for w in self.workers}
        time.sleep(SETTLE_SECONDS * 2 / 3)
        for worker in self.workers:
            used = cpu_seconds_of(worker.pid) - middle[worker.mode]
            if used > AWAKE_SHARE * SETTLE_SECONDS + 0.01:  # a tick of the clock may belong to what came before
                warn(f"the idle PyTorch worker ({worker.mode}) used {used:.2f} s of CPU within {SETTLE_SECONDS * 2 / 3:.1f} s (and {middle[worker.mode] - before[worker.mode]:.2f} s before)")

    def measure(self, contender: str, precision: str) -> dict:
        e = self.effort
        if contender == "reverie":
            return self.reverie.train(self.work, precision, e.warmup, e.steps)
        if contender == "bound":
            return self.benchmarks.bound(self.work, precision, e.product_seconds)
        worker = next(w for w in self.workers if w.mode == contender)
        answer = worker.steps(precision, e.pytorch_warmup, e.steps)
        return {"ms": median(answer["steps_ms"]), **answer}

    def run(self, precisions: list[str]) -> dict[str, dict[str, list[dict]]]:
        """Each precision's rounds by contender."""
        found = {p: {c: [] for c in ("reverie", "bound", *pytorch.MODES)} for p in precisions}
        for number in range(self.options.rounds):
            contenders = [(c, p) for p in precisions for c in ("reverie", *pytorch.MODES, "bound") if (c, p) not in self.failed]
            for contender, precision in turned(contenders, number):
                self.settle()
                self.neighbours.start()
                result = self.measure(contender, precision)
                result["others_cpu_share"] = self.neighbours.stop()
                found[precision][contender].append(result)
            for precision in precisions:
                last = {c: f"{duration(r[-1]['ms'])} ({100 * r[-1]['others_cpu_share']:.0f} %)" for c, r in found[precision].items() if r}
                say(f"{self.work.name} {precision}, round {number + 1} of {self.options.rounds} (others' share of the CPU): " + ", ".join(f"{c} {t}" for c, t in last.items()))
        return found


def usable_precisions(options: argparse.Namespace, work: Work, reverie: Reverie, left_out: list[dict]) -> list[str]:
    """Those asked for, without what this build of Reverie cannot train in."""
    usable = []
    for precision in options.precision:
        why = reverie.why_not(work, precision)
        if not why:
            usable.append(precision)
            if precision == "bf16" and not {"avx512_bf16", "amx_bf16"} & set(machine_info()["instructions"]):
                warn(f"{work.name} bf16: this CPU has no bf16 products, so that bf16 is not expected to be faster than f32")
            continue
        if precision == "f32":
            raise ProgramError(f"reverie cannot plan {work.name}: {why}")
        why = f"this build of Reverie has no {precision} ({why})"
        left_out.append({"work": work.name, "precision": precision, "why": why})
        warn(f"{work.name} {precision} is left out: {why}")
    return usable


def measure_work(options: argparse.Namespace, work: Work, reverie: Reverie, benchmarks: Benchmarks, neighbours: Neighbours, workers: list[Worker],
                 python: Path, text: Path, scratch: Path, result: dict) -> None:
    """Adds the rows of `work` to `result`."""
    precisions = usable_precisions(options, work, reverie, result["left_out"])
    if not precisions:
        return
    # A PyTorch process keeps what the larger of its precisions took: about 30 d floats a token and layer.
    wanted = 2 * 4 * 30 * work.width * work.layers * work.tokens + (2 << 30)
    available = available_bytes(Path("/proc/meminfo").read_text())
    if available < wanted:
        warn(f"{work.name} may want {bytes_text(wanted)} of memory, {bytes_text(available)} are free")
    bench = Bench(options, work, reverie, benchmarks, neighbours, workers)
    try:
        for mode in pytorch.MODES:
            bench.start_worker(mode, python, text, scratch / f"pytorch-{work.name}-{mode}.log")
        bench.warm_up(precisions)
        reverie.train(work, precisions[0], 0, 1)  # its files are in memory
        found = bench.run(precisions)
        result["machine"]["pytorch"] = workers[0].about | {"environment": pytorch.ALLOCATOR | pytorch.THREADING}
    finally:
        while workers:
            workers.pop().close()
    for precision in precisions:
        row = report.build_row(work.name, precision, work.tokens, found[precision])
        row["planned_peak_bytes"] = reverie.plan(work, precision)["peak_bytes"]
        row["pytorch_failed"] = {mode: why for (mode, p), why in bench.failed.items() if p == precision}
        row["detail"] = found[precision]
        result["rows"].append(row)


def measure(options: argparse.Namespace, command: str) -> dict:
    workers: list[Worker] = []
    neighbours = Neighbours(lambda: [w.pid for w in workers])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        benchmarks = Benchmarks(options.benchmarks.resolve(), options.threads)
        reverie = Reverie(options.reverie.resolve(), options.threads, scratch)
        text = find_text(options.text)
        vocabulary = reverie.prepare(text)
        result = {
            "rows": [],
            "left_out": [],
            "machine": machine_info() | {"threads": options.threads, "reverie": reverie.about()},
            "commit": reverie.commit(),
            "command": command,
            "round_count": options.rounds,
            "text": text.name,
            "vocabulary": vocabulary,
        }
        if result["commit"].endswith("-dirty"):
            warn(f"{options.reverie} was built from changed files ({result['commit']})")
        works = [replace(work, vocabulary=vocabulary) for work in works_of(options.work)]
        if works or {"tokenize", "imm"} & set(options.work):
            python = options.pytorch or ensure_environment(ENVIRONMENT, upgrade=options.upgrade_pytorch, say=say)
        for work in works:
            # Fails now rather than after minutes of PyTorch.
            benchmarks.program("bench_step_gemms")
            measure_work(options, work, reverie, benchmarks, neighbours, workers, python, text, scratch, result)
            result["machine"] |= neighbours.summary()
            save(options.json, result)
        if "growth" in options.work:
            result["growth"] = sweeps.measure_growth(reverie, benchmarks, neighbours, options.rounds, vocabulary, say)
        if "attention" in options.work:
            result["attention"] = sweeps.measure_attention(benchmarks, neighbours, options.rounds, say)
        if "decode" in options.work:
            benchmarks.program("bench_memory")
            result["decode"] = decoding.measure(reverie, benchmarks, neighbours, options.rounds, scratch, say)
        if "tokenize" in options.work:
            tokenization.ensure_tiktoken(python, not options.pytorch, say)
            result["tokenize"] = tokenization.measure(reverie, neighbours, options.rounds, python, text, scratch, say)
        if "latents" in options.work:
            bases = [latents.find_base(base, scratch) for base in options.base]
            result["latents"] = latents.measure(benchmarks, neighbours, options.rounds, bases, say)
        if "imm" in options.work:
            try:
                for name, imm in memories.TWINS.items():
                    workers.append(pytorch.start_worker(python, "eager", replace(SMALL, vocabulary=vocabulary), text, options.threads, scratch / f"{name}.log", imm=imm))
                result["imm"] = memories.measure(reverie, dict(zip(memories.TWINS, workers)), neighbours, options.rounds, vocabulary, say)
            finally:
                while workers:
                    workers.pop().close()
        if "stored" in options.work:
            result["stored"] = stored.measure(options.reverie.resolve(), options.against, options.llama_cpp, [Path(base).resolve() for base in options.base], text, options.threads,
                                              neighbours, options.rounds, scratch, say)
        if "gate" in options.work:
            result["gate"] = gate.measure(options.reverie, options.against, neighbours, options.rounds, options.threads, options.models or [], text, scratch, say)
        if set(options.work) != {"gate"}:
            result["machine"]["gemm_library"] = benchmarks.library
        result["machine"] |= neighbours.summary()
        save(options.json, result)
    if not result["machine"]["quiet"]:
        share = result["machine"]["others_cpu_share_median"]
        warn(f"this machine was not quiet: others used {100 * share:.0f} % of the CPU (median; wanted at most {100 * QUIET_SHARE:.0f} %)")
    return result


def measured(result: dict) -> bool:
    return any(result.get(part) for part in ("rows", *OTHER_WORKS))
