#!/usr/bin/env python3
"""Write the small pretrained models of tests/golden as inputs of fuzz_base: tests/fuzz/make_base_seeds.py FOLDER"""
import pathlib
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for model in sorted((pathlib.Path(__file__).parents[1] / "golden" / "pretrained").iterdir()):
    if model.suffix == ".gguf":
        (folder / model.name).write_bytes(model.read_bytes())
        continue
    index = model / "model.safetensors.index.json"
    weights = model / "model.safetensors" if not index.exists() else sorted(model.glob("model-*.safetensors"))[0]
    names = index.read_bytes().replace(weights.name.encode(), b"shard") if index.exists() else b""
    (folder / model.name).write_bytes((model / "config.json").read_bytes() + b"\0" + names + b"\0" + weights.read_bytes())
