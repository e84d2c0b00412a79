"""Weights that stay in memory as their file has them, beside the same program (or an earlier one) that widens them.

Times are CPU seconds of whole processes in user mode, and differences between two of them: of a long
and a short text that is written, of many and few windows that are read. So neither loading (whose
time in the kernel varies most) nor what else the machine does counts.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import ProgramError, environment, run
from benchmarking.rounds import turned
from benchmarking.tables import median

TOKENS = (1, 129)  # written behind the prompt
WINDOW, WINDOWS = 511, (3, 5)  # tokens of one; how many are read
PROMPT = "The history of the city begins"


@dataclass(frozen=True)
class Contender:
    name: str  # "before", "after"
    program: Path
    weights: str  # REVERIE_WEIGHTS; empty: as the program does by itself

    def environment(self, threads: int) -> dict[str, str]:
        kept = {k: v for k, v in environment(threads).items() if k != "REVERIE_WEIGHTS"}
        return kept | ({"REVERIE_WEIGHTS": self.weights} if self.weights else {})


@dataclass(frozen=True)
class Cost:
    cpu_seconds: float
    max_rss_bytes: int


def contenders(program: Path, before: Path | None) -> list[Contender]:
    """`before`: an earlier program; without it this one widens."""
    earlier = Contender("before", before, "") if before else Contender("before", program, "f32")
    return [earlier, Contender("after", program, "")]


def commit_of(program: Path, threads: int) -> str:
    found = re.search(r"\(([^)]*)\)", run([str(program), "--version"], threads))
    return f"commit `{found.group(1)}`" if found else "a program of an unknown commit"


def cost_of(command: list[str], contender: Contender, threads: int) -> Cost:
    with subprocess.Popen(command, env=contender.environment(threads), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        complaint = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ProgramError(f"{' '.join(command)}\nended with status {process.returncode}:\n{complaint.decode(errors='replace')[-2000:]}")
    return Cost(usage.ru_utime, usage.ru_maxrss * 1024)


def sample_command(program: Path, model: Path, tokens: int) -> list[str]:
    return [str(program), "sample", str(model), "--prompt", PROMPT, "--greedy", "--past-end", "--max-tokens", str(tokens)]


def eval_command(program: Path, model: Path, text: Path, windows: int, out: Path) -> list[str]:
    return [str(program), "eval", str(model), "--text", str(text), "--window", str(WINDOW), "--max-windows", str(windows), "--json", str(out)]


def measure_once(contender: Contender, model: Path, text: Path, threads: int, scratch: Path) -> dict:
    few, many = (cost_of(sample_command(contender.program, model, n), contender, threads) for n in TOKENS)
    out = scratch / "eval.json"
    short, long = (cost_of(eval_command(contender.program, model, text, n, out), contender, threads) for n in WINDOWS)
    return {
        "tokens_per_cpu_second": (TOKENS[1] - TOKENS[0]) / (many.cpu_seconds - few.cpu_seconds),
        "window_cpu_seconds": (long.cpu_seconds - short.cpu_seconds) / (WINDOWS[1] - WINDOWS[0]),
        "eval_max_rss_bytes": long.max_rss_bytes,
        "sample_max_rss_bytes": many.max_rss_bytes,
        "sample_cpu_seconds": many.cpu_seconds,
        "perplexity": json.loads(out.read_text())["perplexity"],
    }


QUANTITIES = ("tokens_per_cpu_second", "window_cpu_seconds", "eval_max_rss_bytes", "sample_max_rss_bytes", "sample_cpu_seconds", "perplexity")


def row(model: str, rounds: dict[str, list[dict]]) -> dict:
    """Medians of each contender, and of the quotients after / before within a round."""
    found = {name: {q: median(r[q] for r in each) for q in QUANTITIES} for name, each in rounds.items()}
    ratios = {q: median(a[q] / b[q] for a, b in zip(rounds["after"], rounds["before"])) for q in QUANTITIES}
    return {"model": model, **found, "ratio": ratios, "rounds": rounds}


def measure(program: Path, before: Path | None, models: list[Path], text: Path, threads: int, neighbours: Neighbours, rounds: int, scratch: Path,
            say: Callable[[str], None]) -> dict:
    both = contenders(program, before)
    found: dict[Path, dict[str, list[dict]]] = {m: {c.name: [] for c in both} for m in models}
    for model in models:  # files are in memory
        cost_of(sample_command(program, model, 1), both[1], threads)
    for number in range(rounds):
        for model in models:
            begin = time.monotonic()
            neighbours.start()
            for contender in turned(both, number):
                found[model][contender.name].append(measure_once(contender, model, text, threads, scratch))
            share = neighbours.stop()
            last = {name: each[-1] for name, each in found[model].items()}
            say(f"stored, {model.name}, round {number + 1} of {rounds} ({time.monotonic() - begin:.0f} s, others {100 * share:.0f} % of the CPU): "
                + "; ".join(f"{name} {x['tokens_per_cpu_second']:.1f} tokens a CPU second, a window {x['window_cpu_seconds']:.2f} s, eval {x['eval_max_rss_bytes'] / 1e9:.2f} GB"
                            for name, x in last.items()))
    return {"before": commit_of(before, threads) if before else "this program with REVERIE_WEIGHTS=f32", "window": WINDOW, "text": text.name,
            "rows": [row(model.name, each) for model, each in found.items()]}
