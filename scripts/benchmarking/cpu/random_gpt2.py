"""A model of GPT-2's shape with random weights, as a Hugging Face directory: what decoding is timed on."""

from __future__ import annotations

import json
import random
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

STDDEV = 0.02
BLOCK = 1 << 16  # random numbers that are made; larger tensors repeat them


@dataclass(frozen=True)
class Shape:
    layers: int = 12
    heads: int = 12
    width: int = 768
    vocabulary: int = 50257
    positions: int = 1024

    def tensors(self) -> dict[str, tuple[int, ...]]:
        d, found = self.width, {"transformer.wte.weight": (self.vocabulary, self.width), "transformer.wpe.weight": (self.positions, self.width)}
        for i in range(self.layers):
            block = f"transformer.h.{i}."
            for name, size_in, size_out in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, 4 * d), ("mlp.c_proj", 4 * d, d)):
                found |= {f"{block}{name}.weight": (size_in, size_out), f"{block}{name}.bias": (size_out,)}
            for name in ("ln_1", "ln_2"):
                found |= {f"{block}{name}.weight": (d,), f"{block}{name}.bias": (d,)}
        return found | {"transformer.ln_f.weight": (d,), "transformer.ln_f.bias": (d,)}

    @property
    def bytes_a_token(self) -> int:
        """Weights that one token needs, in f32: all but the positions of others."""
        return 4 * (sum(_count(shape) for shape in self.tensors().values()) - (self.positions - 1) * self.width)


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def byte_characters() -> list[str]:
    """GPT-2's alphabet: a printable character for each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tokenizer(vocabulary: int) -> dict:
    """A byte-level one without merges; tokens beyond the bytes are never made from text."""
    tokens = byte_characters() + [f"<{i}>" for i in range(256, vocabulary)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": []}}


def write(folder: Path, shape: Shape = Shape()) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "vocab_size": shape.vocabulary, "n_positions": shape.positions, "n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads,
    }))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(shape.vocabulary)))
    header, at = {}, 0
    for name, size in shape.tensors().items():
        end = at + 4 * _count(size)
        header[name] = {"dtype": "F32", "shape": size, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = random.Random(1)
    numbers = array("f", (draw.gauss(0, STDDEV) for _ in range(BLOCK))).tobytes()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, size in shape.tensors().items():
            left = 4 * _count(size)
            if len(size) == 1:
                file.write(array("f", [1.0 if name.endswith("weight") else 0.0]).tobytes() * size[0])
                continue
            while left:
                left -= file.write(numbers[:min(left, len(numbers))])
