"""A model of Llama's shape with random weights, in llama2.c's format: a base of any size for `latents`."""

from __future__ import annotations

import dataclasses
import random
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

PREFIX = "llama:"
BLOCK = 1 << 16  # random numbers that are made; larger tensors repeat them


@dataclass(frozen=True)
class Shape:
    width: int = 96
    heads: int = 3
    kv_heads: int = 1
    hidden: int = 256
    layers: int = 5
    vocabulary: int = 512
    positions: int = 512

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Of "llama:width=128,heads=4"; ValueError for what is no such shape."""
        known = [f.name for f in dataclasses.fields(cls)]
        sizes = {}
        for part in text.removeprefix(PREFIX).split(","):
            name, _, size = part.partition("=")
            if name not in known or not size.isdecimal() or int(size) == 0:
                raise ValueError(f"got {part!r} in {text!r}; wanted NAME=SIZE with a name of {', '.join(known)}")
            sizes[name] = int(size)
        shape = cls(**sizes)
        if shape.width % (2 * shape.heads) or shape.heads % shape.kv_heads:
            raise ValueError(f"{text!r}: heads of an even size divide the width, and kv_heads the heads; got width {shape.width}, heads {shape.heads}, "
                             f"kv_heads {shape.kv_heads}")
        return shape

    @property
    def name(self) -> str:
        return (f"a random Llama (width {self.width}, {self.heads} heads of {self.width // self.heads} on {self.kv_heads} key heads, hidden {self.hidden}, "
                f"{self.layers} layers, vocabulary {self.vocabulary})")


def write(path: Path, shape: Shape) -> None:
    s, head = shape, shape.width // shape.heads
    draw = random.Random(1)
    numbers = array("f", (draw.gauss(0, 1) for _ in range(BLOCK)))

    with path.open("wb") as file:
        def fill(count: int, stddev: float) -> None:
            scaled = array("f", (stddev * x for x in numbers))
            while count > 0:
                part = min(count, BLOCK)
                scaled[:part].tofile(file)
                count -= part

        def same(count: int, value: float) -> None:
            (array("f", [value]) * count).tofile(file)

        file.write(struct.pack("<7i", s.width, s.hidden, s.layers, s.heads, s.kv_heads, s.vocabulary, s.positions))
        fill(s.vocabulary * s.width, 0.02)
        same(s.layers * s.width, 1)  # norms before attention
        for outputs in (s.width, s.kv_heads * head, s.kv_heads * head, s.width):  # query, key, value, output
            fill(s.layers * outputs * s.width, s.width ** -0.5)
        same(s.layers * s.width, 1)  # norms before the MLP
        fill(s.layers * s.hidden * s.width, s.width ** -0.5)  # gate
        fill(s.layers * s.hidden * s.width, s.hidden ** -0.5)  # down
        fill(s.layers * s.hidden * s.width, s.width ** -0.5)  # up
        same(s.width, 1)  # the last norm
        same(s.positions * head, 0)  # tables of rotations that nobody reads
