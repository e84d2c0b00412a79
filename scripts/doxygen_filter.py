#!/usr/bin/env python3
"""Comments of the rooms' headers: /// above a declaration and ///< behind it document it; // is for other remarks. Doxygen also reads
those // comments of which --rewrite would make ///.

    scripts/doxygen_filter.py core/files.h      the header as Doxygen is to read it (docs/Doxyfile runs it on every file)
    scripts/doxygen_filter.py --check           prints the headers whose documenting comments are //; exit code 1 if there are any
    scripts/doxygen_filter.py --rewrite         makes /// and ///< of those
    scripts/doxygen_filter.py --self-test

Their text is plain: nothing in it is a command, a tag or a link, so the filter quotes what Doxygen would take for one. The block under
#pragma once documents the file. The count of lines stays.

Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["core", "kernels", "autograd", "layers", "datasets", "trainers"]
WHOLE_LINE = re.compile(r"^(\s*)//(?!/)( ?.*)$")
BEHIND = re.compile(r'^(\s*[^\s/](?:[^"/]|"(?:[^"\\]|\\.)*"|/(?!/))*?)(\s+)//(?!/)( .*)$')
DOCUMENTING = re.compile(r"^(.*?///<? ?)(.*)$")
MEANS_SOMETHING = re.compile(r"[\\@<>&#%$]|^\s*[.+*-](?=\s|$)|^\s*\.|(?<=[\s.])\.(?=[.\s]|$)")
# Doxygen cannot place specialisations for other namespaces, and instantiations.
NOT_FOR_DOXYGEN = re.compile(r"^extern template [^;]*;|^template <>\nstruct fmt::formatter<.*?\n};", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"\s*(NOLINT|clang-format|----)|.*----$")
NOT_DECLARED = ("#", "}", "public:", "private:", "protected:")
HOLDS_DECLARATIONS = re.compile(r"\b(namespace|struct|class|enum|union)\b|extern \"C\"\s*$")


def plain(text: str) -> str:
    return MEANS_SOMETHING.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], text)


def for_doxygen(source: str, name: str) -> str:
    source = NOT_FOR_DOXYGEN.sub(lambda match: "\n" * match[0].count("\n"), documented(source))
    out = []
    for line in source.split("\n"):
        comment = DOCUMENTING.match(line)
        if line.strip() == "#pragma once":
            line = f"/// @file {name}"
        elif comment:
            line = comment[1] + plain(comment[2])
        out.append(line)
    return "\n".join(out)


def without_text(line: str) -> str:
    """The line without comments, strings and characters."""
    return re.sub(r'//.*|"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)\'', lambda m: '""' if m[0][0] == '"' else "", line)


class Scopes:
    """Whether a line stands among declarations, or in a function's body."""

    def __init__(self) -> None:
        self.open: list[bool] = []  # of each brace: it holds declarations
        self.before = ""  # since the last ; { or }

    def declarations(self) -> bool:
        return all(self.open)

    def read(self, line: str) -> None:
        if line.lstrip().startswith("#"):
            return
        for part in re.split(r"([{};])", without_text(line)):
            if part == "{":
                head = re.sub(r"template\s*<[^{}]*?>(?=\s*(struct|class|union)\b)|alignas\s*\([^)]*\)|__attribute__\s*\(\(.*?\)\)", "", self.before)
                self.open.append(bool(HOLDS_DECLARATIONS.search(head)) and "(" not in head or head.strip().startswith("extern"))
            elif part == "}" and self.open:
                self.open.pop()
            self.before = "" if part in ("{", "}", ";") else self.before + " " + part


def documented(source: str) -> str:
    """The header with /// and ///< where a // comment documents a declaration."""
    lines, out, scopes, at = source.split("\n"), [], Scopes(), 0
    column = -1  # of the comment behind the line before
    while at < len(lines):
        line = lines[at]
        if block := WHOLE_LINE.match(line):
            end = at
            while end < len(lines) and (next_ := WHOLE_LINE.match(lines[end])) and next_[1] == block[1]:
                end += 1
            below = lines[end].strip() if end < len(lines) else ""
            above = out[-1].strip() if out else ""
            continues = len(block[1]) == column
            documents = above == "#pragma once" or (below and (below.startswith("#define") or not below.startswith(NOT_DECLARED)))
            while at < end and REMARK.match(lines[at].strip()[2:]):
                out.append(lines[at])
                at += 1
            if scopes.declarations() and (continues or documents) and not any(REMARK.match(l.strip()[2:]) for l in lines[at:end]):
                lines[at:end] = [block[1] + ("///<" if continues else "///") + WHOLE_LINE.match(l)[2] for l in lines[at:end]]
            out += lines[at:end]
            at, column = end, -1
            continue
        behind = BEHIND.match(line)
        column = -1
        among = scopes.declarations()
        scopes.read(line)
        if behind and among and not REMARK.match(behind[3]) and not line.lstrip().startswith(("#", "}", "namespace")):
            column = behind.end(2)
            line = f"{behind[1]}{behind[2]}///<{behind[3]}"
        out.append(line)
        at += 1
    return "\n".join(out)


def headers() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.h"))]


def check(rewrite: bool) -> int:
    found = 0
    for file in headers():
        source = file.read_text()
        wanted = documented(source)
        if wanted == source:
            continue
        found += 1
        print(f"{file.relative_to(ROOT)}: comments that document declarations are //" + (", rewritten" if rewrite else "; wanted ///"))
        if rewrite:
            file.write_text(wanted)
    print(f"doxygen_filter: {found} headers with // where /// is wanted" + ("" if rewrite or not found else "; run it with --rewrite"))
    return 0 if rewrite else int(found > 0)


def self_test() -> int:
    given = ("#pragma once\n// What it is, <b>.\n\nstruct A {  // first\n  int b = 1;    // a % of c,\n                // and more\n"
             "  // Does \\n.\n  void f();\n  // nothing below\n\n  std::string s = \"//\";\n  int g() {\n    // why\n    return 1;  // one\n  }\n};\n"
             "template <class T>\nT h(T x) {\n  // why\n  return x;\n}\n// ---- part ----\nint i;\n// Last.\nint j;\n")
    wanted = ("#pragma once\n/// What it is, <b>.\n\nstruct A {  ///< first\n  int b = 1;    ///< a % of c,\n                ///< and more\n"
              "  /// Does \\n.\n  void f();\n  // nothing below\n\n  std::string s = \"//\";\n  int g() {\n    // why\n    return 1;  // one\n  }\n};\n"
              "template <class T>\nT h(T x) {\n  // why\n  return x;\n}\n// ---- part ----\nint i;\n/// Last.\nint j;\n")
    got = documented(given)
    assert got == wanted, got
    assert documented(wanted) == wanted
    wanted = "/// @file a.h\n/// What it is, \\<b\\>.\nint b = 1;    ///< a \\% of c,\n// <b>\n"
    for mark in ("///", "//"):
        got = for_doxygen(f"#pragma once\n{mark} What it is, <b>.\nint b = 1;    ///< a % of c,\n// <b>\n", "a.h")
        assert got == wanted, got
    print("comments that document are found, others stay, and Doxygen reads plain text")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(self_test())
    if sys.argv[1:] in (["--check"], ["--rewrite"]):
        sys.exit(check(sys.argv[1] == "--rewrite"))
    sys.stdout.write(for_doxygen(Path(sys.argv[1]).read_text(), Path(sys.argv[1]).name))
