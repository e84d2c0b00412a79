"""PyTorch's side: an environment that has it, and worker processes that live through all rounds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import venv
from pathlib import Path

ENVIRONMENT = Path.home() / ".cache" / "reverie" / "pytorch"


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


class Worker:
    """One mode of PyTorch on one work, in a process of `script` that is told `start`, alive until close()."""

    def __init__(self, python: Path, script: Path, start: dict, environment: dict[str, str], log: Path) -> None:
        self.mode = start["mode"]
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(python), str(script), json.dumps(start)], env=environment,
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

    def ask(self, command: dict) -> dict:
        with contextlib.suppress(OSError, ValueError):  # it is dead: answer() says how it ended
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def steps(self, precision: str, warmup: int, count: int) -> dict:
        return self.ask({"precision": precision, "warmup": warmup, "count": count})

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

