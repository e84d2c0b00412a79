"""Runs the units of stages within a time limit. What is finished is kept; a later run goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PASSED, FAILED, CUT, LEFT_OUT = "passed", "failed", "cut", "left out"
GRACE_SECONDS = 15.0  # between SIGTERM, upon which `reverie` saves a checkpoint, and SIGKILL
TAIL_LINES = 15


class Stopped(Exception):
    """Somebody stops the whole run (SIGINT, SIGTERM, SIGHUP)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True)
class Outcome:
    """What a unit's commands came to."""

    status: str
    why: str = ""
    figures: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """The smallest part that is run, kept or repeated as a whole. Its commands follow one another until one fails."""

    name: str
    commands: list[list[str]]
    least: float = 5.0  # seconds without which it is not begun
    most: float | None = None  # seconds after which it is cut, whatever is left
    missing: str = ""  # why it cannot run here
    environment: Mapping[str, str] = field(default_factory=dict)
    good: tuple[int, ...] = (0,)  # exit statuses of commands that did what they should
    read: Callable[[Outcome], Outcome] | None = None  # looks at the files that the commands left
    seconds_option: str = ""  # the first command is given its seconds by this option, and ends by itself
    failure_ends_all: bool = False  # nothing else can work


@dataclass(frozen=True)
class Stage:
    name: str
    title: str
    units: list[Unit]
    share: float = 1.0  # of the whole time; what is not reached within it comes after the other stages


class Records:
    """results/units/STAGE.UNIT.json, one for each unit, written whole or not at all."""

    def __init__(self, results: Path, key: Mapping[str, object]) -> None:
        self.folder, self.key = results / "units", dict(key)
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, stage: str, unit: str) -> dict | None:
        """None: there is none, or it is of another bundle or of other settings."""
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((self.folder / f"{stage}.{unit}.json").read_text())
            if record["key"] == self.key:
                return record
        return None

    def write(self, stage: str, unit: str, outcome: Outcome, seconds: float, node: str, host: str) -> dict:
        record = {"stage": stage, "unit": unit, "status": outcome.status, "why": outcome.why, "seconds": round(seconds, 2), "node": node, "host": host,
                  "figures": outcome.figures, "key": self.key}
        write_whole(self.folder / f"{stage}.{unit}.json", json.dumps(record, indent=1) + "\n")
        return record


def write_whole(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)


def tail_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]) if log.exists() else ""


class Runner:
    def __init__(self, stages: list[Stage], results: Path, *, seconds: float, key: Mapping[str, object], node: str, host: str, root: Path,
                 environment: Mapping[str, str], say: Callable[[str], None], after: Callable[[], None] = lambda: None) -> None:
        self.stages, self.results, self.root, self.environment, self.say, self.after = stages, results, root, dict(environment), say, after
        self.records, self.node, self.host, self.seconds = Records(results, key), node, host, seconds
        self.begin = time.monotonic()
        self.grace = min(GRACE_SECONDS, 0.1 * seconds)
        self.end = self.begin + seconds - self.grace
        (results / "logs").mkdir(parents=True, exist_ok=True)

    # ---- all stages -------------------------------------------------------------
    def run(self) -> None:
        """Every stage in its share of the time, then what is not done yet for as long as there is time."""
        for stage in self.stages:
            self.say(f"\n==> {stage.title}")
            until = min(self.end, time.monotonic() + stage.share * self.seconds)
            if len(reasons := {unit.missing for unit in stage.units}) == 1 and (reason := reasons.pop()):
                self.say(f"left out: {reason}")
                for unit in stage.units:
                    self.records.write(stage.name, unit.name, Outcome(LEFT_OUT, reason), 0, self.node, self.host)
                self.after()
                continue
            for unit in stage.units:
                earlier = self.records.read(stage.name, unit.name)
                if earlier and earlier["status"] in (PASSED, FAILED):
                    self.say(f"{unit.name}: {earlier['status']} before, on {earlier['node']}")
                elif not self.run_unit(stage, unit, until):
                    return
        rest = [(stage, unit) for stage in self.stages for unit in stage.units if self.wants_another(stage, unit)]
        if rest and time.monotonic() < self.end:
            self.say("\n==> what is left, in the remaining time")
        for stage, unit in rest:
            if not self.run_unit(stage, unit, self.end):
                return

    def wants_another(self, stage: Stage, unit: Unit) -> bool:
        """Not finished, or failed in an earlier run on another machine, which may have been to blame. Nodes of one kind differ in their host alone."""
        record = self.records.read(stage.name, unit.name)
        elsewhere = record is not None and (record["node"], record.get("host")) != (self.node, self.host)
        return record is None or record["status"] == CUT or (record["status"] == FAILED and elsewhere)

    # ---- one unit ---------------------------------------------------------------
    def run_unit(self, stage: Stage, unit: Unit, until: float) -> bool:
        """False: the stages after it are in vain."""
        left = until - time.monotonic()
        if unit.missing:
            self.tell(stage, unit, Outcome(LEFT_OUT, unit.missing), 0)
            return True
        if left < unit.least * min(1.0, self.seconds / 60):
            self.say(f"{unit.name}: not begun, {max(0.0, left):.0f} s are left")
            return True
        begin = time.monotonic()
        stop = min(until, begin + (unit.most or float("inf")))
        try:
            outcome = self.outcome_of(stage, unit, stop)
        except Stopped as stopped:
            self.tell(stage, unit, Outcome(CUT, f"stopped by {stopped}"), time.monotonic() - begin)
            raise
        self.tell(stage, unit, outcome, time.monotonic() - begin)
        return not (unit.failure_ends_all and outcome.status != PASSED)

    def tell(self, stage: Stage, unit: Unit, outcome: Outcome, seconds: float) -> None:
        self.records.write(stage.name, unit.name, outcome, seconds, self.node, self.host)
        lines = outcome.why.strip().splitlines()
        self.say(f"{unit.name}: {outcome.status}" + (f" after {seconds:.0f} s" if seconds else "") + (f": {lines[-1]}" if lines else ""))
        self.after()

    def outcome_of(self, stage: Stage, unit: Unit, stop: float) -> Outcome:
        log = self.results / "logs" / f"{stage.name}.{unit.name}.log"
        outcome = Outcome(PASSED)
        with log.open("wb") as out:
            for command in unit.commands:
                if unit.seconds_option and command is unit.commands[0]:
                    command = [*command, unit.seconds_option, f"{max(1.0, 0.9 * (stop - time.monotonic())):.0f}"]
                out.write(f"$ {' '.join(command)}\n".encode())
                out.flush()
                try:
                    status = self.run_command(command, unit, out, stop)
                except OSError as failure:
                    outcome = Outcome(FAILED, f"{command[0]} does not start: {failure}")
                    break
                if status is None:
                    outcome = Outcome(CUT, "its time was over")
                    break
                if status not in unit.good:
                    out.flush()
                    outcome = Outcome(FAILED, f"{tail_of(log)}\n{command[0]} ended with status {status} ({log})")
                    break
        return unit.read(outcome) if unit.read else outcome

    def run_command(self, command: list[str], unit: Unit, out, stop: float) -> int | None:
        """The exit status; None: it was stopped because its time was over."""
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.root,
                                   env=self.environment | dict(unit.environment), start_new_session=True)
        try:
            return process.wait(timeout=max(0.0, stop - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Here also after Stopped. The group is the command's own: its children end with it.
            self.end_group(process)

    def end_group(self, process: subprocess.Popen) -> None:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
