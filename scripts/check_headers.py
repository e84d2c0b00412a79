#!/usr/bin/env python3
"""Runs clang-tidy (16 or newer, for std::source_location) with the checks of .clang-tidy over the rooms' headers, one
translation unit for each room.

    scripts/check_headers.py [--room NAME ...]   prints file:line: warning; exit code 1 if there are any, 77 without clang-tidy
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["core", "kernels", "autograd", "layers", "datasets", "trainers"]
# Compiled once for each instruction set with macros of its own, or in CUDA, or behind headers of MPI and NCCL.
ELSEWHERE = re.compile(r"kernels/cpu/isa/|kernels/cuda/|trainers/distributed/(mpi|nccl)/|_cuda\.h$")
WARNING = re.compile(r"^(?P<file>[^:\s]+):(?P<line>\d+):\d+: (?:warning|error): (?P<text>.*)$")


def find_tool():
    for version in range(25, 15, -1):
        if path := shutil.which(f"clang-tidy-{version}"):
            return path
    path = shutil.which("clang-tidy")
    if path:
        found = re.search(r"version (\d+)", subprocess.run([path, "--version"], capture_output=True, text=True).stdout)
        if found and int(found[1]) >= 16:
            return path
    return None


def headers_of(room):
    files = (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / room).rglob("*.h")))
    return [file for file in files if not ELSEWHERE.search(file)]


def warnings_of(tool, room, folder):
    unit = Path(folder) / f"{room}.cpp"
    unit.write_text("".join(f'#include "{header}"\n' for header in headers_of(room)))
    command = [tool, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", str(unit), "--", "-std=c++20", f"-I{ROOT}", "-fopenmp",
               "-DFMT_SHARED", "-DSPDLOG_FMT_EXTERNAL", "-DSPDLOG_SHARED_LIB", "-DSPDLOG_COMPILED_LIB"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {}
    for line in done.stdout.splitlines():
        match = WARNING.match(line)
        if not match:
            continue
        try:
            file = Path(match["file"]).resolve().relative_to(ROOT).as_posix()
        except ValueError:
            file = match["file"]  # an error in a library's header ends the check: show it
        found[f"{file}:{match['line']}: {match['text']}"] = None
    return list(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=ROOMS, help="only these (repeatable)")
    arguments = parser.parse_args()
    tool = find_tool()
    if tool is None:
        print("check_headers: skipped, no clang-tidy 16 or newer (Debian: clang-tidy-16)", file=sys.stderr)
        return 77
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for room in arguments.room or ROOMS:
            found = warnings_of(tool, room, folder)
            count += len(found)
            print("\n".join([*found, f"{room}: {len(headers_of(room))} headers, {len(found)} warnings"]), flush=True)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
