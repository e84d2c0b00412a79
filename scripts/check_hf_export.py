#!/usr/bin/env python3
"""Checks that transformers computes the logits that Reverie computed for an exported model.

Environment (a CPU is enough):
    python3 -m venv golden && golden/bin/pip install torch transformers safetensors
    golden/bin/python scripts/check_hf_export.py DIR

DIR holds config.json and model.safetensors for AutoModelForCausalLM, and
reverie_logits.safetensors with
    tokens  i32 [1, time]
    logits  f32 [1, time, vocab]    Reverie's
Prints the largest absolute difference. Exit code 0: below the limit; 5: not, or tensors are missing
or unknown; 2: DIR is not usable; 1: transformers refuses to load it.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

LIMIT = 1e-4


def fail(code, message):
    print(f"check_hf_export: {message}", file=sys.stderr)
    sys.exit(code)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory = parser.parse_args().directory
    for name in ("config.json", "model.safetensors", "reverie_logits.safetensors"):
        if not (directory / name).is_file():
            fail(2, f"{directory / name} is missing; export the model with its logits first")

    expected = load_file(directory / "reverie_logits.safetensors")
    if not {"tokens", "logits"} <= expected.keys():
        fail(2, f"reverie_logits.safetensors holds {sorted(expected)}, wanted tokens and logits")
    # The other attention implementations leave Gemma 2's soft-caps out.
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, output_loading_info=True, attn_implementation="eager"
    )
    # A tensor that transformers fails to find is drawn at random, with only a warning.
    for problem in ("missing_keys", "unexpected_keys"):
        if loading[problem]:
            fail(5, f"{problem}: {sorted(loading[problem])}")

    with torch.no_grad():
        logits = model.float().eval()(input_ids=expected["tokens"].long(), use_cache=False).logits
    if logits.shape != expected["logits"].shape:
        fail(5, f"logits are {list(expected['logits'].shape)}, wanted {list(logits.shape)}")
    difference = (logits - expected["logits"]).abs().max().item()
    print(f"largest absolute difference of a logit: {difference:.3g} (limit {LIMIT:g})")
    if not difference < LIMIT:  # also when it is NaN
        sys.exit(5)


if __name__ == "__main__":
    main()
