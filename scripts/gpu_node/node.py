"""The bundle, and what the node offers it: device, cublasLt, PyTorch, compute-sanitizer."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarking.cuda import machine
from benchmarking.programs import ProgramError

CUBLAS = "libcublasLt.so.1[23]"
# What a Python says of itself: version of PyTorch, and the folders of NVIDIA's packages.
ASK_PYTHON = """
import json, sys, importlib.util, os
site = [os.path.join(p, "nvidia") for p in sys.path if os.path.isdir(os.path.join(p, "nvidia"))]
try:
    import torch
    version, cuda = torch.__version__, torch.version.cuda
except Exception as failure:
    version, cuda = None, f"{type(failure).__name__}: {failure}"
print(json.dumps({"torch": version, "cuda": cuda, "nvidia": site}))
"""


@dataclass(frozen=True)
class Bundle:
    """A folder that scripts/gpu_bundle.sh made."""

    root: Path
    about: dict  # bundle.json

    @staticmethod
    def at(root: Path) -> Bundle:
        file = root / "bundle.json"
        if not file.is_file():
            raise ProgramError(f"{file} is not there: this is no bundle (scripts/gpu_bundle.sh makes one, and ./run in it starts this script)")
        return Bundle(root, json.loads(file.read_text()))

    @property
    def program(self) -> Path:
        return self.root / "program" / "reverie"

    @property
    def needs(self) -> str:
        """What a GPU must have, for whoever finds none usable; "" where nobody wrote it down."""
        return self.about.get("needs", "")

    @property
    def gemma(self) -> Path:
        return self.root / "data" / "gemma3" / "gemma-3-270m-q4_k_m.gguf"


@dataclass(frozen=True)
class Node:
    device: str  # cuda or cpu: where the stages run
    usable: bool  # whether device cuda is a GPU, or emulated
    emulated: bool
    words: str  # what `reverie doctor` says of device cuda
    gpu: dict  # what nvidia-smi says; {} where there is none
    python: str  # that has PyTorch; "" where none has
    no_python: str  # why
    sanitizer: str  # compute-sanitizer, or ""
    environment: dict[str, str]
    host: str = ""  # tells nodes with the same GPU apart; stays out of pages

    @property
    def name(self) -> str:
        return self.gpu.get("gpu") or ("emulated device" if self.emulated and self.usable else "no GPU")


def ask_python(python: str) -> dict:
    try:
        done = subprocess.run([python, "-c", ASK_PYTHON], capture_output=True, text=True, check=False, timeout=120)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as failure:
        return {"torch": None, "cuda": f"{type(failure).__name__}: {failure}", "nvidia": []}


def folders_of_cublas(python: dict) -> list[str]:
    """Those of the Python's packages first: PyTorch's processes then find the library that they were made with."""
    found: list[str] = []
    for nvidia in python["nvidia"]:
        found += sorted(glob.glob(f"{nvidia}/cu1[23]/lib")) + sorted(glob.glob(f"{nvidia}/cublas/lib"))
    roots = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    if nvcc := shutil.which("nvcc"):
        roots.append(str(Path(nvcc).resolve().parent.parent))
    roots += ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-1[23]*"), reverse=True)]
    for root in roots:
        found += [f"{root}/lib64", f"{root}/targets/x86_64-linux/lib", f"{root}/lib"]
    return [folder for folder in dict.fromkeys(found) if glob.glob(f"{folder}/{CUBLAS}")]


def environment_of(bundle: Bundle, python: dict) -> dict[str, str]:
    environment = dict(os.environ) | {"REVERIE_DATA": str(bundle.root / "data"), "REVERIE_TEST_DIR": str(bundle.root / "tests")}
    known = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if not any(glob.glob(f"{folder}/{CUBLAS}") for folder in known):
        known += folders_of_cublas(python)[:1]
    if known:
        environment["LD_LIBRARY_PATH"] = ":".join(known)
    return environment


def doctor(bundle: Bundle, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run([str(bundle.program), "doctor"], capture_output=True, text=True, check=False, env=environment, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ProgramError(f"{bundle.program} does not start: {failure}") from failure
    if done.returncode != 0:
        raise ProgramError(f"{bundle.program} doctor ended with status {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def sanitizer_of() -> str:
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    return found or ""


def look(bundle: Bundle, pytorch: str | None) -> Node:
    """ProgramError where the program does not start."""
    pythons = [pytorch] if pytorch else dict.fromkeys(filter(None, (sys.executable, shutil.which("python3"), shutil.which("python"))))
    answers: dict[str, dict] = {}
    for asked in pythons:  # up to the first that has PyTorch, whose import takes seconds
        answers[asked] = ask_python(asked)
        if answers[asked]["torch"]:
            break
    python = next((p for p, answer in answers.items() if answer["torch"]), "")
    first = answers[python] if python else next(iter(answers.values()))
    environment = environment_of(bundle, first)
    said = re.search(r"^cuda +(.+)$", doctor(bundle, environment), re.MULTILINE)
    words = said[1].split("; ", 1)[-1] if said else "nothing"
    usable = bool(said) and not re.search(r"no GPU is usable|this build has no CUDA|and kernels want", words)
    emulated = bundle.about["flavour"] == "emulated"
    gpu: dict = {}
    if usable and not emulated:
        try:
            gpu = machine.query_gpu()
        except ProgramError:  # no nvidia-smi: bench.py says so, and all else runs
            gpu = {"gpu": words.split(",")[0], "driver": "unknown"}
    return Node("cuda" if usable else "cpu", usable, emulated, words, gpu, python, "" if python else f"no Python here has it; {', '.join(answers)}: {first['cuda']}",
                sanitizer_of() if gpu else "", environment, platform.node())
