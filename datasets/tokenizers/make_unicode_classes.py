#!/usr/bin/env python3
"""Write datasets/tokenizers/unicode_classes.cpp: the code points of \\p{L} and \\p{N} that GPT-2's split sees.

    python3 datasets/tokenizers/make_unicode_classes.py

Needs the Python package `tiktoken` 0.14 or a later one with the same Unicode version. Regular
expression libraries each carry their own Unicode version (PCRE2 10.42: 14, tiktoken 0.14: 16, the
`regex` package of late 2026: a later one), and a text with a young letter splits differently under
each. Tokens must not depend on which library a machine has, so the classes are pinned here, as
tiktoken 0.14 has them: Unicode 16.0.
"""

import pathlib
import sys

import tiktoken

UNICODE_VERSION = "16.0"
# Letters that came with Unicode 16.0 and with 17.0: proof of which version the library carries.
FIRST_OF_16, FIRST_OF_17 = 0x10D4A, 0x323B0


def members(unicode_class: str) -> list[int]:
    """Code points that one class matches: an encoding drops what its pattern does not match."""
    probe = tiktoken.Encoding(
        name="probe",
        pat_str=unicode_class,
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={},
    )
    points = (c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
    return [c for c in points if probe.encode_ordinary(chr(c))]


def ranges(points: list[int]) -> list[tuple[int, int]]:
    out: list[list[int]] = []
    for point in points:
        if out and out[-1][1] == point - 1:
            out[-1][1] = point
        else:
            out.append([point, point])
    return [(first, last) for first, last in out]


def table(name: str, points: list[int]) -> str:
    entries = [f"{{0x{first:X}, 0x{last:X}}}," for first, last in ranges(points)]
    lines, line = [], "   "
    for entry in entries:
        if len(line) + 1 + len(entry) > 100:
            lines.append(line)
            line = "   "
        line += f" {entry}"
    lines.append(line)
    return f"constexpr CodePoints {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def main() -> int:
    letters, numbers = members(r"\p{L}"), members(r"\p{N}")
    if FIRST_OF_16 not in letters or FIRST_OF_17 in letters:
        print(f"this tiktoken {tiktoken.__version__} is not of Unicode {UNICODE_VERSION}", file=sys.stderr)
        return 1
    spaces = members(r"\s")
    text = f"""// Written by datasets/tokenizers/make_unicode_classes.py; not to be edited by hand.
#include "datasets/tokenizers/unicode_classes.h"

#include <vector>

namespace reverie {{

namespace {{

struct CodePoints {{
  uint32_t first, last;
}};

// \\p{{L}}, Unicode {UNICODE_VERSION}: {len(letters)} code points.
{table("kLetters", letters)}
// \\p{{N}}, Unicode {UNICODE_VERSION}: {len(numbers)} code points.
{table("kNumbers", numbers)}
// \\s as Python's `regex` and Rust have it, the White_Space property: without U+001C..U+001F and U+180E.
{table("kSpaces", spaces)}
// Above it, nothing is a letter, a number or a space.
constexpr uint32_t kEnd = 0x{max(letters + numbers + spaces) + 1:X};

std::vector<CharacterClass> make_classes() {{
  std::vector<CharacterClass> classes(kEnd, CharacterClass::other);
  const auto mark = [&](const auto& ranges, CharacterClass value) {{
    for (const CodePoints& range : ranges)
      for (uint32_t point = range.first; point <= range.last; ++point) classes[point] = value;
  }};
  mark(kLetters, CharacterClass::letter);
  mark(kNumbers, CharacterClass::number);
  mark(kSpaces, CharacterClass::space);
  return classes;
}}

}}  // namespace

CharacterClass character_class(uint32_t point) {{
  static const std::vector<CharacterClass> classes = make_classes();
  return point < kEnd ? classes[point] : CharacterClass::other;
}}

}}  // namespace reverie
"""
    target = pathlib.Path(__file__).resolve().parent / "unicode_classes.cpp"
    target.write_text(text)
    print(f"{len(letters)} letters, {len(numbers)} numbers, {len(spaces)} spaces -> {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
