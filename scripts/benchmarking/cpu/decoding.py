"""Decoding: `reverie sample` with its KV cache beside the speed at which memory is read.

Every token of a text needs every weight once, so that one text cannot be written faster than the
weights are read; texts that are written side by side share that reading.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import Reverie
from benchmarking.tables import median

from . import random_gpt2
from .benchmarks import Benchmarks

BATCHES = (1, 2, 4, 8)
TOKENS = 97  # of a text; the first comes with the prompt and does not count
READ_SECONDS = 0.2


def row(batch: int, weight_bytes: int, rounds: list[dict]) -> dict:
    """From rounds {"tokens_per_second", "read_gb_per_second"}: the memory's speed of just before and after."""
    for r in rounds:
        r["weights_gb_per_second"] = 1e-9 * weight_bytes * r["tokens_per_second"] / batch
    return {
        "batch": batch,
        "tokens_per_second": median(r["tokens_per_second"] for r in rounds),
        "step_ms": median(1e3 * batch / r["tokens_per_second"] for r in rounds),
        "weights_gb_per_second": median(r["weights_gb_per_second"] for r in rounds),
        "read_gb_per_second": median(r["read_gb_per_second"] for r in rounds),
        "share_of_bandwidth": median(r["weights_gb_per_second"] / r["read_gb_per_second"] for r in rounds),
        "rounds": rounds,
    }


def measure(reverie: Reverie, benchmarks: Benchmarks, neighbours: Neighbours, rounds: int, scratch: Path, say: Callable[[str], None]) -> dict:
    """All batches in turn, `rounds` times; memory is measured before and after each."""
    shape = random_gpt2.Shape()
    model = scratch / "gpt2"
    random_gpt2.write(model, shape)
    found: dict[int, list[dict]] = {batch: [] for batch in BATCHES}
    reverie.sample(model, 1, 2)  # its files are in memory
    for number in range(rounds):
        before = benchmarks.read_bandwidth(READ_SECONDS)
        for batch in BATCHES:
            neighbours.start()
            run = reverie.sample(model, batch, TOKENS)
            after = benchmarks.read_bandwidth(READ_SECONDS)
            found[batch].append({
                "tokens_per_second": run["tokens_per_second"],
                "first_token_seconds": run["first_token_seconds"],
                "read_gb_per_second": (before + after) / 2,
                "others_cpu_share": neighbours.stop(),
            })
            before = after
        last = ", ".join(f"{b}: {r[-1]['tokens_per_second']:.0f} tokens/s (memory {r[-1]['read_gb_per_second']:.0f} GB/s)" for b, r in found.items())
        say(f"decode, round {number + 1} of {rounds}: {last}")
    rows = [row(batch, shape.bytes_a_token, found[batch]) for batch in BATCHES]
    return {"layers": shape.layers, "heads": shape.heads, "width": shape.width, "vocabulary": shape.vocabulary, "precision": "f32",
            "weight_bytes": shape.bytes_a_token, "tokens": TOKENS, "rows": rows}
