#!/usr/bin/env python3
"""Doxygen's input filter: reads the comments of our headers as documentation.

    scripts/doxygen_filter.py core/files.h      the header with /// and ///< (docs/Doxyfile runs it on every file)
    scripts/doxygen_filter.py --self-test

A block of // lines right above a declaration documents it, one behind a declaration documents that, and the block under
#pragma once documents the file. Their text is plain: nothing in it is a command, a tag or a link. The count of lines stays.

Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WHOLE_LINE = re.compile(r"^(\s*)//(?!/) ?(.*)$")
BEHIND = re.compile(r'^(\s*\S(?:[^"/]|"(?:[^"\\]|\\.)*"|/(?!/))*?[;,{}]?)(\s+)// (.*)$')
MEANS_SOMETHING = re.compile(r"[\\@<>&#%$]|^\s*[.+*-](?=\s|$)|^\s*\.|(?<=[\s.])\.(?=[.\s]|$)")
# Doxygen cannot place specialisations for other namespaces, and instantiations.
NOT_FOR_DOXYGEN = re.compile(r"^extern template [^;]*;|^template <>\nstruct fmt::formatter<.*?\n};", re.MULTILINE | re.DOTALL)


def plain(text: str) -> str:
    return MEANS_SOMETHING.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], text)


def document(source: str, name: str) -> str:
    source = NOT_FOR_DOXYGEN.sub(lambda match: "\n" * match[0].count("\n"), source)
    lines, out = source.split("\n"), []
    file_comment, column = False, -1  # of the comment behind the line before
    at = 0
    while at < len(lines):
        if lines[at].strip() == "#pragma once":
            out.append(f"/// @file {name}")
            file_comment, column, at = True, -1, at + 1
            continue
        if WHOLE_LINE.match(lines[at]):
            end = at
            indent = WHOLE_LINE.match(lines[at])[1]
            while end < len(lines) and (next_ := WHOLE_LINE.match(lines[end])) and next_[1] == indent:
                end += 1
            texts = [WHOLE_LINE.match(line) for line in lines[at:end]]
            below = lines[end].strip() if end < len(lines) else ""
            if len(indent) == column:  # goes on from behind the line before
                out += [f"{t[1]}///< {plain(t[2])}" for t in texts]
            elif file_comment and out[-1].startswith("/// @file"):
                out += [f"/// {plain(t[2])}" for t in texts]
            elif below and not below.startswith(("#", "}", "public:", "private:", "protected:")) and "----" not in texts[0][2]:
                out += [f"{t[1]}/// {plain(t[2])}" for t in texts]
            else:
                out += lines[at:end]
            at, column = end, -1
            continue
        behind = BEHIND.match(lines[at])
        if behind and not lines[at].lstrip().startswith(("#", "}", "namespace")):
            column = behind.end(2)
            out.append(f"{behind[1]}{behind[2]}///< {plain(behind[3])}")
        else:
            column = -1
            out.append(lines[at])
        at += 1
    return "\n".join(out)


def self_test() -> int:
    given = ("#pragma once\n// What it is, <b>.\n\nstruct A {  // first\n  int b = 1;    // a % of c,\n                // and more\n"
             "  // Does \\n.\n  void f();\n  // nothing below\n\n  std::string s = \"//\";\n};\n")
    wanted = ("/// @file a.h\n/// What it is, \\<b\\>.\n\nstruct A {  ///< first\n  int b = 1;    ///< a \\% of c,\n                ///< and more\n"
              "  /// Does \\\\n.\n  void f();\n  // nothing below\n\n  std::string s = \"//\";\n};\n")
    got = document(given, "a.h")
    assert got == wanted, got
    print("comments become documentation, and nothing else changes")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(self_test())
    sys.stdout.write(document(Path(sys.argv[1]).read_text(), Path(sys.argv[1]).name))
