"""PyTorch's settings on the CPU, and its modes."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from benchmarking.pytorch import Worker

from .shapes import Work

MODES = ("eager", "compiled")
WORKER = Path(__file__).with_name("pytorch_worker.py")
# malloc keeps what it has got, on huge pages: without this, page faults alone cost a large step
# more than half its time. The large numbers mean "never give back" and "never map apart".
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# Intel's OpenMP, where a build of PyTorch has it, spins for 200 ms after a step; GNU's stops by
# itself after about a millisecond, long before somebody else is measured.
THREADING = {"KMP_BLOCKTIME": "1"}


def worker_environment(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        **ALLOCATOR,
        **THREADING,
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no compiler processes that stay
    }


def start_worker(python: Path, mode: str, work: Work, text: Path, threads: int, log: Path, *, imm: bool = False) -> Worker:
    """`imm`: with the published Implicit Memory Module."""
    start = {"work": asdict(work), "mode": mode, "text": str(text), "threads": threads, "imm": imm}
    return Worker(python, WORKER, start, worker_environment(threads), log)
