#!/usr/bin/env python3
"""Writes tests/golden/exports: tokenizers of ours as tokenizer.json, and the ids that transformers reads.

    tests/golden/make/make_export_golden.py --reverie build/release/reverie

Needs `transformers`, `tokenizers` and torch. For each case a run of one step is exported
(`inspect --export-hf`), and its directory opened with AutoTokenizer. NAME.json holds
    definition   our tokenizer (reverie_tokenizer.json)
    files        tokenizer.json and tokenizer_config.json, as exported
    texts, ids   odd texts, and what AutoTokenizer makes of them
    begins       the ids that AutoTokenizer puts before a text
    versions     of the packages
so that the suite can tell, without any of them, that the same file is written and the same ids given.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/tokenizers"
TEXT = (
    "To be, or not to be: that is the question.\nCaf\u00e9 na\u00efve \u2014 \u4e16\u754c \U0001f642!\n"
    "\tWhether 'tis nobler in 1603 to suffer\r\n  slings & arrows; they're 42 of them.\n"
) * 8
WORDS = "ann is a wumpus . every wumpus is big . bob is not a wumpus ? yes no\n\u4e16\u754c bob's 12 a12\n" * 8
TEXTS = 150  # of the export's 2,000


def gpt2_files(folder):
    """encoder.json and vocab.bpe of a small vocabulary, as OpenAI has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        [TEXT, WORDS], trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    folder.mkdir()
    vocabulary = model["vocab"] | {"<|endoftext|>": len(model["vocab"])}
    (folder / "encoder.json").write_text(json.dumps(vocabulary))
    merges = "".join(" ".join(merge) + "\n" for merge in model["merges"])
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    return folder


def export(reverie, folder, text, data):
    (folder / "text.txt").write_bytes(text.encode())
    config = {
        "data": {"path": str(folder / "text.txt"), "prepared_directory": str(folder / "data"), **data},
        "model": {"type": "llama", "block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 8},
        "train": {"steps": 1, "batch_size": 1}, "sample": {"tokens": 0}, "optimizer": {"warmup_steps": 0},
        "evaluation": {"interval": 0, "final_windows": 1, "final_prefix_only_windows": 1},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for command in (["train", folder / "config.json", "--run-dir", folder / "run", "--quiet"],
                    ["inspect", folder / "run", "--export-hf", folder / "exported"]):  # fmt: skip
        subprocess.run([reverie, *command], check=True, stdout=subprocess.DEVNULL)
    return folder / "exported"


def make(name, reverie, text, data, out):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if data["tokenizer"] == "gpt2":
            data = data | {"tokenizer_files": str(gpt2_files(folder / "gpt2"))}
        exported = export(reverie, folder, text, data)
        read = lambda file: json.loads((exported / file).read_text(encoding="utf-8"))  # noqa: E731
        tokenizer = transformers.AutoTokenizer.from_pretrained(exported, local_files_only=True)
        texts = read("reverie_texts.json")["texts"]
        texts = texts[: TEXTS // 2] + texts[TEXTS // 2 :: len(texts) * 2 // TEXTS]
        ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
        whole, plain = tokenizer(texts[-1])["input_ids"], ids[-1]
        golden = {
            "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
            "definition": read("reverie_tokenizer.json")["definition"],
            "files": {f: read(f) for f in ("tokenizer.json", "tokenizer_config.json")},
            "begins": whole[: len(whole) - len(plain)],
            "texts": texts,
            "ids": ids,
        }
        file = out / f"{name}.json"
        file.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
        print(f"{file.name}: {len(texts)} texts, {file.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reverie", type=Path, default=ROOT / "build/release/reverie")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden/exports")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pretrained = lambda file: {"tokenizer": "pretrained", "tokenizer_files": str(GOLDEN / file)}  # noqa: E731
    for name, text, data in (
        ("char", TEXT, {"tokenizer": "char"}),
        ("word", WORDS, {"tokenizer": "word"}),
        ("gpt2", TEXT, {"tokenizer": "gpt2"}),
        ("pieces", TEXT, pretrained("pieces.model")),
        ("pieces_no_prefix", TEXT, pretrained("pieces_no_prefix.model")),
        ("llama2", TEXT, pretrained("llama2")),
        ("llama3", TEXT, pretrained("llama3")),
        ("qwen2", TEXT, pretrained("qwen2.gguf")),
    ):
        make(name, arguments.reverie.resolve(), text, data, arguments.out)


if __name__ == "__main__":
    main()
