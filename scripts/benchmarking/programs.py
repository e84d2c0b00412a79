"""Reverie as its users run it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .tables import median
from .works import Work

ROOT = Path(__file__).resolve().parent.parent.parent
PRECISION_KEYS = ("train.precision", "precision")  # where a config says it; builds differ


class ProgramError(Exception):
    """A program of ours is missing, or failed."""


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def run(command: list[str], threads: int) -> str:
    try:
        done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=False)
    except OSError as failure:
        raise ProgramError(f"{command[0]} does not start: {failure}") from failure
    if done.returncode != 0:
        raise ProgramError(f"{' '.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def experiment(base: dict, work: Work, data: dict) -> dict:
    """The config of `work` on the token files of `data` from that of nanoGPT's recipe: nothing but steps is computed."""
    shape = {"block_size": work.context, "n_layer": work.layers, "n_head": work.heads, "n_embd": work.width}
    return base | {
        "data": data,
        "model": base["model"] | shape,
        "train": base["train"] | {"batch_size": work.batch},
        "evaluation": {"interval": 0},
        "sample": {"interval": 0},
        "checkpoint": {"interval": 0},
    }


def step_times(metrics: str) -> tuple[list[float], list[float]]:
    """Milliseconds and loss of each step in the lines of a metrics.jsonl."""
    events = [json.loads(line) for line in metrics.splitlines()]
    train = [e for e in events if e["event"] == "train"]
    ends = [0.0, *(e["seconds"] for e in train)]
    return [1e3 * (after - before) for before, after in zip(ends, ends[1:])], [e["loss"] for e in train]


class Reverie:
    """`reverie train` on a prepared token file."""

    def __init__(self, program: Path, threads: int, scratch: Path, *, device: str = "cpu", preset: str = "release") -> None:
        if not program.is_file():
            raise ProgramError(f"{program} is not there; build it (cmake --preset {preset} && cmake --build --preset {preset}) or name it with --reverie")
        self.program, self.threads, self.scratch, self.device = program, threads, scratch, device
        self.data: dict = {}  # of the config
        self.precision_key = PRECISION_KEYS[0]
        self.base = json.loads((ROOT / "configs" / "shakespeare_gpt.json").read_text())
        model = self.base["model"]
        if model.get("bias") or model.get("dropout") or model.get("activation", "gelu") != "gelu":
            raise ProgramError("configs/shakespeare_gpt.json has biases, dropout or another activation, which the PyTorch twin has not")

    def commit(self) -> str:
        found = re.search(r"\(([^)]*)\)", run([str(self.program), "--version"], self.threads))
        return found.group(1) if found else "unknown"

    def about(self) -> dict:
        """What `reverie doctor` says of the build and its kernels."""
        lines = run([str(self.program), "doctor"], self.threads).splitlines()
        said = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines if re.search(r"\S\s{2,}\S", line))
        return {"kernels": said.get("cpu kernels", ""), "matmul": said.get("f32 matmul", ""), "cuda": said.get("cuda", ""), "threads": self.threads}

    def prepare(self, text: Path) -> int:
        """Makes the token files; the vocabulary's size."""
        folder = self.scratch / "data"
        run([str(self.program), "prepare", str(text), "--tokenizer", "char", "--out", str(folder)], self.threads)
        self.data = {"path": str(folder)}
        return json.loads((folder / "dataset.json").read_text())["tokenizer"]["vocabulary_size"]

    def config(self, work: Work) -> Path:
        file = self.scratch / f"{work.name}.json"
        file.write_text(json.dumps(experiment(self.base, work, self.data)))
        return file

    def overrides(self, precision: str, more: Sequence[str] = ()) -> list[str]:
        changes = [] if self.device == "cpu" else [f"device={self.device}"]
        changes += [] if precision == "f32" else [f"{self.precision_key}={precision}"]
        return [word for change in (*changes, *more) for word in ("--set", change)]

    def why_not(self, work: Work, precision: str) -> str:
        """Why this build cannot train in `precision`; empty: it can."""
        reasons = []
        for self.precision_key in [self.precision_key] if precision == "f32" else PRECISION_KEYS:  # f32 is said by no key
            try:
                self.plan(work, precision)
            except ProgramError as failure:
                reasons.append(str(failure).splitlines()[-1].removeprefix(f"error: {self.config(work)}: "))
            else:
                return ""
        return "; ".join(dict.fromkeys(reasons))

    def plan(self, work: Work, precision: str = "f32", *, more: Sequence[str] = ()) -> dict:
        """`more`: what else is set, as for --set."""
        command = [str(self.program), "plan", "--json", str(self.config(work)), *self.overrides(precision, more)]
        return json.loads(run(command, self.threads))

    def train(self, work: Work, precision: str, warmup: int, count: int, *, more: Sequence[str] = ()) -> dict:
        """Times `count` steps after `warmup` others, in a process of their own; `more`: what else is set."""
        folder = self.scratch / "run"
        shutil.rmtree(folder, ignore_errors=True)
        metrics = folder / "metrics.jsonl"
        command = [str(self.program), "train", str(self.config(work)), "--run-dir", str(folder), "--quiet",
                   "--stop-after", str(warmup + count), *self.overrides(precision, more)]
        log = self.scratch / "reverie.log"
        begin = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(command, env=environment(self.threads), stdout=out, stderr=out, cwd=self.scratch)
        # Looks for the first step, then leaves the machine to the process. One that has ended is looked at once more: it may
        # have written everything since the last time.
        first_step = usage = None
        while first_step is None and usage is None:
            ended, status, resources = os.wait4(process.pid, os.WNOHANG)
            if ended:
                usage = resources
            with contextlib.suppress(OSError):
                first_step = time.monotonic() - begin if metrics.stat().st_size else None
            if first_step is None and usage is None:
                time.sleep(0.005)
        if usage is None:
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise ProgramError(f"{' '.join(command)}\nended with status {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        if first_step is None:
            raise ProgramError(f"{' '.join(command)}\nended without a step in {metrics}")
        times, losses = step_times(metrics.read_text())
        if len(times) != warmup + count:
            raise ProgramError(f"{metrics} has {len(times)} steps; wanted {warmup + count}")
        return {
            "ms": median(times[warmup:]),
            "steps_ms": times[warmup:],
            "loss": losses[-1],
            "start_to_first_step_ms": 1e3 * first_step,
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }

    def sample(self, model: Path, samples: int, tokens: int) -> dict:
        """What `reverie sample` says of its speed, for `samples` texts side by side."""
        out = self.scratch / "sample.json"
        run([str(self.program), "sample", str(model), "--prompt", "The", "--samples", str(samples), "--max-tokens", str(tokens),
             "--past-end", "--json", str(out)], self.threads)
        return json.loads(out.read_text())

    @property
    def tokenized(self) -> Path:
        """The token file of the last tokenize()."""
        return self.scratch / "tokens" / "train.tok"

    def tokenize(self, text: Path, vocabulary: Path, threads: int) -> float:
        """Seconds of `reverie prepare` with GPT-2's byte pairs, from start to end."""
        shutil.rmtree(self.tokenized.parent, ignore_errors=True)
        begin = time.monotonic()
        run([str(self.program), "prepare", str(text), "--tokenizer", "gpt2", "--tokenizer-files", str(vocabulary), "--validation-fraction", "0",
             "--out", str(self.tokenized.parent)], threads)
        return time.monotonic() - begin
