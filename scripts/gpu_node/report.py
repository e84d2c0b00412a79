"""results/summary.json and .md from the records of all units, and the file for docs/results. Nothing is measured here."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

from benchmarking.tables import table

from .node import Bundle, Node
from .runner import CUT, FAILED, LEFT_OUT, PASSED, Records, Stage, write_whole

NOT_BEGUN = "not begun"


def rows_of(stages: list[Stage], records: Records) -> list[dict]:
    rows = []
    for stage in stages:
        for unit in stage.units:
            record = records.read(stage.name, unit.name) or {"status": NOT_BEGUN, "why": "", "seconds": 0, "node": "", "figures": {}}
            rows.append({"stage": stage.name, "unit": unit.name, "host": record.get("host", "")} |
                        {key: record[key] for key in ("status", "why", "seconds", "node", "figures")})
    return rows


def counts(rows: list[dict]) -> dict[str, int]:
    return {status: sum(row["status"] == status for row in rows) for status in (PASSED, FAILED, CUT, LEFT_OUT, NOT_BEGUN)}


def verdict(bundle: Bundle, node: Node, trial: bool) -> str:
    """What a reader must know before any figure."""
    if not node.usable:
        return f"**No GPU: {node.words}. Only the first stage ran, on the CPU; nothing here tells of a GPU.**" if not trial else \
               f"**A trial at tiny sizes on the CPU ({node.words}): no figure here tells of a GPU, or of speed.**"
    if node.emulated:
        return "**A trial at tiny sizes on the emulated device: no figure here tells of a GPU, or of speed.**"
    return "**A trial at tiny sizes: its figures say nothing of speed.**" if trial else ""


def markdown(bundle: Bundle, node: Node, trial: bool, stages: list[Stage], rows: list[dict]) -> str:
    parts = [f"# The stages on {node.name}", verdict(bundle, node, trial),
             f"- Bundle: commit `{bundle.about['commit']}`, flavour {bundle.about['flavour']}, architectures {bundle.about['arch'] or 'none'}\n"
             f"- Device: {node.words}\n- PyTorch: {node.python or f'none ({node.no_python})'}",
             ", ".join(f"{count} {status}" for status, count in counts(rows).items() if count) + "."]
    for stage in stages:
        of_stage = [row for row in rows if row["stage"] == stage.name]
        lines = []
        for row in of_stage:
            figures = row["figures"]
            said = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items() if isinstance(value, (int, float)))
            why = row["why"].strip().splitlines()
            lines.append([row["unit"], row["status"], f"{row['seconds']:.0f} s", said or "–", (why[-1] if why else "–").replace("|", "\\|"), row["node"] or "–"])
        parts += [f"## {stage.title}", table(["unit", "", "took", "figures", "said", "on"], lines)]
        for aims in (row["figures"].get("aims") for row in of_stage):
            if aims:
                parts.append(table(["aim", "wanted", "got"], [[a["what"], a["wanted"], a["told"]] for a in aims]))
    parts.append("Speed: `speed/*.md`. Tables: `shakespeare/table.md`, `coprocessor/table.md`. Output of each unit: `logs/`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def name_of_file(gpu: str) -> str:
    return "gpu_" + re.sub(r"[^a-z0-9]+", "_", gpu.lower()).strip("_")


def record_for_docs(bundle: Bundle, node: Node, rows: list[dict], results: Path) -> dict:
    """docs/results/gpu_NAME.json, of which the build says on what its kernels have run."""
    tests = [row["figures"] for row in rows if row["stage"] == "tests" and "passed" in row["figures"]]
    speed = {}
    for name in ("gpt2", "kernels"):
        file = results / "speed" / f"{name}.json"
        if file.is_file():
            speed[name] = json.loads(file.read_text())
            for row in speed[name]["rows"]:
                row.pop("detail", None)  # single steps
    return {"commit": bundle.about["commit"], "gpu": node.gpu["gpu"], "driver": node.gpu["driver"], **{key: sum(t[key] for t in tests) for key in (PASSED, FAILED, "skipped")},
            "units": [{key: row[key] for key in ("stage", "unit", "status", "seconds", "node")} for row in rows], "speed": speed}


def write(bundle: Bundle, node: Node, trial: bool, stages: list[Stage], records: Records, results: Path) -> list[dict]:
    rows = rows_of(stages, records)
    summary = {"commit": bundle.about["commit"], "flavour": bundle.about["flavour"], "trial": trial, "device": node.words, "node": node.name, "counts": counts(rows),
               "units": rows}
    write_whole(results / "summary.json", json.dumps(summary, indent=1) + "\n")
    page = markdown(bundle, node, trial, stages, rows)
    write_whole(results / "summary.md", page)
    if node.gpu and not trial:
        name = name_of_file(node.gpu["gpu"])
        write_whole(results / f"{name}.json", json.dumps(record_for_docs(bundle, node, rows, results), indent=1) + "\n")
        write_whole(results / f"{name}.md", page)
    return rows


def pack(results: Path, file: Path) -> None:
    """All but weights: what is to be read, small enough to be brought home."""
    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name in ("checkpoints", "hugging_face") else member

    part = file.with_name(file.name + ".part")
    with tarfile.open(part, "w:gz") as archive:
        archive.add(results, arcname="results", filter=wanted)
    part.replace(file)
