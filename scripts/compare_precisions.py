#!/usr/bin/env python3
"""Whether training in bf16 follows training in f32: loss curves of one config on one or more devices.

    scripts/compare_precisions.py --runs /tmp/precisions --markdown docs/results/precisions.md
    scripts/compare_precisions.py --program build/emulated/reverie --device cpu cuda --runs /tmp/precisions --markdown out.md

Trains the config (--config, configs/shakespeare_gpt.json) for --steps steps in f32 and in bf16 on each --device, with the same
seed and so the same batches, and compares each run with f32 on the first device: the losses of its steps, means of --window
steps, and the last validation loss. Exit code 1 where a window's mean is further off than --band nats. A run directory under
--runs that has come to its end is used as it is, one that was stopped goes on. Device cuda needs a program with CUDA
(cmake --preset cuda, or emulated: several seconds a step). --self-test proves that a curve beyond the band is found.

Standard library only.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarking.machine import machine_info

ROOT = Path(__file__).resolve().parent.parent


def train(options: argparse.Namespace, device: str, precision: str) -> dict:
    """Losses by step and the last validation loss."""
    steps, run = options.steps, options.runs / f"{device}_{precision}"
    summary, asked = run / "summary.json", run.with_suffix(".asked.json")
    question = {"config": json.loads(options.config.read_text()), "steps": steps, "set": options.set}
    if asked.exists() and json.loads(asked.read_text()) != question:
        raise SystemExit(f"{run} is of another config, --steps or --set ({asked} says which): name another folder with --runs")
    asked.parent.mkdir(parents=True, exist_ok=True)
    asked.write_text(json.dumps(question, indent=1) + "\n")
    if not (summary.exists() and json.loads(summary.read_text())["steps"] == steps):
        settings = [f"device={device}", f"precision={precision}", f"train.steps={steps}", "checkpoint.interval=50",
                    f"evaluation.interval={steps}", "sample.interval=0", *options.set]
        how = [str(options.config), "--run-dir", str(run), *(part for setting in settings for part in ("--set", setting))]
        if (run / "checkpoints").is_dir():
            how.append("--resume")
        print(f"{device} {precision}: {run}", flush=True)
        subprocess.run([str(options.program), "train", *how], check=True)
    losses = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "train":
            losses[event["step"]] = event["loss"]
    if sorted(losses) != list(range(1, steps + 1)):
        raise SystemExit(f"{run}/metrics.jsonl has {len(losses)} losses; wanted steps 1 to {steps}")
    last = json.loads(summary.read_text())
    return {"losses": [losses[step] for step in range(1, steps + 1)], "val_loss": last["val_loss"],
            "seconds": last["seconds"], "commit": last["commit"], "seed": last["seed"],
            "dataset": json.loads((run / "dataset.json").read_text())["source"],
            "config": json.loads((run / "config.resolved.json").read_text())}


def window_means(losses: list[float], window: int) -> list[float]:
    return [sum(losses[i : i + window]) / len(losses[i : i + window]) for i in range(0, len(losses), window)]


def compare(losses: list[float], reference: list[float], window: int) -> dict:
    """How far `losses` are from `reference`, in nats. What is no number is infinitely far."""
    if not all(map(math.isfinite, losses + reference)):
        return dict.fromkeys(("largest_of_windows", "mean", "largest_of_steps"), math.inf)
    means = [a - b for a, b in zip(window_means(losses, window), window_means(reference, window), strict=True)]
    return {"largest_of_windows": max(map(abs, means)), "mean": sum(means) / len(means),
            "largest_of_steps": max(abs(a - b) for a, b in zip(losses, reference, strict=True))}


def table(results: dict, window: int, band: float) -> str:
    first = next(iter(results))
    lines = ["| device | precision | largest difference of a step | of a mean of "
             f"{window} steps (band {band:g}) | mean difference | last validation loss | seconds |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, r in results.items():
        d = r["difference"]
        values = ["-"] * 3 if name == first else [f"{d['largest_of_steps']:.5f}", f"**{d['largest_of_windows']:.5f}**",
                                                  f"{d['mean']:+.5f}"]
        lines.append("| " + " | ".join([*name.split(), *values, f"{r['val_loss']:.4f}", f"{r['seconds']:.0f}"]) + " |")
    lines += ["", f"Losses, means of {window} steps up to:", "",
              "| step | " + " | ".join(results) + " |", "| ---: |" + " ---: |" * len(results)]
    columns = [window_means(r["losses"], window) for r in results.values()]
    steps = len(next(iter(results.values()))["losses"])
    for i, row in enumerate(zip(*columns, strict=True)):
        lines.append(f"| {min((i + 1) * window, steps)} | " + " | ".join(f"{x:.4f}" for x in row) + " |")
    return "\n".join(lines)


def self_test() -> int:
    curve = [4 - 0.01 * i for i in range(100)]
    same, off = compare(curve, curve, 20), compare([x + (0.05 if i == 50 else 0) for i, x in enumerate(curve)], curve, 20)
    broken = compare([*curve[:-1], math.nan], curve, 20)
    later = compare([x + 0.03 * (i >= 80) for i, x in enumerate(curve)], curve, 20)
    checks = [same["largest_of_windows"] == 0, abs(off["largest_of_steps"] - 0.05) < 1e-12,
              abs(off["largest_of_windows"] - 0.0025) < 1e-12, later["largest_of_windows"] > 0.02, later["mean"] > 0,
              broken["largest_of_windows"] == math.inf]
    print(f"{sum(checks)} passed, {len(checks) - sum(checks)} failed")
    return 0 if all(checks) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/reverie")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/shakespeare_gpt.json")
    parser.add_argument("--device", nargs="+", default=["cpu"], choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of the config (repeatable)")
    parser.add_argument("--window", type=int, default=20, help="steps of a mean (default: 20)")
    parser.add_argument("--band", type=float, default=0.001, help="most that a mean may be off, in nats (default: 0.001)")
    parser.add_argument("--runs", type=Path, help="folder of the run directories")
    parser.add_argument("--json", type=Path, help="where the curves go")
    parser.add_argument("--markdown", type=Path, help="where the table goes")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.runs:
        parser.error("--runs FOLDER is needed: it keeps the runs, and what is stopped goes on from there")
    if not options.program.exists():
        parser.error(f"there is no {options.program}; build it, or name one with --program")

    results = {}
    for device in options.device:
        for precision in ("f32", "bf16"):
            results[f"{device} {precision}"] = train(options, device, precision)
    first = next(iter(results.values()))
    worst = 0.0
    for r in results.values():
        r["difference"] = compare(r["losses"], first["losses"], options.window)
        worst = max(worst, r["difference"]["largest_of_windows"])
    commits = {r["commit"] for r in results.values()}
    text = table(results, options.window, options.band)
    print(text)
    if options.json:
        options.json.write_text(json.dumps({"commits": sorted(commits), "steps": options.steps, "window": options.window,
                                            "band": options.band, "runs": results}, indent=1) + "\n")
    if options.markdown:
        head = [f"- Config: `{options.config.resolve().relative_to(ROOT)}`, {', '.join([*options.set, f'{options.steps} steps'])}; seed {first['seed']} in all, so the same batches",
                f"- Data: {first['dataset']['name']}, hash `{first['dataset']['hash']}`; resolved configs stand in the JSON",
                f"- Commit: {', '.join(f'`{c}`' for c in sorted(commits))}; machine: {machine_info()['cpu']}",
                f"- Command: `{shlex.join(['scripts/compare_precisions.py', *sys.argv[1:]])}`"]
        options.markdown.write_text("# Training in bf16 beside f32\n\n" + "\n".join(head) + "\n\n" + text + "\n")
    print(f"largest difference of a mean of {options.window} steps: {worst:.5f} nats, band {options.band:g}")
    return 0 if worst <= options.band else 1


if __name__ == "__main__":
    sys.exit(main())
