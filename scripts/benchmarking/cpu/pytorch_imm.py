"""The published Implicit Memory Module (arXiv 2502.21030) in plain PyTorch, on the GPT of reference_gpt.py: mode as_published of
layers/memory/imm.h."""

import math

import torch
from torch import nn
from torch.nn import functional as F

import reference_gpt

LOW_RANK = 128


class ImmGpt(reference_gpt.Gpt):
    """Weights shared by all layers; after each block one slot holds the mean of the whole block, which leaks the future."""

    def __init__(self, vocabulary, shape):
        super().__init__(vocabulary, shape)
        width = shape.width
        self.slots = math.isqrt(width)
        self.write, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.query, self.project = nn.Linear(width, LOW_RANK), nn.Linear(width, LOW_RANK, bias=False)

    def remembered(self, x):
        """[B, T, C] -> the same, with what the slots hold added."""
        written = self.write(x).mean(1, keepdim=True)
        slots = F.pad(written, (0, 0, 0, self.slots - 1))
        weights = torch.softmax(self.query(x) @ self.project(slots).transpose(1, 2) / math.sqrt(LOW_RANK), -1)
        return F.layer_norm(x + weights @ self.value(slots), x.shape[-1:])

    def loss(self, x, y):
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = self.remembered(block(h))
        logits = self.norm(h) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())
