"""Medians, Markdown tables, and pages of results. No measuring here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WANTED_ROUNDS = 5


def median(values: Iterable[float]) -> float:
    values = list(values)
    if not values:
        raise ValueError("no values to take the median of")
    return statistics.median(values)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown; every column but the first is aligned to the right."""
    marks = ["---"] + ["---:"] * (len(heads) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, marks, *rows])


def duration(ms: float | None) -> str:
    """Three digits: 7.12 ms, 38.7 ms, 5.48 s."""
    if ms is None:
        return "–"
    value, unit = (ms / 1e3, "s") if ms >= 1e3 else (ms, "ms")
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def spread(values: list[float]) -> str:
    return f"{duration(min(values))} to {duration(max(values))}"


def bytes_text(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


@dataclass(frozen=True)
class Page:
    """A page of results that a script writes between two marks; prose around them stays."""

    script: str
    title: str

    @property
    def begin(self) -> str:
        return f"<!-- written by {self.script}: begin -->"

    @property
    def end(self) -> str:
        return f"<!-- written by {self.script}: end -->"

    def between_marks(self, tables: str) -> str:
        return f"{self.begin}\n\n{tables}\n\n{self.end}\n"

    def refusal(self, file: Path) -> str:
        """Why `file` may not be written; empty: it may."""
        if not file.exists():
            return ""
        text = file.read_text()
        if text.count(self.begin) != 1 or text.count(self.end) != 1 or text.index(self.begin) > text.index(self.end):
            return (f"{file} is there and does not hold, once each and in this order, the lines\n{self.begin}\n{self.end}\n"
                    "between which the tables go; add them, or name another file")
        return ""

    def write(self, file: Path, tables: str) -> None:
        """A new page, or the old one with what stands between the marks replaced."""
        if file.exists():
            old = file.read_text()
            text = old[:old.index(self.begin)] + tables.rstrip("\n") + old[old.index(self.end) + len(self.end):]
        else:
            text = f"# {self.title}\n\n{tables}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
