#!/usr/bin/env python3
"""Shows which objects a build spent its time on, and which grew slow, from ninja's log.

    scripts/check_build_time.py                     the log of build/release
    scripts/check_build_time.py build/asan --most 20
    scripts/check_build_time.py --write             writes the table from this log, to be looked at and committed
    scripts/check_build_time.py --self-test         proves that a slow object is seen

Prints the slowest objects, the seconds of each class of objects (a room, an instruction set, a test binary), and every
object that takes more than twice what scripts/build_times.json allows its class; exit code 1 if there is any. Machines
and the load on them differ, so that the table is scaled: by the median, over all classes, of this log's median object
beside the table's. An object's seconds are from its start to its end in a build from scratch with nothing else running;
objects from ccache say nothing.

Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "scripts/build_times.json"
ALLOWED = 2.0  # times the slowest object of the class
AT_LEAST = 5.0  # seconds, scaled: quicker objects are never named


def class_of(target: str) -> str:
    """Where an object belongs: "kernels/avx512", "trainers", "tests/test_layers"."""
    directory = re.search(r"([^/]+)\.dir/", target)
    room = target.split("/")[0]
    name = directory[1].removeprefix("reverie_") if directory else room
    if target.endswith(".gch"):
        return "precompiled headers"
    if room == "kernels" and "_" in name:
        return "kernels/" + name.split("_", 1)[1]
    return f"tests/{name}" if room == "tests" else room


def read_log(file: Path) -> dict[str, float]:
    """Seconds by object. Ninja appends; the last line of an object counts."""
    seconds = {}
    for line in file.read_text().splitlines():
        columns = line.split("\t")
        if len(columns) == 5 and columns[3].endswith((".o", ".gch")):
            seconds[columns[3]] = (int(columns[1]) - int(columns[0])) / 1000
    return seconds


def by_class(objects: dict[str, float]) -> dict[str, list[float]]:
    classes: dict[str, list[float]] = {}
    for target, seconds in objects.items():
        classes.setdefault(class_of(target), []).append(seconds)
    return classes


def table_of(objects: dict[str, float]) -> dict:
    return {name: {"objects": len(all_), "seconds": round(sum(all_), 1), "median": round(median(all_), 2),
                   "slowest": round(max(all_), 1)} for name, all_ in sorted(by_class(objects).items())}


def scale_of(objects: dict[str, float], table: dict) -> float:
    """How much slower this build's machine was than the table's."""
    ratios = [median(all_) / table[name]["median"] for name, all_ in by_class(objects).items()
              if name in table and len(all_) >= 3 and table[name]["median"] > 0]
    return median(ratios) if ratios else 1.0


def too_slow(objects: dict[str, float], table: dict) -> list[str]:
    scale = scale_of(objects, table)
    lines = []
    for target, seconds in sorted(objects.items(), key=lambda item: -item[1]):
        name = class_of(target)
        if name not in table:
            continue
        most = ALLOWED * scale * max(table[name]["slowest"], AT_LEAST / ALLOWED)
        if seconds > most:
            lines.append(f"{target}: {seconds:.1f} s, more than {most:.1f} s ({ALLOWED:.0f} times the slowest of "
                         f"{name} in {TABLE.name}, on a machine {scale:.2f} times as slow)")
    return lines


def report(objects: dict[str, float], most: int) -> str:
    lines = [f"{len(objects)} objects, {sum(objects.values()):.0f} object-seconds", ""]
    for name, row in sorted(table_of(objects).items(), key=lambda item: -item[1]["seconds"]):
        lines.append(f"  {row['seconds']:7.1f} s  {row['objects']:4d} objects  slowest {row['slowest']:5.1f} s  {name}")
    lines += ["", "slowest:"]
    for target, seconds in sorted(objects.items(), key=lambda item: -item[1])[:most]:
        lines.append(f"  {seconds:7.1f} s  {target}")
    return "\n".join(lines)


def self_test() -> None:
    fast = {f"trainers/CMakeFiles/reverie_trainers.dir/{i}.cpp.o": 4.0 + i / 10 for i in range(5)}
    fast |= {f"kernels/CMakeFiles/reverie_kernels_avx512.dir/cpu/isa/{i}.cpp.o": 8.0 for i in range(3)}
    table = table_of(fast)
    assert set(table) == {"trainers", "kernels/avx512"}, table
    assert not too_slow(fast, table)
    slower_machine = {target: 3 * seconds for target, seconds in fast.items()}
    assert not too_slow(slower_machine, table), "a slow machine is no slow object"
    one_slow = dict(slower_machine)
    one_slow["trainers/CMakeFiles/reverie_trainers.dir/2.cpp.o"] = 60.0
    assert len(too_slow(one_slow, table)) == 1, "an object of 60 s in a class of 13 s was not seen"
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / ".ninja_log"
        log.write_text("# ninja log v5\n1000\t9000\t0\tcore/CMakeFiles/reverie_core.dir/a.cpp.o\t1\n"
                       "0\t2500\t0\tcore/CMakeFiles/reverie_core.dir/a.cpp.o\t1\n0\t10\t0\tcore/libreverie_core.so\t1\n")
        assert read_log(log) == {"core/CMakeFiles/reverie_core.dir/a.cpp.o": 2.5}
    print("check_build_time.py: a slow object is seen, a slow machine is not taken for one")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release", help="build directory (default: build/release)")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="slowest objects to print (default: 10)")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name} from this log")
    parser.add_argument("--self-test", action="store_true")
    a = parser.parse_args()
    if a.self_test:
        self_test()
        return 0
    log = Path(a.build) / ".ninja_log"
    if not log.is_file():
        sys.exit(f"check_build_time.py: there is no {log}: build with Ninja first (cmake --preset release)")
    objects = read_log(log)
    print(report(objects, a.most))
    if a.write:
        TABLE.write_text(json.dumps(table_of(objects), indent=1) + "\n")
        return 0
    slow = too_slow(objects, json.loads(TABLE.read_text())) if TABLE.is_file() else []
    for line in slow:
        print(f"too slow: {line}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
