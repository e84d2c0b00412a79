"""Benchmark items as JSON lines, made from the public files in which they are published.

Each rule is given the published files' bytes, in order, and gives those of one .jsonl file. What it
gives is checked against a pinned SHA-256, so that a published file which changed is refused.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Rule = Callable[[tuple[bytes, ...]], bytes]

# raised by reading wrong bytes as gzip, JSON and questions
NOT_IN_FORM = (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, zlib.error)


class RuleError(Exception):
    """The published bytes are not what the rule knows, or it lacks a library."""


@dataclass(frozen=True)
class Recipe:
    """The addresses of the published files, and the rule that makes the item file of them."""

    addresses: tuple[str, ...]
    rule: Rule


def json_lines(items: Iterable[object]) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


def json_array(files: tuple[bytes, ...]) -> bytes:
    """[item, ...] or {"examples": [item, ...]}, as the zero-shot chain-of-thought sets are."""
    published = json.loads(files[0])
    return json_lines(published["examples"] if isinstance(published, dict) else published)


def requests(files: tuple[bytes, ...]) -> bytes:
    """OLMo's scoring requests, several of each question: id, query, choices, gold, each once."""
    return json_lines(
        {
            "id": str(request["native_id"]),
            "query": request["doc"]["query"],
            "choices": [" " + choice for choice in request["doc"]["choices"]],
            "gold": request["doc"]["gold"],
        }
        for request in _first_of_each(files[0], ("query", "choices"))
    )


def partial_sentences(files: tuple[bytes, ...]) -> bytes:
    """WinoGrande: one context per option that fills the gap, and the rest of the sentence."""
    items = []
    for request in _first_of_each(files[0], ("sentence",)):
        doc = request["doc"]
        before, after = doc["sentence"].split("_")
        items.append(
            {
                "id": str(doc["index"]),
                "query": [before + doc["option1"], before + doc["option2"]],
                "choices": " " + after.strip(),
                "gold": int(doc["answer"]) - 1,
            }
        )
    return json_lines(items)


def arrow(files: tuple[bytes, ...]) -> bytes:
    """The rows of one Arrow stream, as they are."""
    return json_lines(_arrow_rows(files[0]))


def arrow_of_subjects(subjects: tuple[str, ...]) -> Rule:
    """MMLU: one Arrow stream per subject, in the order of `subjects`."""

    def rule(files: tuple[bytes, ...]) -> bytes:
        return json_lines(
            {"subject": subject} | {key: row[key] for key in ("question", "choices", "answer")}
            for subject, file in zip(subjects, files, strict=True)
            for row in _arrow_rows(file)
        )

    return rule


def apply(rule: Rule, files: tuple[bytes, ...]) -> bytes:
    """RuleError where the files are not of the form that the rule reads."""
    try:
        return rule(files)
    except NOT_IN_FORM as error:
        raise RuleError(f"not in the known form: {type(error).__name__}: {error}") from error


def _first_of_each(compressed: bytes, keys: tuple[str, ...]) -> list[dict]:
    """The first request of each question; Social IQa holds some twice, which count once."""
    first: dict[str, dict] = {}
    for line in gzip.decompress(compressed).decode().splitlines():
        request = json.loads(line)
        first.setdefault(json.dumps([request["doc"][key] for key in keys]), request)
    return list(first.values())


def _arrow_rows(stream: bytes) -> list[dict]:
    try:
        from pyarrow import ArrowException, ipc
    except ImportError:
        raise RuleError("its published form is Arrow: python3 -m pip install pyarrow") from None
    try:
        return ipc.open_stream(stream).read_all().to_pylist()
    except ArrowException as error:
        raise RuleError(f"not an Arrow stream: {error}") from error
