"""CPU seconds of a start, an evaluation and an end of `reverie train`, beside another build of Reverie."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import ROOT, ProgramError, environment
from benchmarking.rounds import turned
from benchmarking.tables import median

STEPS = 2
FIGURES = ("start", "first_step", "evaluation", "end")
TICKS = os.sysconf("SC_CLK_TCK")
BASE = {
    "seed": 1,
    "optimizer": {"warmup_steps": 1},
    "train": {"steps": STEPS},
    "sample": {"interval": 0, "tokens": 0},
    "checkpoint": {"interval": 0, "keep": 1},
}
SMALL = {"type": "gpt2", "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "bias": False}
BABY = {"type": "gpt2", "block_size": 256, "n_layer": 6, "n_head": 6, "n_embd": 384, "bias": False}


def fetched(name: str, pattern: str) -> Path:
    """A file that scripts/fetch.py brings."""
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch.py"), name], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError(f"scripts/fetch.py found no {name} (its reasons are above)")
    found = Path(done.stdout.splitlines()[-1])
    files = [found] if found.is_file() else sorted(found.rglob(pattern))
    if not files:
        raise ProgramError(f"{found} holds no {pattern}")
    return files[0]


def experiments(shakespeare: Path) -> dict[str, dict]:
    """The models: nanoGPT's CPU recipe, its shakespeare_char, and a coprocessor beside SmolLM2 (the sizes of the
    preset `smollm2` of configs/tables/cache_augmentation.json), which reads Shakespeare, plain and rematerialised."""
    text = {"data": {"path": str(shakespeare), "tokenizer": "char"}}
    few = {"windows": 64, "interval": 1, "prefix_only_windows": 1, "final_windows": 64, "final_prefix_only_windows": 1}
    found = {
        "small": BASE | text | {"model": SMALL, "train": {"steps": STEPS, "batch_size": 12}, "evaluation": few},
        "baby": BASE | text | {"model": BABY, "train": {"steps": STEPS, "batch_size": 64}, "evaluation": few},
    }
    base = fetched("smollm2", "*.gguf")
    latents = {"type": "coprocessor", "count": 16, "initial": "base"}
    found["smollm2"] = BASE | {
        "precision": "bf16",
        "data": {"path": str(shakespeare), "tokenizer": "pretrained", "tokenizer_files": str(base)},
        "model": {"type": "augmented", "base": str(base), "latents": latents, "block_size": 256, "groups": 16, "ahead": 16},
        "train": {"steps": STEPS, "batch_size": 1},
        "evaluation": {"windows": 8, "interval": 1, "prefix_only_windows": 1, "final_windows": 8, "final_prefix_only_windows": 1},
    }
    found["smollm2_rematerialized"] = found["smollm2"] | {"model": found["smollm2"]["model"] | {"rematerialize": True}}
    return found


def as_before(config: dict) -> dict:
    """What the build before can do: without rematerialisation."""
    return config | {"model": {key: value for key, value in config["model"].items() if key != "rematerialize"}}


def used_by(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICKS


def one_run(program: Path, config: dict, threads: int, folder: Path) -> dict[str, float]:
    """CPU seconds until the gate has spoken and until the first step is done, of the evaluation behind it, and from the
    last step to the end; and the gate's own seconds by the clock. A line is read some milliseconds after it was written."""
    file, run = folder / "config.json", folder / "run"
    file.write_text(json.dumps(config))
    shutil.rmtree(run, ignore_errors=True)
    seen: dict[str, float] = {}
    process = subprocess.Popen([str(program), "train", str(file), "--run-dir", str(run)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, cwd=folder, env=environment(threads))
    lines = []
    for line in process.stdout:
        lines.append(line)
        now = used_by(process.pid)
        if line.startswith("causality"):
            seen["start"] = now
            seen["gate_seconds_by_the_clock"] = float(line.rsplit("probed in", 1)[1].split()[0])
        for name, beginning in (("first_step", "step 1/"), ("evaluated", "step 1: "), ("last_step", f"step {STEPS}/")):
            if line.startswith(beginning):
                seen.setdefault(name, now)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or len(seen) < 5:
        said = "".join(lines).strip()[-2000:]
        raise ProgramError(f"{program} train {file}\nended with status {process.returncode} after {sorted(seen)}:\n{said}")
    everything = usage.ru_utime + usage.ru_stime
    return {
        "start": seen["start"],
        "first_step": seen["first_step"],
        "evaluation": seen["evaluated"] - seen["first_step"],
        "end": everything - seen["last_step"],
        "gate_seconds_by_the_clock": seen["gate_seconds_by_the_clock"],
        "peak_bytes": 1024 * usage.ru_maxrss,
    }


def measure(program: Path, other: Path | None, neighbours: Neighbours, rounds: int, threads: int, only: list[str], text: Path, scratch: Path,
            say: Callable[[str], None]) -> dict:
    """Both builds in turn, model by model; medians over the rounds. `other`: the build that stands for before."""
    programs = ({"before": other.resolve()} if other else {}) | {"after": program.resolve()}
    rows = []
    for name, config in experiments(text).items():
        if only and name not in only:
            continue
        found: dict[str, list[dict[str, float]]] = {which: [] for which in programs}
        for number in range(rounds):
            for which in turned(list(programs), number):
                with tempfile.TemporaryDirectory(dir=scratch, prefix=f"gate-{name}-") as folder:
                    neighbours.start()
                    figures = one_run(programs[which], as_before(config) if which == "before" else config, threads, Path(folder))
                    figures["others_cpu_share"] = neighbours.stop()
                found[which].append(figures)
                say(f"gate, {name}, {which}, round {number + 1} of {rounds}: " + ", ".join(f"{k} {figures[k]:.2f} s" for k in FIGURES if k in figures))
        medians = {which: {k: median(f[k] for f in figures) for k in figures[0]} for which, figures in found.items()}
        rows.append({"model": name, **medians, "rounds": found})
    return {"rows": rows, "threads": threads}
