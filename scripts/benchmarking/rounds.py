"""Rounds of a measurement: everything is measured in each, in an order that turns."""

from __future__ import annotations


def turned(items: list, number: int) -> list:
    """`items`, beginning with another one each round."""
    start = number % len(items) if items else 0
    return items[start:] + items[:start]
