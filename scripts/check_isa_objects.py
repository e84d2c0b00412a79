#!/usr/bin/env python3
"""Fails if an object compiled for AVX2 or AVX-512 defines a function that the linker may share with other objects.

usage: check_isa_objects.py BUILD_DIR

kernels/cpu/isa/*.cpp are compiled once per instruction set. An inline function or template that they share with the rest of
the program is emitted as a weak symbol by each object, and the linker keeps ONE copy for all callers: were it the AVX-512
one, the program would die on machines without AVX-512, in code far from any kernel. So all they emit must live in
namespace reverie::cpu::<instruction set>, be static, or be inlined always.
"""

import pathlib
import re
import subprocess
import sys

INSTRUCTION_SETS = ("avx2", "avx512")
ALLOWED = set()  # weak functions that may stand outside the namespace, each with its reason: none so far


def weak_functions(listing):
    """The names of weak functions in the output of `nm -C`. V and u are data: tables of kernels, type information."""
    return [line.split(" W ", 1)[1] for line in listing.splitlines() if " W " in line]


def offenders(listing, instruction_set):
    """Weak functions that do not belong to `instruction_set`, wherever that namespace stands in a template's arguments."""
    namespace = re.compile(rf"^(\S.* )?reverie::cpu::{instruction_set}::")
    return [name for name in weak_functions(listing) if not namespace.match(name) and name not in ALLOWED]


def self_test():
    listing = "\n".join([
        "0000000000000000 W float reverie::cpu::avx2::larger<float>(float, float)",
        "0000000000000000 W void reverie::cpu::avx2::run(long)",
        "0000000000000000 W std::vector<int>::size() const",
        "0000000000000000 W reverie::Tensor::defined() const",
        "0000000000000000 W reverie::cpu::avx512::lost()",
        "0000000000000000 V typeinfo for reverie::Error",
        "0000000000000000 t reverie::cpu::local()",
        "                 U reverie::cpu::view(reverie::Tensor const&)",
    ])
    found = offenders(listing, "avx2")
    wanted = ["std::vector<int>::size() const", "reverie::Tensor::defined() const", "reverie::cpu::avx512::lost()"]
    if found != wanted:
        sys.exit(f"check_isa_objects.py: its own test failed: found {found}, wanted {wanted}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    self_test()
    build = pathlib.Path(sys.argv[1])
    wrong = count = 0
    for instruction_set in INSTRUCTION_SETS:
        objects = sorted(build.glob(f"kernels/CMakeFiles/reverie_kernels_{instruction_set}.dir/**/*.o"))
        if not objects:
            sys.exit(f"check_isa_objects.py: no {instruction_set} objects under {build}; build the target reverie_kernels first")
        for path in objects:
            count += 1
            listing = subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout
            for name in offenders(listing, instruction_set):
                wrong += 1
                print(f"{path.relative_to(build)}: weak function outside reverie::cpu::{instruction_set}: {name}")
    if wrong:
        sys.exit(f"{wrong} functions compiled for one instruction set may be linked into code for every machine")
    print(f"{count} objects define no shared functions")


if __name__ == "__main__":
    main()
