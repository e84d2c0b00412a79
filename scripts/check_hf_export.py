#!/usr/bin/env python3
"""Checks that transformers makes of an exported model what Reverie makes of it: logits and tokens.

Environment (a CPU is enough; transformers 4.56 and 5 are both meant):
    python3 -m venv golden && golden/bin/pip install torch transformers safetensors
    golden/bin/python scripts/check_hf_export.py DIR

DIR is what `reverie inspect RUN --export-hf DIR` wrote: files for AutoModelForCausalLM and AutoTokenizer,
and what Reverie computed:
    reverie_logits.safetensors   tokens i32 [1, time], logits f32 [1, time, vocab]
    reverie_texts.json           {"begins": [..], "ends": [..], "texts": [..], "ids": [[..], ..]}, where the
                                 export has a tokenizer
Prints the largest absolute difference of a logit, and for how many texts the ids are the same, which
token begins a text, and which end one in generate().
Exit code 0: all within the limits; 5: not, or tensors are missing or unknown; 2: DIR is not usable;
1: transformers refuses to load it.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

LIMIT = 1e-4


def fail(code, message):
    print(f"check_hf_export: {message}", file=sys.stderr)
    sys.exit(code)


def check_logits(directory):
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
    return model


def check_tokens(directory):
    file = directory / "reverie_texts.json"
    if not file.is_file():
        print("no tokenizer in this export")
        return None
    expected = json.loads(file.read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    wrong = []
    for text, ids in zip(expected["texts"], expected["ids"], strict=True):
        got = tokenizer(text, add_special_tokens=False)["input_ids"]
        if got != ids:
            wrong.append((text, ids, got))
    print(f"the same ids for {len(expected['texts']) - len(wrong)} of {len(expected['texts'])} texts ({type(tokenizer).__name__})")
    for text, ids, got in wrong[:5]:
        print(f"  {text!r}: Reverie {ids}, transformers {got}")
    begin = expected["begins"]
    text, ids = max(zip(expected["texts"], expected["ids"]), key=lambda pair: len(set(pair[1])))
    if tokenizer(text)["input_ids"] != begin + ids:
        wrong.append(text)
        print(f"a text begins with {tokenizer(text)['input_ids'][:1]}, wanted {begin}")
    print(f"bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r}, before a text: {begin}")
    if wrong:
        sys.exit(5)
    return expected["ends"]


def check_ends(model, ends):
    for name, config in (("generation_config", model.generation_config), ("config", model.config)):
        got = config.eos_token_id
        got = [] if got is None else got if isinstance(got, list) else [got]
        if ends is not None and got != ends:
            fail(5, f"{name}: a text ends at {got}, wanted {ends}")
    print(f"generate() ends at {got}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory = parser.parse_args().directory
    for name in ("config.json", "model.safetensors", "reverie_logits.safetensors"):
        if not (directory / name).is_file():
            fail(2, f"{directory / name} is missing; export the model with its logits first")
    print(f"transformers {transformers.__version__}")
    model = check_logits(directory)
    check_ends(model, check_tokens(directory))


if __name__ == "__main__":
    main()
