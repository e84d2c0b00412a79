#!/usr/bin/env python3
"""Write tests/golden/trained_bpe.json: byte-level BPE vocabularies that Hugging Face's trainer learns.

    python3 tests/golden/make/make_bpe_training_golden.py DATA

DATA is a folder with tinyshakespeare/input.txt, wikitext-2/valid.txt and gutenberg/war-and-peace.txt. Needs the
Python package `tokenizers` 0.23. The same version writes the same bytes.

Each case holds `texts`, the `vocabulary_size` asked for, the `tokens` by id, the `merges` as pairs of ids, and the `ids`
of the first text. `files` holds, for whole files, the number of merges and an FNV-1a hash of them, one "left right"
and a line break each.
"""

import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
WHOLE_FILES = ("tinyshakespeare/input.txt", "wikitext-2/valid.txt", "gutenberg/war-and-peace.txt")


def train(texts: list[str], size: int) -> tuple[Tokenizer, dict]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer, json.loads(tokenizer.to_str())["model"]


def case(texts: list[str], size: int) -> dict:
    tokenizer, model = train(texts, size)
    vocabulary = model["vocab"]
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda entry: entry[1])]
    return {
        "texts": texts,
        "vocabulary_size": size,
        "tokens": tokens,
        "merges": [[vocabulary[left], vocabulary[right]] for left, right in model["merges"]],
        "ids": tokenizer.encode(texts[0]).ids,
    }


def odd_text(seed: int) -> str:
    """Repeats of one letter, runs of white space and bytes beyond ASCII: where merges overlap."""
    draw = random.Random(seed)
    parts = ["a", "aa", "aaa", "ab", "ba", "b", " ", "  ", "\n", "\n\n", "\u00e9", "\u65e5\u672c", "'s", "12", "12a"]
    return "".join(draw.choice(parts) for _ in range(600))


def fnv1a(text: str) -> str:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    plain = "the cat sat on the mat, and the other cat sat on that mat: the cats' mats.\n" * 3
    cases = [
        case([plain], 280),
        case([plain], 4096),  # more than there is to learn
        case([plain, odd_text(1)], 300),
        case([odd_text(seed) for seed in range(2, 6)], 400),
        case(["x"], 257),
    ]
    files = {}
    for name in WHOLE_FILES:
        text = (pathlib.Path(sys.argv[1]) / name).read_bytes().decode()
        merges = [f"{left} {right}\n" for left, right in train([text], 4096)[1]["merges"]]
        files[name] = {"merges": len(merges), "fnv1a": fnv1a("".join(merges))}
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in cases)
    head = json.dumps({"tokenizers": tokenizers.__version__, "files": files}, indent=1)
    text = head[:-2] + ',\n "cases": [\n' + lines + "\n]}\n"
    assert json.loads(text)["cases"] == cases
    target = pathlib.Path(__file__).resolve().parents[1] / "trained_bpe.json"
    target.write_text(text)
    print(f"{len(cases)} cases, {len(files)} files, {len(text)} bytes -> {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
