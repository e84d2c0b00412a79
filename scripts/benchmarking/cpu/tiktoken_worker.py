"""Encodes a text once with tiktoken, GPT-2's vocabulary from local files, on one core.

    tiktoken_worker.py FOLDER TEXT IDS

FOLDER holds encoder.json and vocab.bpe; IDS gets the tokens as 16-bit numbers. Prints one JSON object.
"""

import json
import os
import sys
import time
from array import array
from pathlib import Path

os.environ["TIKTOKEN_CACHE_DIR"] = ""  # the files are read as they are

import tiktoken  # noqa: E402
from tiktoken.load import data_gym_to_mergeable_bpe_ranks  # noqa: E402

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END_OF_TEXT = "<|endoftext|>"


def main(folder: str, text_file: str, ids_file: str) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ranks = data_gym_to_mergeable_bpe_ranks(vocab_bpe_file=f"{folder}/vocab.bpe", encoder_json_file=f"{folder}/encoder.json")
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)})
    text = Path(text_file).read_bytes().decode()
    encoding.encode(text[:100_000], allowed_special={END_OF_TEXT})  # warm
    begin = time.perf_counter()
    ids = encoding.encode(text, allowed_special={END_OF_TEXT})
    seconds = time.perf_counter() - begin
    Path(ids_file).write_bytes(array("H", ids).tobytes())
    print(json.dumps({"seconds": seconds, "tokens": len(ids), "version": tiktoken.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
