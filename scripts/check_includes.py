#!/usr/bin/env python3
"""Checks that every #include line respects the rooms: who may include whom, and who sees CUDA, NCCL or MPI.

    scripts/check_includes.py              prints violations as file:line; exit code 1 if there are any
    scripts/check_includes.py --self-test  proves that each rule catches a violation
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

# Each room may include itself and these. Tests may include everything.
ROOMS = {
    "core": [],
    "kernels": ["core"],
    "autograd": ["core", "kernels"],
    "layers": ["core", "kernels", "autograd"],
    "datasets": ["core"],
    "trainers": ["core", "kernels", "autograd", "layers", "datasets"],
}
# Inside trainers: each room may include itself and those above it in this list, but for those it names.
TRAINERS = ["text", "distributed", "optimizers", "runs", "probes", "evaluation", "generation", "exporting", "training",
            "monitoring", "reports", "checks", "benchmarks", "tables", "serving", "cli"]
NOT_BELOW = {
    "reports": ["distributed", "optimizers", "runs", "probes", "evaluation", "generation", "exporting", "training", "monitoring"],  # knows no run
    "training": ["exporting"],
    "monitoring": ["exporting"],
    "serving": ["optimizers", "exporting", "training", "monitoring", "reports", "checks", "benchmarks",
                "tables"],
}
# (what, headers, where they may stand)
OUTSIDERS = [
    ("CUDA", r"(cuda|cublas|cudnn|curand|cusparse|cusolver|nvrtc|nvml|nvtx|nvToolsExt|driver_types|"
             r"device_launch_parameters|vector_types|mma\.h)",
     r"kernels/cuda/|core/[^/]*_cuda\."),
    ("NCCL", r"nccl", r"trainers/distributed/"),
    ("MPI", r"(mpi\.h|mpicxx|openmpi/|mpi/)", r"trainers/distributed/"),
    ("cpp-httplib", r"httplib\.h", r"trainers/serving/http_server\.cpp"),
    ("CUB, Thrust or cooperative groups (the emulation has none)", r"(cub/|thrust/|cooperative_groups)", None),
]
SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh", ".inl"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def rooms_below(room):
    """The rooms of trainers that `room` of trainers may include, besides itself."""
    below = TRAINERS[:TRAINERS.index(room)]
    return [other for other in below if other not in NOT_BELOW.get(room, [])]


def why_not_in_trainers(room, target):
    """The rule that a file of trainers/`room` breaks by including one of trainers/`target`, or None."""
    for name in (room, target):
        if name not in TRAINERS:
            return f"trainers/{name} is no room: TRAINERS in scripts/check_includes.py lists them"
    if target == room or target in rooms_below(room):
        return None
    return f"trainers/{room} may include {', '.join(rooms_below(room)) or 'no other room'} of trainers, not {target}"


def why_not(root, file, quote, header):
    """The rule that `#include header` in `file` breaks, or None. `file` is relative to `root`."""
    for what, headers, allowed in OUTSIDERS:
        if re.match(headers, header) and not (allowed and re.match(allowed, file)):
            return f"only {allowed} may see {what}" if allowed else f"nobody may include {what}"
    room, target = file.split("/")[0], header.split("/")[0]
    if room not in ROOMS:
        return None
    if target in ROOMS and "/" in header:
        if target != room and target not in ROOMS[room]:
            return f"{room} may include {', '.join(ROOMS[room]) or 'no other room'}, not {target}"
        if quote == "<":
            return "our own headers are included with quotes"
        if room == target == "trainers":
            return why_not_in_trainers(file.split("/")[1], header.split("/")[1])
    elif target == "tests":
        return "no room may include tests"
    elif quote == '"' and ((root / file).parent / header).is_file():  # else the build generates it
        return 'our own headers are included by room path ("core/error.h")'
    return None


def violations(root):
    for top in [*ROOMS, "tests"]:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            file = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                found = INCLUDE.match(line)
                reason = found and why_not(root, file, found[1], found[2])
                if reason:
                    yield f"{file}:{number}", found[2], reason


def self_test():
    bad = {
        "core/a.h": '#include "kernels/kernel.h"',
        "kernels/b.cpp": '#include "autograd/variable.h"',
        "autograd/c.h": '  #  include "layers/module.h"',
        "layers/d.cpp": '#include "trainers/training/loop.h"',
        "layers/e.cpp": '#include "datasets/tokenizers/tokenizer.h"',
        "datasets/f.cpp": '#include "kernels/kernel.h"',
        "trainers/training/g.cpp": '#include "tests/op_cases.h"',
        "trainers/training/h.cpp": '#include "loop.h"',
        "trainers/training/i.cpp": "#include <core/error.h>",
        "layers/j.cpp": "#include <cuda_runtime.h>",
        "core/allocator.cpp": "#include <cuda_runtime_api.h>",
        "tests/kernels/k.cpp": "#include <cublas_v2.h>",
        "trainers/training/l.cpp": "#include <nccl.h>",
        "kernels/cuda/m.cu": "#include <mpi.h>",
        "kernels/cuda/n.cu": "#include <cub/cub.cuh>",
        "trainers/serving/v.cpp": "#include <httplib.h>",
    }
    good = {
        "core/o.cpp": '#include "core/error.h"\n#include <vector>\n// #include "kernels/kernel.h"',
        "core/allocator_cuda.cpp": "#include <cuda_runtime.h>",
        "kernels/cuda/p.cu": '#include <cublas_v2.h>\n#include "kernels/cuda/device.cuh"',
        "trainers/distributed/q.cpp": "#include <mpi.h>\n#include <nccl.h>",
        "trainers/training/loop.h": "#include <vector>",
        "trainers/serving/http_server.cpp": "#include <httplib.h>",
        "core/generated.cpp": '#include "build_commit.h"',
        "trainers/training/r.cpp": '#include "datasets/tokenizers/tokenizer.h"\n#include "layers/module.h"',
        "tests/layers/s.cpp": '#include "op_cases.h"\n#include "trainers/training/loop.h"',
    }
    bad["trainers/loop/t.cpp"] = '#include "trainers/text/html.h"'  # no room
    bad["trainers/training/u.cpp"] = '#include "trainers/loop/t.h"'
    for room in TRAINERS:  # every arrow that runs up, and every one that runs down
        for other in TRAINERS:
            allowed = other == room or other in rooms_below(room)
            (good if allowed else bad)[f"trainers/{room}/to_{other}.cpp"] = f'#include "trainers/{other}/a.h"'
    ups = [("distributed", "optimizers"), ("optimizers", "runs"), ("runs", "evaluation"), ("evaluation", "training"),
           ("training", "monitoring"), ("monitoring", "tables"), ("tables", "cli"), ("reports", "runs")]
    assert all(f"trainers/{lower}/to_{upper}.cpp" in bad for lower, upper in ups)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, text in {**bad, **good}.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("#pragma once\n" + text + "\n")
        found = {place for place, _, _ in violations(root)}
    wanted = {f"{file}:2" for file in bad}
    for place in sorted(wanted - found):
        print(f"check_includes: self-test: {place} was not caught")
    for place in sorted(found - wanted):
        print(f"check_includes: self-test: {place} was refused wrongly")
    print(f"check_includes: self-test: {len(wanted & found)} of {len(wanted)} violations caught")
    return 0 if found == wanted else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--self-test", action="store_true", help="prove that each rule catches a violation")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    found = list(violations(arguments.root))
    for place, header, reason in found:
        print(f"{place}: includes {header}: {reason}")
    print(f"check_includes: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
