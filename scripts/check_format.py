#!/usr/bin/env python3
"""Checks that C++ lines which changed since a commit are formatted as .clang-format says.

    scripts/check_format.py                      against HEAD~1, uncommitted changes included
    scripts/check_format.py --since main
    scripts/check_format.py --summary FILE       writes the counts as scripts/run_tests.py does
    scripts/check_format.py --self-test          proves that a badly formatted line is seen

Files are formatted as a whole by the pre-commit hook. Lines that nobody touched are not judged: versions of clang-format differ.
The last line is "N passed, N failed, N skipped", a file each; without clang-format or git, one that was skipped and why.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENDINGS = ("*.h", "*.cpp", "*.cu", "*.cuh")
GENERATED = re.compile(r"^// Written by \S+; not to be edited by hand", re.MULTILINE)


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def changed_lines(diff: str) -> dict[str, list[tuple[int, int]]]:
    """By file, the first and last line of each change, from `git diff -U0`."""
    lines: dict[str, list[tuple[int, int]]] = {}
    file = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            file = line[6:] if line.startswith("+++ b/") else ""
        elif file and (hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            if count:
                lines.setdefault(file, []).append((first, first + count - 1))
    return lines


def complaints(file: Path, lines: list[tuple[int, int]]) -> list[str]:
    """What clang-format would change in these lines."""
    text = file.read_text(errors="replace")
    if GENERATED.search(text[:2000]):
        return []
    ranges = [f"--lines={first}:{last}" for first, last in lines]
    done = subprocess.run(["clang-format", "--style=file", *ranges, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [done.stderr.strip()]
    was, wanted = text.splitlines(), done.stdout.splitlines()
    if was == wanted:
        return []
    first = next((i for i, (a, b) in enumerate(zip(was, wanted)) if a != b), min(len(was), len(wanted)))
    return [f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{first + 1}: not as clang-format writes it; run clang-format -i on the file"]


def check(since: str) -> tuple[int, list[str], str]:
    """-> files that are well formatted, complaints, why nothing was checked ("": something was)."""
    if not shutil.which("clang-format"):
        return 0, [], "clang-format is not installed (Debian: clang-format)"
    base = git("rev-parse", "--verify", "--quiet", f"{since}^{{commit}}")
    if base.returncode != 0:
        return 0, [], f"there is no commit {since} to compare with"
    lines = changed_lines(git("diff", "-U0", "--no-color", "--diff-filter=d", base.stdout.strip(), "--", *ENDINGS).stdout)
    said = {file: complaints(ROOT / file, where) for file, where in lines.items()}
    return sum(not c for c in said.values()), [line for c in said.values() for line in c], ""


def self_test() -> int:
    diff = "+++ b/core/a.h\n@@ -3,2 +4 @@\n+x\n@@ -9 +9,0 @@\n+++ /dev/null\n@@ -1 +0,0 @@\n+++ b/b.cpp\n@@ -0,0 +1,5 @@\n"
    assert changed_lines(diff) == {"core/a.h": [(4, 4)], "b.cpp": [(1, 5)]}, changed_lines(diff)
    if not shutil.which("clang-format"):
        print("clang-format is not installed; its part was not tried")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.cpp"
        shutil.copy(ROOT / ".clang-format", folder)
        file.write_text("int  a;\nint b;\n")
        assert complaints(file, [(1, 1)]), "a badly formatted line was not seen"
        assert not complaints(file, [(2, 2)]), "a line that nobody touched was judged"
        file.write_text("// Written by make.py; not to be edited by hand.\nint  a;\n")
        assert not complaints(file, [(2, 2)]), "a generated file was judged"
    print("a badly formatted line is seen")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="HEAD~1", metavar="COMMIT")
    parser.add_argument("--summary", type=Path, metavar="FILE")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    passed, failed, skipped = check(options.since)
    for line in failed:
        print(line)
    if skipped:
        print(f"skipped: {skipped}")
    if options.summary:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        record = {"name": "format of changed lines", "passed": passed, "failed": [[line, "clang-format"] for line in failed],
                  "skipped": [["every changed file", skipped]] if skipped else [], "seconds": 0}
        options.summary.write_text(json.dumps([record]))
    print(f"{passed} passed, {len(failed)} failed, {1 if skipped else 0} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
