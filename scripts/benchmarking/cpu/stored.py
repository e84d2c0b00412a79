"""Weights that stay in memory as their file has them, beside the same program (or an earlier one) that widens them, and beside llama.cpp.

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
LLAMA_CPP = "llama.cpp"
LLAMA_CPP_WORKER = Path(__file__).parent / "llama_cpp_worker.py"


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


def llama_cpp_contender(python: Path) -> Contender:
    """llama.cpp by its Python package; ProgramError where that Python has none."""
    run([str(python), "-c", "import llama_cpp"], 1)
    return Contender(LLAMA_CPP, python, "")


def llama_cpp_commands(python: Path, model: Path, text: Path, threads: int) -> tuple[list[list[str]], list[list[str]]]:
    """Those that write TOKENS, and those that read WINDOWS."""
    worker = [str(python), str(LLAMA_CPP_WORKER), str(model), "--threads", str(threads)]
    return ([[*worker, "--write", str(n), "--prompt", PROMPT] for n in TOKENS],
            [[*worker, "--read", str(n), "--window", str(WINDOW), "--text", str(text)] for n in WINDOWS])


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
    out = scratch / "eval.json"
    if contender.name == LLAMA_CPP:
        writing, reading = llama_cpp_commands(contender.program, model, text, threads)
    else:
        writing = [sample_command(contender.program, model, n) for n in TOKENS]
        reading = [eval_command(contender.program, model, text, n, out) for n in WINDOWS]
    few, many = (cost_of(command, contender, threads) for command in writing)
    short, long = (cost_of(command, contender, threads) for command in reading)
    costs = {
        "tokens_per_cpu_second": (TOKENS[1] - TOKENS[0]) / (many.cpu_seconds - few.cpu_seconds),
        "window_cpu_seconds": (long.cpu_seconds - short.cpu_seconds) / (WINDOWS[1] - WINDOWS[0]),
        "eval_max_rss_bytes": long.max_rss_bytes,
        "sample_max_rss_bytes": many.max_rss_bytes,
        "sample_cpu_seconds": many.cpu_seconds,
    }
    return costs if contender.name == LLAMA_CPP else costs | {"perplexity": json.loads(out.read_text())["perplexity"]}


COSTS = ("tokens_per_cpu_second", "window_cpu_seconds", "eval_max_rss_bytes", "sample_max_rss_bytes", "sample_cpu_seconds")
QUANTITIES = (*COSTS, "perplexity")


def medians(rounds: list[dict]) -> dict:
    return {q: median(r[q] for r in rounds) for q in rounds[0]}


def quotients(above: list[dict], below: list[dict], quantities: tuple[str, ...]) -> dict:
    """Medians of the quotients within a round."""
    return {q: median(a[q] / b[q] for a, b in zip(above, below)) for q in quantities}


def row(model: str, rounds: dict[str, list[dict]]) -> dict:
    """Medians of each contender, and of the quotients after / before and after / llama.cpp within a round."""
    found = {name: medians(each) for name, each in rounds.items()}
    ratios = {"ratio": quotients(rounds["after"], rounds["before"], QUANTITIES)}
    if LLAMA_CPP in rounds:
        ratios["ratio_llama_cpp"] = quotients(rounds["after"], rounds[LLAMA_CPP], COSTS)
    return {"model": model, **found, **ratios, "rounds": rounds}


def measure(program: Path, before: Path | None, llama_cpp: Path | None, models: list[Path], text: Path, threads: int, neighbours: Neighbours, rounds: int,
            scratch: Path, say: Callable[[str], None]) -> dict:
    both = contenders(program, before)
    all_of_them = [*both, *([llama_cpp_contender(llama_cpp)] if llama_cpp else [])]
    found: dict[Path, dict[str, list[dict]]] = {m: {c.name: [] for c in all_of_them} for m in models}
    for model in models:  # files are in memory
        cost_of(sample_command(program, model, 1), both[1], threads)
    about = json.loads(run(llama_cpp_commands(llama_cpp, models[0], text, threads)[0][0], threads)) if llama_cpp else None
    for number in range(rounds):
        for model in models:
            begin = time.monotonic()
            neighbours.start()
            for contender in turned(all_of_them, number):
                found[model][contender.name].append(measure_once(contender, model, text, threads, scratch))
            share = neighbours.stop()
            last = {name: each[-1] for name, each in found[model].items()}
            say(f"stored, {model.name}, round {number + 1} of {rounds} ({time.monotonic() - begin:.0f} s, others {100 * share:.0f} % of the CPU): "
                + "; ".join(f"{name} {x['tokens_per_cpu_second']:.1f} tokens a CPU second, a window {x['window_cpu_seconds']:.2f} s, eval {x['eval_max_rss_bytes'] / 1e9:.2f} GB"
                            for name, x in last.items()))
    return {"before": commit_of(before, threads) if before else "this program with REVERIE_WEIGHTS=f32", "llama_cpp": about, "window": WINDOW, "text": text.name,
            "rows": [row(model.name, each) for model, each in found.items()]}
