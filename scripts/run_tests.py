#!/usr/bin/env python3
"""Run the test suites of a build and add up what they say.

A suite is one of: a room's GoogleTest binary (test_*.cpp in tests/<room>/ and its folders, built as test_<room>), a
Python test file (tests/<folder>/test_*.py, unittest), or a check of the sources (CHECKS below).
Python tests find the build through REVERIE_BUILD_DIR. A suite that crashes, hangs, exits with an
error although its tests passed (a sanitizer's report), or has no tests counts as a failure.

Standard library only. The last line is always "N passed, N failed, N skipped".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree as xml
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Scripts that check the sources or the build, with the arguments of each time they run.
CHECKS = {
    "check_includes.py": ([], ["--self-test"]),
    "check_names.py": ([], ["--self-test"]),
    "check_isa_objects.py": (["BUILD"],),
    "check_build_time.py": (["--self-test"],),
    "check_format.py": (["--self-test"],),
    "check_headers.py": (["--self-test"],),
    "doxygen_filter.py": (["--check"], ["--self-test"]),
    "check_ptx.py": (["--self-test"],),
    "check_ptxas.py": (["--self-test"],),
    "compare_precisions.py": (["--self-test"],),
}
SKIPPED = 77  # exit code of a check that lacks a tool, and says which
KINDS = ("gtest", "python", "check")
# Skips that stand although there is a GPU: the emulation's own tests, what looks for another device, a second GPU, or PyTorch.
SKIPS_BESIDE_A_GPU = re.compile("emulated in this build|only emulation|^device cuda is usable here|no torch|wants two GPUs|^this build has")
HUNG_AFTER_SECONDS = 1800  # stops a suite that hangs; not a measure of speed


@dataclass
class Suite:
    """What one suite said. Failures and skipped tests are [test, why]."""

    name: str
    passed: int = 0
    failed: list[list[str]] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> str:
        return counts_line(self.passed, len(self.failed), len(self.skipped))


def counts_line(passed: int, failed: int, skipped: int) -> str:
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def run(command: list[str], log: Path, env: dict[str, str]) -> int:
    """Runs `command` with all its output in `log`; its exit status, or -9 when it hung."""
    with log.open("wb") as out:
        try:
            return subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                cwd=ROOT, env=env, timeout=HUNG_AFTER_SECONDS, check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            out.write(f"\nstopped: still running after {HUNG_AFTER_SECONDS} s\n".encode())
            return -signal.SIGKILL


def how_it_ended(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def reason_of(message: str) -> str:
    """A skip message without the place and the word "Skipped" in front of it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if lines and re.match(r".*:\d+$", lines[0]):
        lines = lines[1:]
    return " ".join(lines) or "no reason given"


def read_gtest(suite: Suite, report: Path) -> None:
    """Counts of a GoogleTest XML report (its JSON form leaves out why a test was skipped)."""
    for case in xml.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        failures = [f.get("message") or "" for f in case.findall("failure")]
        skipped = case.find("skipped")
        if failures:
            suite.failed.append([name, "\n".join(failures)])
        elif skipped is not None:
            suite.skipped.append([name, reason_of(skipped.get("message") or "")])
        elif case.get("status") == "notrun":
            suite.skipped.append([name, "disabled"])
        else:
            suite.passed += 1


def read_gtest_log(suite: Suite, log: Path, ended: str) -> None:
    """What can be told of a binary that died before it wrote its report."""
    running = ""
    for line in log.read_text(errors="replace").splitlines():
        mark = re.match(r"\[( RUN      |       OK |  SKIPPED |  FAILED  )\] (\S+\.\S+)", line)
        if not mark:
            continue
        word, name = mark.group(1).strip(), mark.group(2).rstrip(",")
        if word == "RUN":
            running = name
        elif name == running:
            running = ""
            if word == "OK":
                suite.passed += 1
            elif word == "SKIPPED":
                suite.skipped.append([name, "its reason is in the log"])
            else:
                suite.failed.append([name, "its message is in the log"])
    place = f"in {running}" if running else "outside any test"
    suite.failed.append([running or "(the binary)", f"{ended} {place}; later tests did not run"])


def gtest_suite(name: str, binary: Path, logs: Path, env: dict[str, str]) -> Suite:
    suite = Suite(name)
    if not binary.exists():
        suite.failed.append(["(the binary)", f"{binary} was not built"])
        return suite
    log, report = logs / f"{name}.log", logs / f"{name}.xml"
    report.unlink(missing_ok=True)
    status = run([str(binary), f"--gtest_output=xml:{report}"], log, env)
    try:
        read_gtest(suite, report)
    except (OSError, xml.ParseError):
        read_gtest_log(suite, log, how_it_ended(status))
    if status != 0 and not suite.failed:
        suite.failed.append(["(the binary)", f"{how_it_ended(status)} after its tests"])
    return suite


def python_suite(name: str, file: Path, logs: Path, env: dict[str, str]) -> Suite:
    flat = name.replace("/", ".")
    log, report = logs / f"{flat}.log", logs / f"{flat}.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--unittest", str(file), str(report)]
    status = run(command, log, env)
    try:
        suite = Suite(name, **json.loads(report.read_text()))
    except (OSError, ValueError):
        suite = Suite(name, failed=[["(the file)", f"{how_it_ended(status)} without a report"]])
    if status != 0 and not suite.failed:
        suite.failed.append(["(the file)", f"{how_it_ended(status)} after its tests"])
    return suite


def check_suite(name: str, script: Path, logs: Path, env: dict[str, str]) -> Suite:
    suite = Suite(name)
    log = logs / f"{name}.log"
    for arguments in CHECKS[script.name]:
        arguments = [env["REVERIE_BUILD_DIR"] if a == "BUILD" else a for a in arguments]
        status = run([sys.executable, str(script), *arguments], log, env)
        if status == 0:
            suite.passed += 1
            continue
        said = log.read_text(errors="replace").strip()
        outcome = suite.skipped if status == SKIPPED else suite.failed
        outcome.append([" ".join([script.name, *arguments]), said or how_it_ended(status)])
    return suite


def run_suite(kind: str, name: str, what: Path, build: Path, logs: Path) -> Suite:
    """Runs one suite: a binary inside `build`, or a Python file."""
    # Threads that wait asleep: spinning ones take four times as long where others use the machine.
    env = {"OMP_WAIT_POLICY": "passive"} | os.environ | {"REVERIE_BUILD_DIR": str(build)}
    start = time.monotonic()
    if kind == "gtest":
        suite = gtest_suite(name, build / what, logs, env)
    elif kind == "python":
        suite = python_suite(name, what, logs, env)
    else:
        suite = check_suite(name, what, logs, env)
    if not (suite.passed or suite.failed or suite.skipped):
        suite.failed.append(["(the suite)", "has no tests"])
    suite.seconds = time.monotonic() - start
    return suite


class Recorder(unittest.TextTestResult):
    """Counts successes too, which unittest itself does not."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.passed = 0

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        super().addSuccess(test)
        self.passed += 1


def run_unittest_file(file: Path, report: Path) -> int:
    """One Python test file, in a process of its own: its counts go to `report` as JSON."""
    sys.path.insert(0, str(file.parent))
    tests = unittest.defaultTestLoader.loadTestsFromName(file.stem)
    runner = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Recorder)
    result = runner.run(tests)
    failed = [[str(test), trace] for test, trace in result.failures + result.errors]
    failed += [[str(test), "passed, but was expected to fail"] for test in result.unexpectedSuccesses]
    counts = {
        "passed": result.passed + len(result.expectedFailures),
        "failed": failed,
        "skipped": [[str(test), reason] for test, reason in result.skipped],
    }
    report.write_text(json.dumps(counts))
    return 1 if failed else 0


def find_suites(rooms: list[str], kinds: list[str], build: Path) -> list[tuple[str, str, Path]]:
    """(kind, name, what to run) of every suite asked for, from the files that exist."""
    if not any((ROOT / "tests").rglob("test_*.cpp")):  # a bundle has binaries without their sources
        found = [("gtest", b.name.removeprefix("test_"), Path("tests") / b.name) for b in sorted((build / "tests").glob("test_*"))]
        return [suite for suite in found if "gtest" in kinds and (not rooms or suite[1] in rooms)]
    folders = sorted(f for f in (ROOT / "tests").iterdir() if f.is_dir())
    found: list[tuple[str, str, Path]] = []
    for folder in folders:
        if rooms and folder.name not in rooms:
            continue
        if "gtest" in kinds and any(folder.rglob("test_*.cpp")):
            found.append(("gtest", folder.name, Path("tests") / f"test_{folder.name}"))
        if "python" in kinds:
            for file in sorted(folder.glob("test_*.py")):
                found.append(("python", f"{folder.name}/{file.stem}", file))
    if "check" in kinds and not rooms:
        scripts = (ROOT / "scripts" / name for name in CHECKS)
        found += [("check", script.stem, script) for script in scripts if script.exists()]
    # Binaries first: what they find explains what fails after them.
    return sorted(found, key=lambda suite: KINDS.index(suite[0]))


def expect_gpu(suite: Suite) -> None:
    """On a machine with a GPU, a test that looks for one and skips has failed."""
    for skipped in [*suite.skipped]:
        test, why = skipped
        if re.search("cuda|gpu", f"{test} {why}", re.IGNORECASE) and not SKIPS_BESIDE_A_GPU.search(why):
            suite.skipped.remove(skipped)
            suite.failed.append([test, f"skipped, although there is a GPU: {why}"])


def show(suite: Suite, logs: Path) -> None:
    print(f"{suite.name:<28} {suite.counts()}  ({suite.seconds:.1f} s)", flush=True)
    for test, why in suite.failed:
        print(f"  FAILED {test}")
        lines = why.splitlines()
        for line in lines[-40:]:
            print(f"    {line}")
    log = logs / f"{suite.name.replace('/', '.')}.log"
    if suite.failed and log.exists():
        print(f"  its output: {log}", flush=True)
        if any(test.startswith("(") or why.startswith(("exit", "ended")) for test, why in suite.failed):
            for line in log.read_text(errors="replace").splitlines()[-30:]:
                print(f"    | {line}")


def totals(suites: list[Suite]) -> tuple[int, int, int]:
    return (
        sum(s.passed for s in suites),
        sum(len(s.failed) for s in suites),
        sum(len(s.skipped) for s in suites),
    )


def finish(suites: list[Suite]) -> int:
    """The skipped tests by reason, then the line that counts; the exit status."""
    reasons: dict[str, list[str]] = {}
    for suite in suites:
        for test, reason in suite.skipped:
            reasons.setdefault(reason, []).append(f"{suite.name}: {test}")
    for reason, tests in sorted(reasons.items()):
        print(f"\nskipped ({len(tests)}): {reason}")
        for test in tests:
            print(f"  {test}")
    passed, failed, skipped = totals(suites)
    print(f"\n{counts_line(passed, failed, skipped)}", flush=True)
    return 1 if failed or not suites else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0],
        epilog="exit status: 0 everything passed or was skipped; 1 something failed; 2 wrong usage",
    )
    parser.add_argument("--build", type=Path, metavar="DIR", help="build folder (build/release)")
    parser.add_argument("--room", action="append", default=[], help="only tests/ROOM (repeatable)")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="only this kind")
    parser.add_argument("--expect-gpu", action="store_true", help="a test that skips for want of a GPU has failed")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="where the suites' output goes (test-logs in the build folder)")
    parser.add_argument("--label", default="", help="put before the suites' names in --summary")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the counts as JSON")
    parser.add_argument("--total", type=Path, nargs="+", metavar="FILE",
                        help="run nothing: add up what --summary wrote")
    parser.add_argument("--unittest", type=Path, nargs=2, metavar=("FILE", "REPORT"),
                        help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.unittest and not options.total and not options.build:
        parser.error("wanted --build DIR (or --total FILE...)")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.unittest:
        return run_unittest_file(*options.unittest)
    if options.total:
        suites = [Suite(**s) for file in options.total for s in json.loads(file.read_text())]
        return finish(suites)

    build = options.build.resolve()
    logs = (options.logs or build / "test-logs").resolve()
    logs.mkdir(parents=True, exist_ok=True)
    found = find_suites(options.room, options.kind or list(KINDS), build)
    if not found:
        print(f"run_tests.py: no suite matches --room {' '.join(options.room)}", file=sys.stderr)
        print(counts_line(0, 1, 0))
        return 1
    suites = []
    for kind, name, what in found:
        suite = run_suite(kind, name, what, build, logs)
        if options.expect_gpu:
            expect_gpu(suite)
        show(suite, logs)
        suites.append(suite)
    if options.summary:
        label = f"{options.label} " if options.label else ""
        records = [asdict(suite) | {"name": label + suite.name} for suite in suites]
        options.summary.write_text(json.dumps(records, indent=1))
    return finish(suites)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
