#!/usr/bin/env python3
"""Runs a bundle's stages on this node within a given time. `./run` of a bundle (scripts/gpu_bundle.sh) starts it.

    ./run                              12 minutes; results/ is complete after every unit of every stage
    ./run --minutes 30 --results DIR   goes on with what DIR holds already, of whatever node
    ./run --trial                      tiny settings, on any device: tries the stages, measures nothing

Stages: doctor and one step of each kind of model; tests; GPT-2 124M against PyTorch; kernels against ceilings; the
Shakespeare table (preset paper); a coprocessor on Gemma 3 270M, where the bundle holds it. Nothing is compiled or fetched.
Without a usable GPU the first stage runs on the CPU, and the others are left out.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from benchmarking.programs import ProgramError
from gpu_node import report
from gpu_node.node import Bundle, look
from gpu_node.runner import CUT, FAILED, Runner, Stopped
from gpu_node.stages import Plan, all_stages

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(text, flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    about = ROOT / "bundle.json"
    needs = Bundle.at(ROOT).needs if about.is_file() else ""
    parser = argparse.ArgumentParser(prog="run", description=__doc__ + (f"\n{needs}.\n" if needs else ""), formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="exit status: 0 every unit passed or was left out; 1 something failed, or there is no GPU; 2 wrong usage; "
                                            "3 the time was over before everything had run; 128 + n: stopped by signal n")
    parser.add_argument("--minutes", type=float, default=12, help="all stages together (%(default)g)")
    parser.add_argument("--results", type=Path, default=ROOT / "results", metavar="DIR", help="where results go, and where those of an earlier run are (results beside run)")
    parser.add_argument("--pytorch", metavar="PYTHON", help="a Python that has PyTorch (without: this one, or python3)")
    parser.add_argument("--trial", action="store_true", help="tiny settings, on any device")
    parser.add_argument("--stage", action="append", default=[], metavar="NAME", help="only this stage (repeatable): start, tests, speed, ceilings, shakespeare, coprocessor")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="afterwards, write results without weights into FILE (.tar.gz)")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes is {options.minutes:g}; wanted more than 0")
    return options


def stop_on(number: int, frame: object) -> None:
    raise Stopped(number)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    results = options.results.resolve()
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
        bundle = Bundle.at(ROOT)
        node = look(bundle, options.pytorch)
    except (ProgramError, OSError) as failure:
        print(f"run: {failure}", file=sys.stderr)
        return 2
    trial = options.trial or node.emulated
    if node.usable:
        say(f"device cuda: {node.words}")
    else:
        say(f"no driver, or no GPU: {node.words}\n" + (f"{bundle.needs}; nvidia-smi shows the driver that is here.\n" if bundle.needs else "") +
            "The first stage runs on the CPU. --trial tries the others there, at tiny sizes.")
    plan = Plan(bundle, node, results, trial)
    stages = all_stages(plan)
    unknown = [name for name in options.stage if name not in {stage.name for stage in stages}]
    if unknown:
        print(f"run: --stage {unknown[0]}: wanted one of {', '.join(stage.name for stage in stages)}", file=sys.stderr)
        return 2
    chosen = [stage for stage in stages if not options.stage or stage.name in options.stage]
    key = {"commit": bundle.about["commit"], "flavour": bundle.about["flavour"], "trial": trial, "device": node.device}
    runner = Runner(chosen, results, seconds=60 * options.minutes, key=key, node=node.name, host=node.host, root=ROOT, environment=node.environment, say=say,
                    after=lambda: report.write(bundle, node, trial, stages, runner.records, results))
    status = 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_on)
    try:
        runner.run()
    except Stopped as stopped:
        say(f"stopped by {stopped}; ./run goes on from here")
        status = 128 + stopped.number
    rows = report.write(bundle, node, trial, stages, runner.records, results)
    counts = report.counts([row for row in rows if row["stage"] in {stage.name for stage in chosen}])
    if options.pack:
        report.pack(results, options.pack.resolve())
    say(f"\n{results / 'summary.md'}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    if status == 0 and (counts[FAILED] or not (node.usable or trial)):
        status = 1
    if status == 0 and (counts[CUT] or counts[report.NOT_BEGUN]):
        status = 3
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
