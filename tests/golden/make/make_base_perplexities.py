#!/usr/bin/env python3
"""Writes tests/golden/base_perplexities.json: losses of two published models, as transformers computes them.

    python3 -m venv golden && golden/bin/pip install torch transformers safetensors gguf
    REVERIE_DATA=... golden/bin/python tests/golden/make/make_base_perplexities.py

Needs the models of `scripts/fetch.py smollm2` and `gemma3` and WikiText-2 under $REVERIE_DATA/wikitext-2. transformers
dequantises the GGUF files and computes in f32. Windows are cut one after another from the tokens of the first 60,000
characters; a model whose tokenizer begins texts with a token gets it before every window. For each base
    window       tokens of text in a forward
    begin        the token before each, or null
    nll          sum over the predictions of each window, nats
    predictions  in each window
"""

import argparse
import json
import os
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reverie"
BASES = {
    "smollm2": ("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 512),
    "gemma3": ("gemma3/gemma-3-270m-q4_k_m.gguf", 511),
}
CHARACTERS, WINDOWS = 60000, 8


def losses(file, window, text):
    folder, name = str(file.parent), file.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    begin = tokenizer("a")["input_ids"][0]
    begin = begin if begin == tokenizer.bos_token_id else None
    sums, predictions = [], []
    for i in range(WINDOWS):
        seen = ([] if begin is None else [begin]) + ids[i * window : (i + 1) * window]
        tokens = torch.tensor([seen])
        with torch.no_grad():
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].double()
        sums.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").item())
        predictions.append(len(seen) - 1)
    return {"file": file.name, "window": window, "begin": begin, "nll": sums, "predictions": predictions}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden/base_perplexities.json")
    arguments = parser.parse_args()
    text = (Path(os.environ["REVERIE_DATA"]) / "wikitext-2/valid.txt").read_text(encoding="utf-8")[:CHARACTERS]
    bases = {name: losses(CACHE / file, window, text) for name, (file, window) in BASES.items()}
    golden = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "text": "wikitext-2/valid.txt", "characters": CHARACTERS, "bases": bases,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(golden, indent=1) + "\n")
    for name, base in bases.items():
        mean = sum(base["nll"]) / sum(base["predictions"])
        print(f"{name}: perplexity {torch.tensor(mean).exp().item():.4f}")


if __name__ == "__main__":
    main()
