#!/usr/bin/env python3
"""Checks what ptxas says of each CUDA kernel: no spills, and no more registers and shared memory than the table allows.

    cmake --preset cuda -DREVERIE_PTXAS_REPORT=ON && cmake --build --preset cuda --target reverie_kernels 2>&1 | tee build.log
    scripts/check_ptxas.py build.log           prints what is over its limit; exit code 1 if anything is
    scripts/check_ptxas.py build.log --write   writes the table from what the log says, to be looked at and committed
    scripts/check_ptxas.py --self-test         proves that each rule catches a violation

The table, kernels/cuda/ptxas_limits.json, has a line a kernel: the most of its instantiations and architectures. A stack frame
that is no spill (an array that is indexed) counts too, and stands in the table where it is meant. A build that had nothing to
compile says nothing: remove the objects first.

Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "kernels/cuda/ptxas_limits.json"
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
KEYS = ("registers", "shared", "stack")


def demangle(names: list[str]) -> dict[str, str]:
    out = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    return dict(zip(names, out.splitlines()))


def kernel_of(signature: str) -> str:
    """The name of a kernel without namespace, template arguments and parameters."""
    plain = signature.replace("(anonymous namespace)", "anonymous")
    return re.split(r"[<(]", plain.removeprefix("void "), maxsplit=1)[0].split("::")[-1]


def read_log(text: str) -> list[dict]:
    """One record an instantiation and architecture: symbol, architecture, registers, shared, stack, spills."""
    records, entry, frame = [], None, None
    for line in text.splitlines():
        if found := ENTRY.search(line):
            entry, frame = found.groups(), None
        elif found := PROPERTIES.search(line):
            frame = () if entry and found[1] == entry[0] else None
        elif (found := FRAME.search(line)) and frame == ():
            frame = tuple(int(n) for n in found.groups())
        elif (found := USED.search(line)) and entry and frame:
            records.append({"symbol": entry[0], "architecture": entry[1], "registers": int(found[1]),
                            "shared": int(found[2] or 0), "stack": frame[0], "spills": frame[1] + frame[2]})
            entry = None
    return records


def most_of(records: list[dict], names: dict[str, str]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for r in records:
        row = table.setdefault(kernel_of(names[r["symbol"]]), dict.fromkeys(KEYS, 0))
        for key in KEYS:
            row[key] = max(row[key], r[key])
    return dict(sorted(table.items()))


def violations(records: list[dict], names: dict[str, str], limits: dict[str, dict[str, int]]) -> list[str]:
    wrong = []
    for r in records:
        signature, kernel = names[r["symbol"]], kernel_of(names[r["symbol"]])
        if r["spills"]:
            wrong.append(f"{r['architecture']}: spills {r['spills']} bytes: {signature}")
        if kernel not in limits:
            wrong.append(f"{r['architecture']}: not in the table: {signature}")
            continue
        wrong += [f"{r['architecture']}: {key} {r[key]}, the table allows {limits[kernel][key]}: {signature}"
                  for key in KEYS if r[key] > limits[kernel][key]]
    return wrong


def self_test() -> int:
    def log(symbol: str, registers: int, shared: int, stack: int, spills: int) -> str:
        return (f"ptxas info    : Compiling entry function '{symbol}' for 'sm_90'\n"
                f"ptxas info    : Function properties for {symbol}\n"
                f"    {stack} bytes stack frame, {spills} bytes spill stores, {spills} bytes spill loads\n"
                f"ptxas info    : Used {registers} registers, used 1 barriers, {shared} bytes smem, 400 bytes cmem[0]\n")

    limits = {"good": {"registers": 40, "shared": 128, "stack": 0}}
    cases = [((40, 128, 0, 0), 0), ((41, 128, 0, 0), 1), ((40, 129, 0, 0), 1), ((40, 128, 8, 0), 1), ((40, 128, 0, 4), 1)]
    for numbers, wanted in cases:
        records = read_log(log("good", *numbers))
        found = violations(records, {"good": "void reverie::cuda::good<float, 4>(float const*)"}, limits)
        if len(records) != 1 or len(found) != wanted:
            print(f"check_ptxas: self-test: {numbers} gave {found}")
            return 1
    stranger = read_log(log("new", 1, 0, 0, 0))
    if len(violations(stranger, {"new": "reverie::cuda::(anonymous namespace)::fresh(int)"}, limits)) != 1:
        print("check_ptxas: self-test: a kernel outside the table was not caught")
        return 1
    print(f"check_ptxas: self-test: {len(cases) + 1} cases judged rightly")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("log", nargs="?", type=Path, help="output of a build with -DREVERIE_PTXAS_REPORT=ON")
    parser.add_argument("--write", action="store_true", help="write the table from the log")
    parser.add_argument("--self-test", action="store_true", help="prove that each rule catches a violation")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if not arguments.log:
        parser.error("wanted the log of a build")
    records = read_log(arguments.log.read_text(errors="replace"))
    if not records:
        print(f"check_ptxas: {arguments.log} says nothing of kernels: was it a build with -DREVERIE_PTXAS_REPORT=ON, "
              "and was anything compiled?")
        return 1
    names = demangle([r["symbol"] for r in records])
    if arguments.write:
        rows = [f'  "{kernel}": {json.dumps(row)}' for kernel, row in most_of(records, names).items()]
        TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    wrong = violations(records, names, json.loads(TABLE.read_text()))
    for line in wrong:
        print(line)
    print(f"check_ptxas: {len(records)} kernels, {len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
