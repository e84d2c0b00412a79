#!/usr/bin/env python3
"""Checks that lm-eval's `hf` model scores exported runs as `reverie eval` scores them.

    scripts/check_lm_eval.py --reverie build/release/reverie --text data/tinyshakespeare/input.txt --gpt2 data/gpt2-bpe

Needs torch, transformers and lm-eval; no network. Trains three small runs for a few steps: a GPT-2 on
GPT-2's byte pairs, a Llama on characters, a Gemma 2 on a SentencePiece vocabulary (tests/golden), exports
each (`inspect --export-hf`) and scores a part of the text as one document of a local task
(loglikelihood_rolling).

What stands before the first token: lm-eval puts a prefix token there, the tokenizer's begin or else end
of text, or `prefix_token_id`. `reverie eval` puts the begin-of-text token where the model wants one; for
the others the text is given with the prefix in front. (Left alone, lm-eval puts a begin-of-text token
before its prefix token too: hence add_bos_token=False.) Over several windows lm-eval's overlap by one
token, as those of `--stride` one less than `--window`; its last window is filled up from the left, so
the document is cut to whole windows.
Prints both figures. Exit code 0: bits per byte differ by less than 1e-6 of themselves; 5: not.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1e-6
CHARACTERS = 9000  # of the text that are scored: several windows
SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 128}


def cases(gpt2):
    """name: (model, data, text before the document, or None where the model begins by itself)"""
    pieces = ROOT / "tests/golden/tokenizers/pieces_no_prefix.model"
    return {
        "gpt2": ({"type": "gpt2", **SIZES}, {"tokenizer": "gpt2", "tokenizer_files": str(gpt2)}, "<|endoftext|>"),
        "llama": ({"type": "llama", **SIZES}, {"tokenizer": "char"}, "\n"),
        "gemma2": (
            {"type": "gemma2", **SIZES, "sliding_window": 64},
            {"tokenizer": "pretrained", "tokenizer_files": str(pieces)},
            None,
        ),
    }


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def lm_eval_bits_per_byte(directory, document, folder, prefix_token, window):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (folder / "document.jsonl").write_text(json.dumps({"text": document}) + "\n")
    task = {
        "task": "local_document",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "document.jsonl")}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    }
    # The other attention implementations leave Gemma 2's soft-caps out.
    options = {"pretrained": str(directory), "device": "cpu", "dtype": "float32", "batch_size": 1,
               "max_length": window, "attn_implementation": "eager", "add_bos_token": False}  # fmt: skip
    if prefix_token is not None:
        options["prefix_token_id"] = prefix_token
    results = lm_eval.simple_evaluate(
        model=HFLM(**options), tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0
    )
    return results["results"]["local_document"]["bits_per_byte,none"]


def check(name, case, arguments, folder):
    model, data, before = case
    config, directory, exported = folder / "config.json", folder / "run", folder / "exported"
    config.write_text(json.dumps({
        "data": {"path": str(arguments.text.resolve()), "prepared_directory": str(folder / "data"), **data},
        "model": model, "train": {"steps": arguments.steps, "batch_size": 4}, "sample": {"tokens": 0},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 5},
        "evaluation": {"interval": 0, "final_windows": 2, "final_prefix_only_windows": 1},
    }))  # fmt: skip
    run(arguments.reverie, "train", config, "--run-dir", directory, "--quiet")
    run(arguments.reverie, "inspect", directory, "--export-hf", exported)

    text = arguments.text.read_text(encoding="utf-8")
    block = model["block_size"]
    # With a begin-of-text token before every window: one window.
    document = whole_windows(exported, text[:CHARACTERS], block - 1) if before is not None else text[:block]
    (folder / "text.txt").write_text((before or "") + document, encoding="utf-8")
    options = ["--window", block, "--stride", block - 1] if before is not None else []
    run(arguments.reverie, "eval", exported, "--text", folder / "text.txt", *options, "--json", folder / "eval.json")
    ours = json.loads((folder / "eval.json").read_text())
    nats = ours["nll"] * ours["predictions"]
    bits = nats / math.log(2) / len(document.encode())
    if before is None and abs(bits / ours["bits_per_byte"] - 1) > 1e-12:
        sys.exit(f"{name}: reverie eval says {ours['bits_per_byte']} bits per byte, its sum {bits}")

    prefix = None
    if before == "\n":
        prefix = ours_token(arguments.reverie, exported, before, folder)
    theirs = lm_eval_bits_per_byte(exported, document, folder, prefix, block - 1 if before is not None else block)
    difference = abs(theirs / bits - 1)
    print(
        f"{name}: {ours['predictions']} predictions in {ours['windows']} windows: reverie eval {bits:.9f} bits per "
        f"byte, lm-eval {theirs:.9f}, relative difference {difference:.2g} (limit {LIMIT:g})",
        flush=True,
    )
    return difference < LIMIT


def whole_windows(directory, text, window):
    """The longest beginning of `text` whose tokens fill windows."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = ids[: len(ids) // window * window]
    document = tokenizer.decode(ids)
    if tokenizer(document, add_special_tokens=False)["input_ids"] != ids:
        sys.exit("the cut changed the tokens: choose another text")
    return document


def ours_token(reverie, exported, text, folder):
    run(reverie, "sample", exported, "--prompt", text, "--max-tokens", 1, "--json", folder / "sample.json")
    return json.loads((folder / "sample.json").read_text())["prompt_tokens"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reverie", type=Path, default=ROOT / "build/release/reverie")
    parser.add_argument("--text", type=Path, required=True, help="a text to train on and to score")
    parser.add_argument("--gpt2", type=Path, required=True, help="folder with GPT-2's encoder.json and vocab.bpe")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    good = True
    for name, case in cases(arguments.gpt2).items():
        with tempfile.TemporaryDirectory() as folder:
            good = check(name, case, arguments, Path(folder)) and good
    sys.exit(0 if good else 5)


if __name__ == "__main__":
    main()
