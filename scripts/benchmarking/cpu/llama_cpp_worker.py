"""Writes tokens behind a prompt, or reads windows of a text, with llama.cpp, and ends.

    llama_cpp_worker.py MODEL.gguf --threads N --write TOKENS --prompt PROMPT
    llama_cpp_worker.py MODEL.gguf --threads N --read WINDOWS --window TOKENS --text FILE

Greedy, past every end token. A window is read at once, with the logits of all its positions, as a
perplexity needs them. Prints one JSON object.
"""

import argparse
import itertools
import json
from pathlib import Path

import llama_cpp


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--write", type=int)
    p.add_argument("--prompt")
    p.add_argument("--read", type=int)
    p.add_argument("--window", type=int)
    p.add_argument("--text", type=Path)
    options = p.parse_args()
    size = 512 if options.read is None else options.window
    model = llama_cpp.Llama(options.model, n_ctx=size, n_batch=size, n_ubatch=size, n_threads=options.threads, n_threads_batch=options.threads,
                            logits_all=options.read is not None, verbose=False)
    if options.read is None:
        prompt = model.tokenize(options.prompt.encode())
        written = list(itertools.islice(model.generate(prompt, temp=0.0, repeat_penalty=1.0), options.write))
    else:
        ids = model.tokenize(options.text.read_bytes(), add_bos=False)
        for number in range(options.read):
            model.reset()
            model.eval(ids[number * options.window : (number + 1) * options.window])
        written = []
    print(json.dumps({"written": len(written), "version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode()}))


if __name__ == "__main__":
    main()
