"""A coprocessor's training step with packed groups, beside separate forwards and beside its products alone.

What a step needs at the least: the text's rows forward; the rows of the base's groups forward and
the gradients of their inputs (its weights are frozen), in the last block only what its keys and
values want of rows that predict nothing; the coprocessor's rows forward, and the
gradients of inputs and weights; the head over the tokens that are predicted, likewise frozen. The
linear layers' products are timed alone at their own shapes (bench_step_gemms, fastest way). In
attention, pairs that a row does see are counted: with a key of the frozen text two products forward
and two backward (of the scores, and of the query), with one of its own group two more; their time
is taken at the mean rate of the linear layers' products. Norms, rotations, activations, softmax and
AdamW count nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import ROOT, ProgramError
from benchmarking.tables import median

from . import random_llama
from .benchmarks import Benchmarks
from .shapes import Gemm

PRODUCT_SECONDS = 0.03
STEP_SECONDS = 3


@dataclass(frozen=True)
class Base:
    name: str
    path: Path


def find_base(given: str, scratch: Path) -> Base:
    """What --base names; random weights are written under `scratch`."""
    if given.startswith(random_llama.PREFIX):
        try:
            shape = random_llama.Shape.parse(given)
        except ValueError as error:
            raise ProgramError(f"--base: {error}") from error
        path = scratch / (given.replace(":", "-") + ".bin")
        random_llama.write(path, shape)
        return Base(shape.name, path)
    if given != "stories260K":
        return Base(Path(given).name, Path(given).resolve())
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch.py"), "stories260k"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError("scripts/fetch.py found no stories260K (its reasons are above); --base MODEL names another base")
    path = Path(done.stdout.splitlines()[-1])
    return Base(path.name, path)


def step_gemms(step: Mapping) -> list[Gemm]:
    """The linear layers' products, from what bench_latents says of its step."""
    base, found = step["base"], []
    d, layers = base["width"], base["layers"]
    query, key = base["heads"] * base["head_dim"], base["kv_heads"] * base["head_dim"]
    keys = [(d, key, 2)]
    others = [(d, query, 1), (query, d, 1), (d, base["hidden"], 2), (base["hidden"], d, 1)]

    def add(name: str, layout: str, m: int, n: int, k: int, count: int) -> None:
        found.append(Gemm(name, (f"{layout}:{m}x{n}x{k}",), count, 2e-9 * m * n * k))

    def pass_over(name: str, rows: int, sizes: list[tuple[int, int, int]], *, grad_input: bool, grad_weight: bool) -> None:
        for inputs, outputs, count in sizes:  # weights lie [outputs, inputs]
            add(f"{name} forward", "nt", rows, outputs, inputs, count)
            if grad_input:
                add(f"{name} grad input", "nn", rows, inputs, outputs, count)
            if grad_weight:
                add(f"{name} grad weight", "tn", outputs, inputs, rows, count)

    def times(count: int, sizes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        return [(i, o, each * count) for i, o, each in sizes if count > 0]

    all_layers = times(layers, keys + others)
    pass_over("text", step["texts"] * step["length"], all_layers, grad_input=False, grad_weight=False)
    pass_over("base", step["base_rows"]["rows"], times(layers, keys) + times(layers - 1, others), grad_input=True, grad_weight=False)
    pass_over("base, last block", step["wanted_rows"]["rows"], others, grad_input=True, grad_weight=False)
    pass_over("coprocessor", step["coprocessor_rows"]["rows"], all_layers, grad_input=True, grad_weight=True)
    pass_over("head", step["texts"] * step["groups"] * step["ahead"], [(d, base["vocabulary"], 1)], grad_input=True, grad_weight=False)
    return found


def attention_gflop(step: Mapping) -> float:
    base, length = step["base"], step["length"]
    product = 2e-9 * base["heads"] * base["head_dim"]  # of one pair in one layer
    pairs = base["layers"] * 2 * step["texts"] * length * (length + 1) / 2
    for layers, rows in ((base["layers"] - 1, step["base_rows"]), (1, step["wanted_rows"]), (base["layers"], step["coprocessor_rows"])):
        pairs += layers * (4 * rows["context_pairs"] + 6 * rows["own_pairs"])
    return product * pairs


def bound(step: Mapping, ms: Mapping[str, float]) -> dict[str, float]:
    """From the time of each product."""
    gemms = step_gemms(step)
    linear_ms = sum(g.count * ms[g.choices[0]] for g in gemms)
    linear_gflop = sum(g.count * g.gflop for g in gemms)
    rate = linear_gflop / linear_ms  # GFLOP a millisecond
    attention = attention_gflop(step)
    return {"bound_ms": linear_ms + attention / rate, "linear_ms": linear_ms, "gflop": linear_gflop + attention,
            "attention_gflop": attention, "gflops": 1e3 * rate}


def measure(benchmarks: Benchmarks, neighbours: Neighbours, rounds: int, bases: Sequence[Base], say: Callable[[str], None]) -> list[dict]:
    """Step and products of each base in turn, `rounds` times."""
    found: list[list[dict]] = [[] for _ in bases]
    for number in range(rounds):
        for base, before in zip(bases, found):
            neighbours.start()
            step = benchmarks.latents(base.path, STEP_SECONDS)
            products = benchmarks.products("f32", list(dict.fromkeys(g.choices[0] for g in step_gemms(step))), PRODUCT_SECONDS)
            step |= bound(step, {g["gemm"]: g["ms"] for g in products["gemms"]})
            step["others_cpu_share"] = neighbours.stop()
            before.append(step)
            say(f"latents, round {number + 1} of {rounds}, {base.name}: a packed step {step['packed_ms']:.0f} ms, by separate forwards "
                f"{step['separate_ms']:.0f} ms, products alone {step['bound_ms']:.0f} ms; others used {100 * step['others_cpu_share']:.1f} % of the CPU")
    return [merged(base, each) for base, each in zip(bases, found)]


def merged(base: Base, rounds: list[dict]) -> dict:
    row = dict(rounds[0])
    for key in ("packed_ms", "forward_ms", "backward_ms", "update_ms", "separate_ms", "bound_ms", "linear_ms", "gflops"):
        row[key] = median(r[key] for r in rounds)
    row["speedup"] = median(r["separate_ms"] / r["packed_ms"] for r in rounds)
    row["over_bound"] = median(r["packed_ms"] / r["bound_ms"] for r in rounds)
    return row | {"base_name": base.name, "rounds": rounds}
