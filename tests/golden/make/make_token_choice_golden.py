#!/usr/bin/env python3
"""Writes tests/golden/token_choice.json: what transformers' generate() draws the next token from.

    python tests/golden/make/make_token_choice_golden.py [--out tests/golden]

Random logits go through the processors that generate() itself puts together for each setting, in double. Needs torch and
transformers.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import LogitsProcessorList

VOCABULARY = 24
SETTINGS = [
    {},
    {"temperature": 0.6},
    {"top_p": 0.8},
    {"top_p": 0.35, "temperature": 1.7},
    {"min_p": 0.1},
    {"min_p": 0.3, "temperature": 0.7},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"top_k": 7, "top_p": 0.6},
    {"top_k": 9, "min_p": 0.2},
    {"top_p": 0.9, "min_p": 0.15},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1], help="default: tests/golden")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(11)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    # Values of f32, so that both precisions begin with the same ones.
    logits = (2 * torch.randn(2, VOCABULARY, generator=generator)).double()
    text = torch.tensor([[3, 17, 3, 5, 22, 9, 3]])
    cases = []
    for setting in SETTINGS:
        config = GenerationConfig(do_sample=True, **{"top_k": 0, **setting})
        processors = model._get_logits_processor(
            generation_config=config, input_ids_seq_length=text.shape[1], encoder_input_ids=text, prefix_allowed_tokens_fn=None,
            logits_processor=LogitsProcessorList(), device="cpu", model_kwargs={})
        drawn = [torch.softmax(processors(text, row[None].clone()), -1)[0].tolist() for row in logits]
        cases.append({"setting": setting, "processors": [type(p).__name__ for p in processors], "probabilities": drawn})
    out = {"transformers": transformers.__version__, "text": text[0].tolist(), "logits": logits.tolist(), "cases": cases}
    (arguments.out / "token_choice.json").write_text(json.dumps(out) + "\n")
    for case in cases:
        print(case["setting"], case["processors"])


if __name__ == "__main__":
    main()
