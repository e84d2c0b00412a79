"""Single kernels and the ceilings that they are held against: bench_kernels of tests/benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarking.programs import ProgramError, run
from benchmarking.tables import median

PARTS = {"memory": ("kernel", "case"), "products": ("product", "precision"), "attention": ("pass", "context", "head_size", "precision")}
RATES = {"memory": "gb_per_second", "products": "tflops", "attention": "tflops"}


class Kernels:
    def __init__(self, folder: Path, device: str, tiny: bool, threads: int, preset: str) -> None:
        self.program = folder / "bench_kernels"
        if not self.program.is_file():
            raise ProgramError(f"{self.program} is not there; build it with: cmake --build --preset {preset} --target bench_kernels\n"
                               "(REVERIE_BENCHMARKS must be ON; --benchmarks DIR names another folder)")
        self.arguments = ["--device", device, *(["--tiny"] if tiny else [])]
        self.seconds, self.threads = (0.001 if tiny else 0.1), threads

    def measure(self) -> dict:
        """One round: ceilings and kernels, in one process."""
        return json.loads(run([str(self.program), *self.arguments, "--seconds", str(self.seconds)], self.threads))


def merged(rounds: list[dict]) -> dict:
    """Medians over the rounds, and of each kernel the share of its ceiling of the same round."""
    ceilings = {name: median(r["ceilings"][name] for r in rounds) for name in rounds[0]["ceilings"]}  # every round has the same
    result = {"ceilings": ceilings, "ceiling_rounds": [r["ceilings"] for r in rounds]}
    for part, keys in PARTS.items():
        rate = RATES[part]
        rows = []
        for number, first in enumerate(rounds[0][part]):
            same = [r[part][number] for r in rounds]
            if any(row[key] != first[key] for row in same for key in keys):
                raise ValueError(f"the rounds of bench_kernels measured different things: {first} and others")
            shares = [row[rate] / ceiling_of(row, r["ceilings"]) for row, r in zip(same, rounds)]
            rows.append(first | {"ms": median(row["ms"] for row in same), rate: median(row[rate] for row in same), "share": median(shares), "shares": shares})
        result[part] = rows
    return result


def gemm_rate(ceilings: dict, precision: str) -> float:
    """Of a large product: Reverie's by cublasLt, or PyTorch's where that was measured and is faster."""
    return max(ceilings[f"gemm_{precision}_tflops"], ceilings.get(f"pytorch_gemm_{precision}_tflops", 0.0))


def ceiling_of(row: dict, ceilings: dict) -> float:
    return ceilings["copy_gb_per_second"] if "kernel" in row else gemm_rate(ceilings, row["precision"])


def lowest(rows: Iterable[dict]) -> dict | None:
    """The row that is furthest from its ceiling."""
    return min(rows, key=lambda row: row["share"], default=None)
