"""The C++ benchmarks of tests/benchmarks that measure the CPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from benchmarking.programs import ProgramError, environment, run

from .shapes import Work, products_to_time, step_bound


class Benchmarks:
    """The programs of tests/benchmarks, in the build's folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.library = ""

    def program(self, name: str) -> str:
        file = self.folder / name
        if not file.is_file():
            raise ProgramError(f"{file} is not there; build it with: cmake --build --preset release --target {name}\n"
                               "(bench_step_gemms needs oneDNN; REVERIE_BENCHMARKS must be ON; --benchmarks DIR names another folder)")
        return str(file)

    def products(self, precision: str, what: list[str], seconds: float) -> dict:
        out = json.loads(run([self.program("bench_step_gemms"), "--precision", precision, "--seconds", str(seconds), *what], self.threads))
        self.library = out["library"]
        return out

    def bound(self, work: Work, precision: str, seconds: float) -> dict:
        """step_bound() of one pass over all products of a step, with the way that was best for each."""
        out = self.products(precision, products_to_time(work), seconds)
        bound = step_bound(work, {g["gemm"]: g["ms"] for g in out["gemms"]})
        return {"ms": bound["bound_ms"], **bound, "products": {g["gemm"]: [g["ms"], g["way"]] for g in out["gemms"]}}

    def triad(self, seconds: float) -> float:
        """Memory bandwidth in GB/s, over arrays that no cache holds."""
        return self.products("f32", [f"triad:{768 << 20}"], seconds)["triad"]["gb_per_second"]

    def read_bandwidth(self, seconds: float) -> float:
        """GB/s at which memory is read."""
        return json.loads(run([self.program("bench_memory"), "--seconds", str(seconds)], self.threads))["read_gb_per_second"]

    def latents(self, base: Path, seconds: float) -> dict:
        """bench_latents of its own standard step."""
        return json.loads(run([self.program("bench_latents"), str(base), "--seconds", str(seconds)], self.threads))

    def attention(self, context: int, heads: int, head_size: int, tokens: int, seconds: float) -> dict:
        """bench_attention of one context, in a process of its own so that its peak is its own."""
        command = [self.program("bench_attention"), "--tokens", str(tokens), "--heads", str(heads),
                   "--head-size", str(head_size), "--seconds", str(seconds), str(context)]
        process = subprocess.Popen(command, env=environment(self.threads), stdout=subprocess.PIPE, text=True)
        out = process.stdout.read()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise ProgramError(f"{' '.join(command)} ended with status {process.returncode}")
        answer = json.loads(out)
        return answer["contexts"][0] | {"max_rss_bytes": usage.ru_maxrss * 1024, "isa": answer["isa"]}
