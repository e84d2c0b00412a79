#!/usr/bin/env python3
"""Write tests/golden/blocks.gguf and blocks.safetensors: random blocks of every tensor type that
Reverie reads, and the numbers that the Python package `gguf` makes of them; and quantized.safetensors:
numbers of every size, and the bytes that the package makes of them in the types that Reverie writes.

    python3 tests/golden/make/make_gguf_golden.py

Needs the Python packages `gguf`, `numpy` and `safetensors`. The same versions write the same bytes.
Every bit of a block is random, but for the scales, which are finite.
"""

import pathlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

GOLDEN = pathlib.Path(__file__).resolve().parents[1]
# Where a block of each type keeps its half-precision scales.
SCALES = {
    "F32": (), "F16": (0,), "BF16": (), "Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,),
    "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
ROWS, BLOCKS = 2, 2  # blocks a row


def finite_halves(random, count: int) -> np.ndarray:
    """Any bits but those of infinities and NaNs: subnormal numbers, zeros and both signs too."""
    bits = random.integers(0, 1 << 16, 4 * count, dtype=np.uint16)
    bits[: 4] = [0x0001, 0x8001, 0x8000, 0x03FF]
    return bits[(bits & 0x7C00) != 0x7C00][:count]


def quantized() -> None:
    random = np.random.default_rng(6)
    blocks = random.standard_normal((40, 32)).astype(np.float32)
    blocks[1] = 0
    blocks[2, 5] = 100  # an outlier
    blocks[3] *= 1e-6  # scales below the smallest normal half
    blocks[4] *= 3e-9
    blocks[5] *= 1e-36  # scales that are zero in half precision
    blocks[6] *= 2e4
    blocks[7] = np.arange(32) - 16  # halves between two quants
    blocks[7, 0] = -63.5
    blocks[8:12] = blocks[8:12].astype(np.float16)
    blocks[12] = -np.abs(blocks[12])
    for i in range(13, 20):
        blocks[i] *= 10.0 ** random.integers(-7, 4)
    tensors = {"values": blocks}
    for name in ("F16", "BF16", "Q8_0"):
        data = gguf.quantize(blocks, gguf.GGMLQuantizationType[name])
        tensors[name] = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    save_file(tensors, GOLDEN / "quantized.safetensors")


def main() -> None:
    quantized()
    random = np.random.default_rng(5)
    writer = gguf.GGUFWriter(GOLDEN / "blocks.gguf", "golden")
    writer.add_string("a.text", "d\u00e9j\u00e0 vu")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60000)
    writer.add_int16("a.i16", -30000)
    writer.add_uint32("a.u32", 4_000_000_000)
    writer.add_int32("a.i32", -2_000_000_000)
    writer.add_float32("a.f32", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_uint64("a.u64", 1 << 63)
    writer.add_int64("a.i64", -(1 << 62))
    writer.add_float64("a.f64", 0.1)
    writer.add_array("a.texts", ["", "one", "two words"])
    writer.add_array("a.integers", [3, -1, 2])
    writer.add_array("a.numbers", [0.5, -0.25])
    writer.add_array("a.nested", [[1, 2], [3], [4, 5, 6]])
    expected = {}
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = GGML_QUANT_SIZES[kind]
        blocks = BLOCKS if elements > 1 else 40
        data = random.integers(0, 256, (ROWS * blocks, size), dtype=np.uint8)
        for at in scales:
            data[:, at : at + 2] = finite_halves(random, len(data)).view(np.uint8).reshape(-1, 2)
        data = data.reshape(ROWS, blocks * size)
        if name == "F32":
            data = random.standard_normal((ROWS, blocks)).astype(np.float32)
        elif name == "BF16":
            data = (random.standard_normal((ROWS, blocks)).astype(np.float32).view(np.uint32) >> 16)
            data = data.astype(np.uint16).view(np.uint8)
        elif name == "F16":
            data = data.view(np.float16)
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = gguf.dequantize(data, kind).reshape(ROWS, blocks * elements)
        assert expected[name].dtype == np.float32 and np.isfinite(expected[name]).all(), name
    writer.add_tensor("cube", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.add_tensor("unreadable", np.zeros(3, dtype=np.int8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected["cube"] = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    save_file(expected, GOLDEN / "blocks.safetensors")
    for name in ("blocks.gguf", "blocks.safetensors", "quantized.safetensors"):
        print(f"{name}: {(GOLDEN / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
