#!/usr/bin/env python3
"""Runs clang-tidy (16 or newer, for std::source_location) with the checks of .clang-tidy over the rooms' headers, one
translation unit for each room.

    scripts/check_headers.py [--room NAME ...]   prints file:line: warning; exit code 1 if there are any, 77 without clang-tidy
    scripts/check_headers.py --summary FILE      writes the counts as scripts/run_tests.py does
    scripts/check_headers.py --self-test         proves that a warning in a header is found

All rooms take about 45 seconds on one core. The last line is "N passed, N failed, N skipped", a header each.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
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


def openmp_header(folder):
    """g++'s omp.h, alone in a folder, where clang has none of its own; what else lies beside it is not for clang."""
    have = subprocess.run(["g++", "-print-file-name=include/omp.h"], capture_output=True, text=True).stdout.strip()
    if not Path(have).is_absolute():
        return []
    (Path(folder) / "openmp").mkdir(exist_ok=True)
    text = re.sub(r"__malloc__ *\(\w+\)", "__malloc__", Path(have).read_text())  # gcc's attribute names the function that frees
    (Path(folder) / "openmp" / "omp.h").write_text(text)
    return [f"-idirafter{folder}/openmp"]


def headers_of(room):
    files = (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / room).rglob("*.h")))
    return [file for file in files if not ELSEWHERE.search(file)]


def warnings_of(tool, headers, folder, root=ROOT):
    """{header: [warning, ...]} of those that have any; what stands in no header of ours is under the file's own name."""
    unit = Path(folder) / "headers.cpp"
    unit.write_text("".join(f'#include "{header}"\n' for header in headers))
    command = [tool, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", str(unit), "--", "-std=c++20", f"-I{root}", "-fopenmp",
               "-DFMT_SHARED", "-DSPDLOG_FMT_EXTERNAL", "-DSPDLOG_SHARED_LIB", "-DSPDLOG_COMPILED_LIB", *openmp_header(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {}
    for line in done.stdout.splitlines():
        match = WARNING.match(line)
        if not match:
            continue
        try:
            file = Path(match["file"]).resolve().relative_to(root).as_posix()
        except ValueError:
            file = match["file"]  # an error in a library's header ends the check: show it
        found.setdefault(file, {})[f"{file}:{match['line']}: {match['text']}"] = None
    if done.returncode and not found:
        found[str(unit)] = {line: None for line in (done.stdout + done.stderr).splitlines()}
    return {file: list(warnings) for file, warnings in found.items()}


def self_test(tool):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        (root / "core").mkdir()
        (root / "core" / "bad.h").write_text("#pragma once\n#include <string>\ninline auto size(std::string by_value) { return by_value.size(); }\n")
        (root / "core" / "good.h").write_text("#pragma once\ninline int one() { return 1; }\n")
        found = warnings_of(tool, ["core/bad.h", "core/good.h"], folder, root)
        assert list(found) == ["core/bad.h"] and ":3: the parameter 'by_value' is copied" in found["core/bad.h"][0], found
        found = warnings_of(tool, ["core/none.h"], folder, root)
        assert found, "a header that is not there was not missed"
    print("a warning in a header, and a header that cannot be read, are found")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=ROOMS, help="only these (repeatable)")
    parser.add_argument("--summary", type=Path, metavar="FILE")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    tool, rooms = find_tool(), options.room or ROOMS
    missing = "" if tool else "no clang-tidy 16 or newer (Debian: clang-tidy-16)"
    failed, count, begin = {}, 0, time.monotonic()
    if options.self_test:
        if tool:
            return self_test(tool)
        print(f"skipped: {missing}")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        for room in rooms if tool else []:
            headers = headers_of(room)
            found = warnings_of(tool, headers, folder)
            count += len(headers)
            failed.update(found)
            lines = [line for warnings in found.values() for line in warnings]
            print("\n".join([*lines, f"{room}: {len(headers)} headers, {len(lines)} warnings"]), flush=True)
    if missing:
        print(f"skipped: {missing}")
    passed = max(0, count - len(failed))
    if options.summary:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        record = {"name": "headers by clang-tidy", "passed": passed, "failed": [[file, warnings[0]] for file, warnings in failed.items()],
                  "skipped": [["every header", missing]] if missing else [], "seconds": time.monotonic() - begin}
        options.summary.write_text(json.dumps([record]))
    print(f"{passed} passed, {len(failed)} failed, {1 if missing else 0} skipped")
    return 77 if missing else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
