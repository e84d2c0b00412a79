"""The models that are trained, what a token costs them, and the tokens."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from pathlib import Path

from benchmarking.works import BABY, Work

# GPT-2's 124 million parameters without biases, as nanoGPT trains it.
GPT2 = Work("gpt2", batch=16, context=1024, layers=12, heads=12, width=768, vocabulary=50257)
SHAKESPEARE = replace(BABY, name="shakespeare")  # characters, in contexts of 256
WORKS = {work.name: work for work in (GPT2, SHAKESPEARE)}
TINY = {
    "gpt2": Work("gpt2", batch=2, context=32, layers=2, heads=2, width=32, vocabulary=257),
    "shakespeare": Work("shakespeare", batch=4, context=16, layers=1, heads=2, width=32),
}
TOKENS = 1 << 20


def flops_per_token(work: Work) -> float:
    """6 N + 12 L T d, forward and backward (Chowdhery et al., PaLM, 2022, appendix B).

    N counts all parameters but the positions: the embedding is the head, too. Attention counts
    whole T x T squares, although causality leaves half of them, and nothing that is computed twice.
    """
    return 6 * (work.parameters - work.context * work.width) + 12 * work.layers * work.context * work.width


def write_tokens(folder: Path, work: Work, count: int = TOKENS) -> dict:
    """Token files as nanoGPT's (u16), and the config's "data" that reads them.

    Random tokens whose frequencies fall as those of words do (Zipf): what a step costs does not
    depend on what the text means, but the embedding's gradient on how often a token comes back.
    """
    folder.mkdir(parents=True)
    weights = [1 / (rank + 2.7) for rank in range(work.vocabulary)]
    for name, size in (("train", count), ("val", max(count // 10, 2 * work.context))):
        drawn = random.Random(name).choices(range(work.vocabulary), weights, k=size)
        (folder / f"{name}.bin").write_bytes(array("H", drawn).tobytes())
    return {"path": str(folder), "vocabulary_size": work.vocabulary}
