"""PyTorch's side: its environment, its settings, and one worker process for each mode."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import venv
from dataclasses import asdict
from pathlib import Path

from .shapes import Work

MODES = ("eager", "compiled")
ENVIRONMENT = Path.home() / ".cache" / "reverie" / "pytorch"
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


class PyTorchError(Exception):
    """PyTorch could not be installed or started."""


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def has_torch(python: Path) -> bool:
    return python.exists() and subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0


def ensure_environment(environment: Path, *, upgrade: bool, say=print) -> Path:
    """The Python of an environment of our own with PyTorch, made or repaired where needed."""
    python = python_of(environment)
    if not upgrade and has_torch(python):
        return python
    say(f"installing the newest PyTorch into {environment} (several GB; --pytorch PYTHON uses one that you have)")
    if not python.exists():
        venv.create(environment, with_pip=True, symlinks=True)
    # pip's own settings (an index of CPU builds, say) hold.
    command = [str(python), "-m", "pip", "install", "--quiet", "--upgrade", "torch", "numpy"]
    if subprocess.run(command, check=False).returncode != 0 or not has_torch(python):
        raise PyTorchError(f"could not install PyTorch with: {' '.join(command)}\nGive an interpreter that has it: --pytorch PYTHON")
    return python


def worker_environment(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        **ALLOCATOR,
        **THREADING,
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no compiler processes that stay
    }


class Worker:
    """One mode of PyTorch on one work, alive until close()."""

    def __init__(self, python: Path, mode: str, work: Work, text: Path, threads: int, log: Path) -> None:
        self.mode = mode
        self.log = log
        start = {"work": asdict(work), "mode": mode, "text": str(text), "threads": threads}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(python), str(WORKER), json.dumps(start)], env=worker_environment(threads),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )
        self.about = self.answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def answer(self) -> dict:
        line = "" if self.process.stdout.closed else self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.close()
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise PyTorchError(f"the PyTorch worker ({self.mode}) ended with status {status}:\n{tail}")
        answer = json.loads(line)
        if "error" in answer:
            raise PyTorchError(f"PyTorch, {self.mode}: {answer['error']}")
        return answer

    def steps(self, precision: str, warmup: int, count: int) -> dict:
        with contextlib.suppress(OSError, ValueError):  # it is dead: answer() says how it ended
            self.process.stdin.write(json.dumps({"precision": precision, "warmup": warmup, "count": count}) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if self.process.poll() is None:
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

