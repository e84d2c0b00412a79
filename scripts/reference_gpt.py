#!/usr/bin/env python3
"""nanoGPT's CPU recipe on character-level Shakespeare in plain PyTorch: an independent figure for the GPT row of the IMM table.

    pip install torch numpy
    scripts/reference_gpt.py PATH_OF_THE_TEXT [--seed N] [--steps N]

Prints the losses over the same evenly spaced windows that Reverie evaluates, and nanoGPT's own estimate (20 random batches) four times.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

BLOCK, BATCH = 64, 12
WARMUP, HIGH_RATE, LOW_RATE = 100, 1e-3, 1e-4


@dataclass(frozen=True)
class Shape:
    layers: int = 4
    heads: int = 4
    width: int = 128
    block: int = BLOCK


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.norm_1, self.norm_2 = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        batch, time, width = x.shape
        heads = [z.view(batch, time, self.heads, -1).transpose(1, 2) for z in self.qkv(self.norm_1(x)).split(width, 2)]
        seen = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.attention_out(seen.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary, shape=Shape()):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, shape.width), nn.Embedding(shape.block, shape.width)
        self.blocks, self.norm = nn.ModuleList(Block(shape) for _ in range(shape.layers)), Norm(shape.width)
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                residual = name.endswith(("attention_out.weight", "down.weight"))
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * shape.layers) if residual else 0.02)

    def loss(self, x, y):
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        logits = self.norm(h) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def parameter_groups(model):
    """Weights decay, gains of norms do not (as nanoGPT)."""
    return [{"params": [p for p in model.parameters() if (p.dim() >= 2) == decays], "weight_decay": 0.1 * decays} for decays in (True, False)]


def windows(data, starts):
    return torch.stack([data[s:s + BLOCK] for s in starts]), torch.stack([data[s + 1:s + BLOCK + 1] for s in starts])


def random_batch(data):
    return windows(data, torch.randint(len(data) - BLOCK, (BATCH,)).tolist())


def learning_rate(step, steps):
    if step < WARMUP:
        return HIGH_RATE * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (steps - WARMUP)
    return LOW_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (HIGH_RATE - LOW_RATE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    text = options.text.read_text()
    index = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([index[c] for c in text])
    train, validation = data[:int(0.9 * len(data))], data[int(0.9 * len(data)):]
    model = Gpt(len(index))
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=HIGH_RATE, betas=(0.9, 0.99))
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps)
        loss = model.loss(*random_batch(train))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            print(f"step {step}: {loss.item():.4f}", flush=True)
    with torch.no_grad():
        count = (len(validation) - 1) // BLOCK
        for name, part in (("train", train), ("validation", validation)):
            spacing = (len(part) - 1) // count
            losses = [model.loss(*windows(part, [i * spacing])).item() for i in range(count)]
            print(f"{name}, evenly spaced windows: {sum(losses) / count:.4f}")
            for _ in range(4):
                print(f"{name}, 20 random batches: {sum(model.loss(*random_batch(part)).item() for _ in range(20)) / 20:.4f}")


if __name__ == "__main__":
    main()
