"""Words to whoever started the benchmark, and the file of figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def say(text: str) -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    print(f"bench.py: warning: {text}", file=sys.stderr, flush=True)


def save(file: Path, result: dict) -> None:
    """Whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(file)
