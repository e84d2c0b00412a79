#!/usr/bin/env python3
"""Finds types of one full name in two files of the rooms.

    scripts/check_names.py               exit status 1 and the places, where there are any
    scripts/check_names.py --self-test   proves that one is found

A program with two different types of one name is undefined (the one-definition rule): the linker keeps one destructor
of the two and says nothing. A type of a single source belongs into an anonymous namespace.

Standard library only.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "kernels", "autograd", "layers", "datasets", "trainers")
ENDINGS = (".h", ".cuh", ".cpp", ".cu")


def types_of(text: str) -> list[str]:
    """Full names of the types that `text` defines in named namespaces, at the beginning of a line."""
    inside: list[str] = []
    found = []
    for line in text.splitlines():
        if opens := re.match(r"(?:inline )?namespace ?([\w:]*) ?\{", line):
            inside.append(opens[1])
        elif re.match(r"\}  // namespace", line) and inside:
            inside.pop()
        elif (named := re.match(r"(?:struct|class) ([A-Z]\w*)(?: final)?(?: :[^:]|\s*\{)", line)) and "" not in inside:
            found.append("::".join([*inside, named[1]]))
    return found


def shared_names(files: dict[str, str]) -> dict[str, list[str]]:
    """Names that several of `files` (text by path) define, with those files."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, text in files.items():
        for name in types_of(text):
            places[name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def self_test() -> int:
    a = "namespace reverie {\nstruct Report final : Base {\n};\nnamespace {\nstruct Own {\n};\n}  // namespace\n}  // namespace reverie\n"
    b = "namespace reverie {\nclass Report {\n};\nstruct Own;\nnamespace inner {\nstruct Base {\n};\n}  // namespace inner\n}  // namespace reverie\n"
    found = shared_names({"a.h": a, "b.h": b})
    if found != {"reverie::Report": ["a.h", "b.h"]}:
        print(f"check_names: the self-test found {found}")
        return 1
    print("check_names: a type of two files is found")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="prove that a type of two files is found")
    if parser.parse_args().self_test:
        return self_test()
    files = {
        str(file.relative_to(ROOT)): file.read_text()
        for room in ROOMS
        for file in sorted((ROOT / room).rglob("*"))
        if file.suffix in ENDINGS
    }
    shared = shared_names(files)
    for name, paths in sorted(shared.items()):
        print(f"{name} is defined in {' and in '.join(paths)}: rename one, or put it into an anonymous namespace")
    print(f"check_names: {len(files)} files, {len(shared)} types of one name")
    return 1 if shared else 0


if __name__ == "__main__":
    sys.exit(main())
