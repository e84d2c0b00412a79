"""What a training step of a GPT computes at the least: its matrix products, operations and bytes.

The bound of a step ("bound_ms") is the time of its matrix products alone:
- every product of the weights with activations, forward and backward (three a linear layer, and
  three of the head), at its own shape, layout and count, each timed alone in every way that
  oneDNN has (bench_step_gemms) and the fastest taken; the head's also with its vocabulary padded
  to a multiple of 16 or 64 (65 columns fill vector registers badly);
- attention's products (Q K^T and P V forward, four backward), 12 T d operations a token and
  layer, at the mean rate of the products above. They cannot be timed as matrix products of their
  own: at heads of 32 or 64 columns those run far below what a fused kernel reaches.
Attention counts whole T x T squares, as the usual estimate 6 N + 12 L T d a token does. A causal
kernel may skip half of that: "bound_causal_ms" counts T + 1 keys for every two queries instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarking.works import BABY, SMALL, WORKS, Work  # noqa: F401

PADDINGS = (16, 64)


@dataclass(frozen=True)
class Gemm:
    """One matrix product of a step, done `count` times; `choices` do the same work."""

    name: str
    choices: tuple[str, ...]  # as bench_step_gemms reads them: "nn:768x384x128"
    count: int
    gflop: float  # of one


def padded(size: int) -> list[int]:
    """`size`, then what it is padded to, without repetitions."""
    return list(dict.fromkeys([size, *(math.ceil(size / p) * p for p in PADDINGS)]))


def step_gemms(work: Work) -> list[Gemm]:
    """Forward Y = X W, backward dX = dY W^T and dW = X^T dY, with W [inputs, outputs]."""
    d, n, v = work.width, work.tokens, work.vocabulary
    found = []

    def add(name: str, count: int, sizes: list[tuple[str, int, int, int]]) -> None:
        layout, m, columns, inner = sizes[0]
        choices = tuple(f"{layout}:{m}x{c}x{k}" for layout, m, c, k in sizes)
        found.append(Gemm(name, choices, count, 2e-9 * m * columns * inner))

    layers = (("qkv", d, 3 * d), ("attention_out", d, d), ("up", d, 4 * d), ("down", 4 * d, d))
    for name, inputs, outputs in layers:
        add(f"{name} forward", work.layers, [("nn", n, outputs, inputs)])
        add(f"{name} grad input", work.layers, [("nt", n, inputs, outputs)])
        add(f"{name} grad weight", work.layers, [("tn", inputs, outputs, n)])
    # The embedding E [vocabulary, d] is the head: logits = X E^T.
    add("head forward", 1, [("nt", n, p, d) for p in padded(v)])
    add("head grad input", 1, [("nn", n, d, p) for p in padded(v)])
    add("head grad weight", 1, [("tn", p, d, n) for p in padded(v)])
    return found


def products_to_time(work: Work) -> list[str]:
    return list(dict.fromkeys(c for gemm in step_gemms(work) for c in gemm.choices))


def attention_gflop(work: Work, *, causal: bool) -> float:
    """Forward and backward of all layers."""
    keys = (work.context + 1) / 2 if causal else work.context
    return 12e-9 * work.layers * work.tokens * keys * work.width


def step_gflop(work: Work) -> float:
    """As the bound counts: whole squares of attention."""
    return sum(g.count * g.gflop for g in step_gemms(work)) + attention_gflop(work, causal=False)


def step_bound(work: Work, ms: Mapping[str, float]) -> dict[str, float]:
    """The bound from the time of each product in `products_to_time`."""
    linear_ms = sum(g.count * min(ms[c] for c in g.choices) for g in step_gemms(work))
    rate = sum(g.count * g.gflop for g in step_gemms(work)) / linear_ms  # GFLOP a millisecond
    return {
        "bound_ms": linear_ms + attention_gflop(work, causal=False) / rate,
        "bound_causal_ms": linear_ms + attention_gflop(work, causal=True) / rate,
        "linear_ms": linear_ms,
        "gflops": 1e3 * rate,
    }


def least_bytes(work: Work) -> int:
    """What an f32 step must move when no cache holds it from one use to the next.

    Weights: read forward, read and their gradient written backward, then AdamW reads weight,
    gradient and both moments and writes three of them: 10 passes. Activations that backward cannot
    cheaply make again are written and read once: the inputs of both norms, q, k, v, attention's
    output and the MLP's hidden layer before its activation, 10 d a token and layer.
    """
    activations = 10 * work.width * work.layers * work.tokens
    return 4 * (10 * work.parameters + 2 * activations)


def least_memory(work: Work) -> int:
    """Bytes that an f32 step must hold: weights, gradients, two moments, and those activations."""
    return 4 * (4 * work.parameters + 10 * work.width * work.layers * work.tokens)
