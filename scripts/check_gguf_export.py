#!/usr/bin/env python3
"""Checks that llama.cpp's Python package `gguf` reads an exported GGUF file as the model it is.

    scripts/check_gguf_export.py FILE.gguf DIR

Needs the packages gguf, numpy and safetensors. FILE.gguf and DIR are two exports of one run
(`reverie inspect RUN --export-gguf FILE.gguf`, `--export-hf DIR`). The package's own table of names says
which tensor of DIR/model.safetensors is which of the file; llama.cpp's converter permutes the rows of
queries and keys of Llama, turns GPT-2's matrices, and adds 1 to Gemma's norms. Every tensor is compared
with what `gguf.dequantize` gives, within the error of its type; metadata with config.json; tokens,
merges and ends with tokenizer.json and config.json.
Exit code 0: the same; 5: not.
"""

import argparse
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

Keys = gguf.Keys
# Largest error of a stored value: a share of the largest of its block, and at least so much.
BOUNDS = {"F32": (0, 0, 1), "F16": (2**-11, 2**-25, 1), "BF16": (2**-8, 2**-134, 1), "Q8_0": (0.00443, 2e-6, 32)}


class Checks:
    def __init__(self):
        self.count = self.wrong = 0

    def same(self, what, got, wanted):
        self.count += 1
        if got != wanted:
            self.wrong += 1
            print(f"{what}: {str(got)[:200]}, wanted {str(wanted)[:200]}")


def architecture_of(reader):
    """The package's number for the file's architecture."""
    name = reader.get_field(Keys.General.ARCHITECTURE).contents()
    return next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == name)


def as_converted(name, value, config, architecture):
    """What llama.cpp's convert_hf_to_gguf.py makes of a tensor."""
    kind = config["model_type"]
    if architecture == gguf.MODEL_ARCH.LLAMA and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config["num_attention_heads" if name.endswith("q_proj.weight") else "num_key_value_heads"]
        return value.reshape(heads, 2, value.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)
    if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return value.T
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return value + np.float32(1)
    return value


def check_tensors(reader, directory, config, checks):
    architecture = architecture_of(reader)
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(architecture, layers)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, value in load_file(directory / "model.safetensors").items():
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        checks.same(f"{name} is in the file", mapped in stored, True)
        if mapped not in stored:
            continue
        tensor = stored.pop(mapped)
        wanted = as_converted(name, value, config, architecture)
        got = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
        share, least, block = BOUNDS[tensor.tensor_type.name]
        largest = np.abs(wanted.reshape(-1, block)).max(axis=1, keepdims=True)
        error = np.abs((got - wanted).reshape(-1, block))
        checks.same(f"{name} ({tensor.tensor_type.name})", bool((error <= np.maximum(share * largest, least)).all()), True)
    checks.same("tensors without a counterpart", [n for n in stored if n != "rope_freqs.weight"], [])


def check_metadata(reader, config, checks):
    architecture = gguf.MODEL_ARCH_NAMES[architecture_of(reader)]

    def value(key):
        field = reader.get_field(key.format(arch=architecture))
        return None if field is None else field.contents()

    # Classes without an architecture of their own are Llama's (Mistral).
    kind = config["model_type"].removesuffix("_text")
    checks.same("architecture", architecture, kind if kind in gguf.MODEL_ARCH_NAMES.values() else "llama")
    words = {
        Keys.LLM.CONTEXT_LENGTH: ("max_position_embeddings", "n_positions"),
        Keys.LLM.EMBEDDING_LENGTH: ("hidden_size", "n_embd"),
        Keys.LLM.BLOCK_COUNT: ("num_hidden_layers", "n_layer"),
        Keys.LLM.FEED_FORWARD_LENGTH: ("intermediate_size", "n_inner"),
        Keys.Attention.HEAD_COUNT: ("num_attention_heads", "n_head"),
        Keys.Attention.HEAD_COUNT_KV: ("num_key_value_heads",),
        Keys.Attention.KEY_LENGTH: ("head_dim",),
        Keys.Attention.LAYERNORM_RMS_EPS: ("rms_norm_eps",),
        Keys.Attention.LAYERNORM_EPS: ("layer_norm_epsilon",),
        Keys.Rope.FREQ_BASE: ("rope_theta",),
        Keys.Attention.SLIDING_WINDOW: ("sliding_window",),
        Keys.LLM.ATTN_LOGIT_SOFTCAPPING: ("attn_logit_softcapping",),
        Keys.LLM.FINAL_LOGIT_SOFTCAPPING: ("final_logit_softcapping",),
    }
    for key, names in words.items():
        wanted = next((config[n] for n in names if config.get(n) is not None), None)
        got = value(key)
        if isinstance(wanted, float) and got is not None:
            wanted, got = np.float32(wanted), np.float32(got)
        checks.same(key.format(arch=architecture), got, wanted)
    return value


def check_tokenizer(value, directory, config, checks):
    model = value(Keys.Tokenizer.MODEL)
    if model == "no_vocab":
        print("no tokenizer in this file")
        return
    written = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = written["model"]["vocab"]
    tokens = value(Keys.Tokenizer.LIST)
    checks.same("number of tokens", len(tokens), config["vocab_size"])
    if model == "gpt2":
        checks.same("tokens", [tokens[i] for i in vocabulary.values()], list(vocabulary))
        checks.same("merges", value(Keys.Tokenizer.MERGES), [" ".join(m) for m in written["model"]["merges"]])
    special = {t["id"] for t in written["added_tokens"] if t["special"]}
    kinds = value(Keys.Tokenizer.TOKEN_TYPE)
    checks.same("control tokens", special <= {i for i, k in enumerate(kinds) if k == gguf.TokenType.CONTROL}, True)
    checks.same("end of text", value(Keys.Tokenizer.EOS_ID), config["eos_token_id"])
    if config["bos_token_id"] is not None:
        checks.same("begin of text", value(Keys.Tokenizer.BOS_ID), config["bos_token_id"])
    checks.same("add begin of text", value(Keys.Tokenizer.ADD_BOS), written["post_processor"] is not None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("directory", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    config = json.loads((arguments.directory / "config.json").read_text())
    reader, checks = gguf.GGUFReader(arguments.file), Checks()
    check_tensors(reader, arguments.directory, config, checks)
    check_tokenizer(check_metadata(reader, config, checks), arguments.directory, config, checks)
    print(f"{arguments.file.name}: {checks.count - checks.wrong} of {checks.count} checks passed")
    sys.exit(5 if checks.wrong else 0)


if __name__ == "__main__":
    main()
