#!/usr/bin/env python3
"""Write datasets/tokenizers/pipeline/unicode_composition_data.cpp: what Unicode's composed form (NFC)
is computed from.

    python3 datasets/tokenizers/pipeline/make_unicode_composition.py

Needs the Python package `unicodedata2` 16.0.0: Unicode 16.0, which the character classes are pinned
to as well. Hangul syllables are left out: they follow from a formula.
"""

import pathlib
import sys

import unicodedata2 as unicode

VERSION = "16.0.0"
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xAC00 + 11172)


def lines(entries: list[str]) -> str:
    out, line = [], "   "
    for entry in entries:
        if len(line) + 1 + len(entry) > 100:
            out.append(line)
            line = "   "
        line += f" {entry}"
    return "\n".join([*out, line])


def main() -> int:
    if unicode.unidata_version != VERSION:
        print(f"unicodedata2 is of Unicode {unicode.unidata_version}, wanted {VERSION}", file=sys.stderr)
        return 1
    classes: list[list[int]] = []  # first, last, combining class
    for c in POINTS:
        if combining := unicode.combining(chr(c)):
            if classes and classes[-1][1] == c - 1 and classes[-1][2] == combining:
                classes[-1][1] = c
            else:
                classes.append([c, c, combining])
    decompositions, compositions = [], []
    for c in POINTS:
        parts = unicode.decomposition(chr(c))
        if not parts or parts.startswith("<") or c in HANGUL:
            continue
        whole = [ord(x) for x in unicode.normalize("NFD", chr(c))]
        decompositions.append((c, whole))
        pair = [int(x, 16) for x in parts.split()]
        if len(pair) == 2 and unicode.normalize("NFC", chr(c)) == chr(c):
            compositions.append((pair[0], pair[1], c))
    longest = max(len(whole) for _, whole in decompositions)
    assert longest == 4, longest
    compositions.sort()
    text = f"""// Written by datasets/tokenizers/pipeline/make_unicode_composition.py; not to be edited by hand.
#include "datasets/tokenizers/pipeline/unicode_composition_data.h"

namespace reverie::unicode_data {{

// Unicode {VERSION}.
const CombiningRange combining_ranges[{len(classes)}] = {{
{lines([f"{{0x{a:X}, 0x{b:X}, {k}}}," for a, b, k in classes])}
}};
const size_t combining_range_count = {len(classes)};

const Decomposition decompositions[{len(decompositions)}] = {{
{lines([f"{{0x{c:X}, {{{', '.join(f'0x{x:X}' for x in whole)}}}}}," for c, whole in decompositions])}
}};
const size_t decomposition_count = {len(decompositions)};

const Composition compositions[{len(compositions)}] = {{
{lines([f"{{0x{a:X}, 0x{b:X}, 0x{c:X}}}," for a, b, c in compositions])}
}};
const size_t composition_count = {len(compositions)};

}}  // namespace reverie::unicode_data
"""
    target = pathlib.Path(__file__).resolve().parent / "unicode_composition_data.cpp"
    target.write_text(text)
    print(f"{len(classes)} ranges, {len(decompositions)} decompositions, {len(compositions)} compositions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
