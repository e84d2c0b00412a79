"""The GPTs that are trained in both benchmarks, and what is counted of them."""

from __future__ import annotations

from dataclasses import dataclass

VOCABULARY = 65


@dataclass(frozen=True)
class Work:
    """A GPT without biases and its batch."""

    name: str
    batch: int
    context: int
    layers: int
    heads: int
    width: int
    vocabulary: int = VOCABULARY

    @property
    def tokens(self) -> int:
        return self.batch * self.context

    @property
    def parameters(self) -> int:
        """Head and embedding share their weights."""
        d = self.width
        return (self.vocabulary + self.context) * d + self.layers * (12 * d * d + 2 * d) + d


SMALL = Work("small", batch=12, context=64, layers=4, heads=4, width=128)  # nanoGPT's CPU recipe
BABY = Work("baby", batch=64, context=256, layers=6, heads=6, width=384)  # its shakespeare_char
WORKS = {work.name: work for work in (SMALL, BABY)}
