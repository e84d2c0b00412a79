"""The two smaller measurements: how a step grows, and what attention costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarking.machine import Neighbours
from benchmarking.programs import Reverie
from benchmarking.tables import median

from .benchmarks import Benchmarks
from .shapes import SMALL, Work, least_bytes, least_memory, step_gflop

SWEEPS = {
    "batch": (3, 12, 48, 192),
    "context": (64, 128, 256, 512),
    "width": (64, 128, 256, 512),
    "layers": (2, 4, 8, 16),
}
HEAD_SIZE = 32  # of SMALL; a wider model has more heads
PRODUCT_SECONDS = 0.03
WARMUP, STEPS = 3, 8

ATTENTION = {"heads": 6, "head_size": 64, "tokens": 4096}
CONTEXTS = (64, 256, 1024, 4096)


def growth_works(base: Work = SMALL) -> list[tuple[str, int, Work]]:
    """(axis, value, work): `base` with one number changed."""
    works = []
    for axis, values in SWEEPS.items():
        for value in values:
            changed = {axis: value} | ({"heads": value // HEAD_SIZE} if axis == "width" else {})
            works.append((axis, value, replace(base, name=f"{axis}-{value}", **changed)))
    return works


def measure_growth(reverie: Reverie, benchmarks: Benchmarks, neighbours: Neighbours, rounds: int, vocabulary: int,
                   say: Callable[[str], None]) -> dict:
    """The works in turn, `rounds` times; a work that stands on several axes is measured once."""
    points = growth_works(replace(SMALL, vocabulary=vocabulary))
    unique = list({replace(work, name=""): work for _, _, work in points}.values())
    bandwidth, found = [], {replace(work, name=""): [] for work in unique}
    for number in range(rounds):
        neighbours.start()
        bandwidth.append(benchmarks.triad(0.3))
        for work in unique:
            run = reverie.train(work, "f32", WARMUP, STEPS)
            bound = benchmarks.bound(work, "f32", PRODUCT_SECONDS)
            found[replace(work, name="")].append({**run, "flop_bound_ms": bound["bound_ms"]})
        say(f"growth, round {number + 1} of {rounds}: {len(unique)} shapes, others used {100 * neighbours.stop():.1f} % of the CPU")
    gb_per_second = median(bandwidth)
    rows = []
    for axis, value, work in points:
        runs = found[replace(work, name="")]
        ms = median(r["ms"] for r in runs)
        rows.append({
            "axis": axis,
            "value": value,
            "parameters": work.parameters,
            "tokens": work.tokens,
            "ms": ms,
            "flop_bound_ms": median(r["flop_bound_ms"] for r in runs),
            "byte_bound_ms": 1e-6 * least_bytes(work) / gb_per_second,
            "gflop": step_gflop(work),
            "gflops": 1e3 * step_gflop(work) / ms,
            "least_bytes": least_bytes(work),
            "least_memory_bytes": least_memory(work),
            "planned_peak_bytes": reverie.plan(work)["peak_bytes"],
            "max_rss_bytes": max(r["max_rss_bytes"] for r in runs),
            "rounds": [r["ms"] for r in runs],
        })
    return {"gb_per_second": gb_per_second, "points": rows}


def measure_attention(benchmarks: Benchmarks, neighbours: Neighbours, rounds: int, say: Callable[[str], None]) -> dict:
    """Each context in turn beside a matrix product of the same tokens, `rounds` times."""
    width = ATTENTION["heads"] * ATTENTION["head_size"]
    product = f"nn:{ATTENTION['tokens']}x{3 * width}x{width}"
    rates, found = [], {context: [] for context in CONTEXTS}
    for number in range(rounds):
        neighbours.start()
        rates.append(benchmarks.products("f32", [product], 0.2)["gemms"][0]["gflops"])
        for context in CONTEXTS:
            found[context].append(benchmarks.attention(context, seconds=0.3, **ATTENTION))
        say(f"attention, round {number + 1} of {rounds}: others used {100 * neighbours.stop():.1f} % of the CPU")
    rate = median(rates)
    rows = []
    for runs in found.values():
        merged = dict(runs[0])
        for key in ("forward_ms", "backward_ms", "us_per_token", "gflops", "gflops_forward", "gflops_backward", "max_rss_bytes"):
            merged[key] = median(r[key] for r in runs)
        rows.append(merged | {"share_of_gemm_rate": merged["gflops"] / rate, "rounds": [r["us_per_token"] for r in runs]})
    return {**ATTENTION, "gemm": product, "gemm_gflops": rate, "contexts": rows}
