"""A coprocessor's training step with packed groups, beside separate forwards and beside its products alone.

What a step needs at the least: the text's rows forward; the rows of the base's groups forward and
the gradients of their inputs (its weights are frozen); the coprocessor's rows forward, and the
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
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import ROOT, ProgramError
from benchmarking.tables import median

from .benchmarks import Benchmarks
from .shapes import Gemm

PRODUCT_SECONDS = 0.03
STEP_SECONDS = 3


def find_base(given: Path | None) -> Path:
    if given:
        return given.resolve()
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch.py"), "stories260k"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError("scripts/fetch.py found no stories260K (its reasons are above); --base MODEL names another base")
    return Path(done.stdout.splitlines()[-1])


def step_gemms(step: Mapping) -> list[Gemm]:
    """The linear layers' products, from what bench_latents says of its step."""
    base, found = step["base"], []
    d, layers = base["width"], base["layers"]
    query, key = base["heads"] * base["head_dim"], base["kv_heads"] * base["head_dim"]
    linear = [(d, query, 1), (d, key, 2), (query, d, 1), (d, base["hidden"], 2), (base["hidden"], d, 1)]

    def add(name: str, layout: str, m: int, n: int, k: int, count: int) -> None:
        found.append(Gemm(name, (f"{layout}:{m}x{n}x{k}",), count, 2e-9 * m * n * k))

    def pass_over(name: str, rows: int, sizes: list[tuple[int, int, int]], *, grad_input: bool, grad_weight: bool) -> None:
        for inputs, outputs, count in sizes:  # weights lie [outputs, inputs]
            add(f"{name} forward", "nt", rows, outputs, inputs, count)
            if grad_input:
                add(f"{name} grad input", "nn", rows, inputs, outputs, count)
            if grad_weight:
                add(f"{name} grad weight", "tn", outputs, inputs, rows, count)

    all_layers = [(i, o, count * layers) for i, o, count in linear]
    pass_over("text", step["texts"] * step["length"], all_layers, grad_input=False, grad_weight=False)
    pass_over("base", step["base_rows"]["rows"], all_layers, grad_input=True, grad_weight=False)
    pass_over("coprocessor", step["coprocessor_rows"]["rows"], all_layers, grad_input=True, grad_weight=True)
    pass_over("head", step["texts"] * step["groups"] * step["ahead"], [(d, base["vocabulary"], 1)], grad_input=True, grad_weight=False)
    return found


def attention_gflop(step: Mapping) -> float:
    base, length = step["base"], step["length"]
    product = 2e-9 * base["layers"] * base["heads"] * base["head_dim"]  # of one pair, all layers
    pairs = 2 * step["texts"] * length * (length + 1) / 2
    for rows in (step["base_rows"], step["coprocessor_rows"]):
        pairs += 4 * rows["context_pairs"] + 6 * rows["own_pairs"]
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


def measure(benchmarks: Benchmarks, neighbours: Neighbours, rounds: int, base: Path, say: Callable[[str], None]) -> dict:
    """Step and products in turn, `rounds` times."""
    found = []
    for number in range(rounds):
        neighbours.start()
        step = benchmarks.latents(base, STEP_SECONDS)
        products = benchmarks.products("f32", list(dict.fromkeys(g.choices[0] for g in step_gemms(step))), PRODUCT_SECONDS)
        step |= bound(step, {g["gemm"]: g["ms"] for g in products["gemms"]})
        step["others_cpu_share"] = neighbours.stop()
        found.append(step)
        say(f"latents, round {number + 1} of {rounds}: a packed step {step['packed_ms']:.0f} ms, by separate forwards {step['separate_ms']:.0f} ms, "
            f"products alone {step['bound_ms']:.0f} ms; others used {100 * step['others_cpu_share']:.1f} % of the CPU")
    merged = dict(found[0])
    for key in ("packed_ms", "forward_ms", "backward_ms", "update_ms", "separate_ms", "bound_ms", "linear_ms", "gflops"):
        merged[key] = median(r[key] for r in found)
    merged["speedup"] = median(r["separate_ms"] / r["packed_ms"] for r in found)
    merged["over_bound"] = median(r["packed_ms"] / r["bound_ms"] for r in found)
    return merged | {"base_name": base.name, "rounds": found}
