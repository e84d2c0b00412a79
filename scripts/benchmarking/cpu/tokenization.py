"""Tokenising: `reverie prepare` with GPT-2's byte pairs beside tiktoken, on the same text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarking.machine import Neighbours
from benchmarking.programs import ROOT, ProgramError, Reverie, environment
from benchmarking.tables import median

WORKER = Path(__file__).with_name("tiktoken_worker.py")
LEAST_BYTES = 64 << 20  # a smaller text is repeated: starting a program would count too much
HEADER_BYTES = 128  # of a .tok file


def ensure_tiktoken(python: Path, may_install: bool, say: Callable[[str], None]) -> None:
    if subprocess.run([python, "-c", "import tiktoken"], capture_output=True, check=False).returncode == 0:
        return
    command = [str(python), "-m", "pip", "install", "--quiet", "tiktoken"]
    if may_install:
        say(f"installing tiktoken: {' '.join(command)}")
        if subprocess.run(command, check=False).returncode == 0:
            return
    raise ProgramError(f"{python} has no tiktoken; install it with: {' '.join(command)}")


def gpt2_files() -> Path:
    """The folder of encoder.json and vocab.bpe, as `reverie prepare` finds it."""
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch.py"), "gpt2-bpe"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError("scripts/fetch.py found no GPT-2 vocabulary (its reasons are above)")
    found = Path(done.stdout.splitlines()[-1])
    return found if found.is_dir() else found.parent


def repeated(text: bytes, least: int) -> bytes:
    """`text` as often as makes `least` bytes, in paragraphs of their own."""
    part = text.rstrip(b"\n") + b"\n\n"
    return part * -(-least // len(part))


def tiktoken(python: Path, vocabulary: Path, text: Path, ids: Path) -> dict:
    """One encoding in a process of its own, on one core: {"seconds", "tokens", "version"}."""
    done = subprocess.run([python, WORKER, vocabulary, text, ids], capture_output=True, text=True, check=False, env=environment(1))
    if done.returncode != 0:
        raise ProgramError(f"{WORKER.name} ended with status {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ids_differ(tokens: Path, ids: Path) -> str:
    """Where a .tok file of 16-bit tokens and tiktoken's differ; empty: nowhere."""
    ours, theirs = tokens.read_bytes()[HEADER_BYTES:], ids.read_bytes()
    if ours == theirs:
        return ""
    at = next((i for i in range(0, min(len(ours), len(theirs)), 2) if ours[i:i + 2] != theirs[i:i + 2]), min(len(ours), len(theirs)))
    return f"token {at // 2} differs (of {len(ours) // 2} of ours, {len(theirs) // 2} of tiktoken's)"


def measure(reverie: Reverie, neighbours: Neighbours, rounds: int, python: Path, text: Path, scratch: Path, say: Callable[[str], None]) -> dict:
    """Reverie on one core, on all, and tiktoken on one, in turn. Reverie's time is that of the whole
    program, from its start to the token file on disk; tiktoken's that of encode() alone."""
    vocabulary = gpt2_files()
    long_text, ids = scratch / "tokenize.txt", scratch / "tiktoken.ids"
    long_text.write_bytes(repeated(text.read_bytes(), LEAST_BYTES))
    megabytes = 1e-6 * long_text.stat().st_size
    found: dict[str, list[float]] = {"reverie_1": [], "reverie_all": [], "tiktoken": []}
    about: dict = {}
    for number in range(rounds):
        neighbours.start()
        found["reverie_1"].append(megabytes / reverie.tokenize(long_text, vocabulary, 1))
        about = tiktoken(python, vocabulary, long_text, ids)
        found["tiktoken"].append(megabytes / about["seconds"])
        found["reverie_all"].append(megabytes / reverie.tokenize(long_text, vocabulary, reverie.threads))
        if number == 0 and (difference := ids_differ(reverie.tokenized, ids)):
            raise ProgramError(f"Reverie's tokens of {text.name} are not tiktoken's: {difference}")
        say(f"tokenize, round {number + 1} of {rounds}: " + ", ".join(f"{name} {speeds[-1]:.1f} MB/s" for name, speeds in found.items())
            + f"; others used {100 * neighbours.stop():.1f} % of the CPU")
    speeds = {name: median(values) for name, values in found.items()}
    return {
        "text": text.name,
        "text_bytes": long_text.stat().st_size,
        "tokens": about["tokens"],
        "equal": True,
        "tiktoken": about["version"],
        "threads": reverie.threads,
        "mb_per_second": speeds,
        "ratio": median(a / b for a, b in zip(found["reverie_1"], found["tiktoken"])),
        "scaling": median(a / b for a, b in zip(found["reverie_all"], found["reverie_1"])),
        "rounds": found,
    }
