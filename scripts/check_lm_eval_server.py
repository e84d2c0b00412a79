#!/usr/bin/env python3
"""Checks that lm-eval, asking `reverie serve`, scores items as lm-eval's `hf` model does on the export of the same model.

    scripts/check_lm_eval_server.py --reverie build/release/reverie --data DATA
    scripts/check_lm_eval_server.py --model model.gguf --items 50 --steps 20 --f64

Needs torch, transformers and lm-eval with its API client (lm-eval[api]); no network. DATA (or REVERIE_DATA) holds
tasks/ (choice and text items as JSON lines), gpt2-bpe/ and tinyshakespeare/. Trains a small GPT-2 on GPT-2's byte pairs for
a few steps and exports it, or takes --model (a .gguf file or a Hugging Face directory), and lets lm-eval score local tasks of
four types on both: multiple choice (of answers, of yes and no), log-likelihood (of last words, of answers to word problems),
rolling log-likelihood, greedy text. Then, with a coprocessor beside it: lm-eval's scores under the second name, where the
server finds the place of the latents by itself (--latents-behind), against requests that say it (latents_after). Where
`reverie eval` knows --task, all but the rolling ones are compared with it, too, and with its --latents.

Prints, for every task, items, accuracy on both sides and the largest difference of a log-likelihood. Exit code 0: all
within 1e-4 (1e-6 of the figure where that is more: `hf` sums in f32, in which a text of 600 nats has steps of 6e-5), and
the same texts; 5: not; 77: lm-eval is not installed here. With --f64 the server, `reverie eval` and `hf` compute in f64
(transformers keeps norms and rotary angles in f32 there).
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent
LIMIT, RELATIVE = 1e-4, 1e-6
CONTEXT = 256
NEEDED = ("lm_eval", "torch", "transformers", "aiohttp", "tenacity", "requests")


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def lines(file, count):
    with open(file, encoding="utf-8") as stream:
        return [json.loads(line) for line, _ in zip(stream, range(count))]


def tasks(data, folder, items):
    """Task definitions of lm-eval on files that are written into `folder`."""
    choice = [x for x in lines(data / "tasks/arc_easy.jsonl", 4 * items) if len(x["query"]) < 250][:items]
    texts = [x["text"] for x in lines(data / "tasks/lambada_openai.jsonl", 4 * items) if len(x["text"]) < 350][:items]
    word = [dict(zip(("context", "word"), re.fullmatch(r"(.*?)(\s\S+)", text, re.S).groups())) for text in texts]
    problems = lines(data / "tasks/svamp.jsonl", items)
    problem = [{"context": f"Question: {x['Body']} {x['Question']}\nAnswer:", "word": f" {x['Answer']:g}"} for x in problems]
    greedy = [{"question": x["query"]} for x in choice[: max(1, items // 4)]]
    flips = [{"query": f"Question: {x['question'].removeprefix('Q: ')}\nAnswer:", "choices": [" yes", " no"],
              "gold": int(x["answer"] == "no")} for x in lines(data / "tasks/coin_flip.jsonl", items)]  # fmt: skip
    files = {"choice": choice, "yesno": flips, "word": word, "problem": problem, "rolling": [{"text": text} for text in texts],
             "greedy": greedy}  # fmt: skip
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def task(name, output_type, **more):
        return {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": output_type,
            **more,
        }

    def metric(name, aggregation="mean", better=True):
        return {"metric_list": [{"metric": name, "aggregation": aggregation, "higher_is_better": better}]}

    return {
        "choice": task("choice", "multiple_choice", doc_to_text="{{query}}", doc_to_choice="{{choices}}",
                       doc_to_target="{{gold}}", target_delimiter="", **metric("acc")),
        "yesno": task("yesno", "multiple_choice", doc_to_text="{{query}}", doc_to_choice="{{choices}}",
                      doc_to_target="{{gold}}", target_delimiter="", **metric("acc")),
        "word": task("word", "loglikelihood", doc_to_text="{{context}}", doc_to_target="{{word}}", target_delimiter="",
                     **metric("acc")),
        "problem": task("problem", "loglikelihood", doc_to_text="{{context}}", doc_to_target="{{word}}", target_delimiter="",
                        **metric("acc")),
        "rolling": task("rolling", "loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
                        **metric("bits_per_byte", "bits_per_byte", False)),
        "greedy": task("greedy", "generate_until", doc_to_text="{{question}}", doc_to_target="none",
                       generation_kwargs={"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False, "temperature": 0},
                       **metric("exact_match")),
    }  # fmt: skip


def evaluate(model, definitions):
    """{task: (figures, [(responses, arguments) of each item])}"""
    import lm_eval
    from lm_eval.tasks import TaskManager

    got = lm_eval.simple_evaluate(model=model, tasks=list(definitions.values()), log_samples=True, bootstrap_iters=0,
                                  task_manager=TaskManager(include_defaults=False))  # fmt: skip
    out = {}
    for name, definition in definitions.items():
        samples = sorted(got["samples"][definition["task"]], key=lambda s: s["doc_id"])
        figures = {k: v for k, v in got["results"][definition["task"]].items() if k.endswith(",none") and "stderr" not in k}
        out[name] = figures, [s["resps"] for s in samples]
    return out


class Server:
    def __init__(self, reverie, *arguments):
        self.process = subprocess.Popen([str(reverie), "serve", *map(str, arguments), "--port", "0"],
                                        stdout=subprocess.PIPE, text=True)  # fmt: skip
        start = ""
        while "listening on" not in start:
            line = self.process.stdout.readline()
            if not line:
                sys.exit("the server did not start")
            start += line
        self.url = re.search(r"listening on (\S+)", start)[1]

    def ask(self, path, body=None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body is not None else None,
                                         {"Content-Type": "application/json"})  # fmt: skip
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def names(self):
        return [model["id"] for model in self.ask("/v1/models")["data"]]

    def client(self, name):
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        return LocalCompletionsAPI(model=name, base_url=self.url + "/v1/completions", tokenizer_backend="remote",
                                   num_concurrent=4, batch_size=2, max_length=CONTEXT, max_retries=1)  # fmt: skip

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def numbers(responses):
    """Log-likelihoods and greedy flags of one item, flat; texts as they are."""
    flat = []

    def add(value):
        if isinstance(value, (list, tuple)):
            for one in value:
                add(one)
        else:
            flat.append(value)

    add(responses)
    return flat


def compare(label, name, ours, theirs, own_name, their_name):
    (figures, items), (their_figures, their_items) = ours, theirs
    worst, close, same = 0.0, True, len(items) == len(their_items) and len(items) > 0
    for a, b in zip(items, their_items):
        a, b = numbers(a), numbers(b)
        same = same and len(a) == len(b)
        for x, y in zip(a, b):
            if isinstance(x, float) and isinstance(y, float):
                worst = max(worst, abs(x - y))
                close = close and abs(x - y) <= max(LIMIT, RELATIVE * abs(y))
            else:
                same = same and x == y
    good = same and close
    print(f"{label} {name}: {len(items)} items, {own_name} {json.dumps(figures)}, {their_name} {json.dumps(their_figures)}, "
          f"largest difference of a log-likelihood {worst:.2g} ({'within' if close else 'BEYOND'} the limit), texts and flags "
          f"{'equal' if same else 'DIFFER'}", flush=True)  # fmt: skip
    return good


HARNESS = {
    "choice": {"type": "choice", "prompt": "{{query}}", "choices": ["{{choices[*] | strip}}"], "gold": "{{gold}}"},
    "yesno": {"type": "choice", "prompt": "{{query}}", "choices": ["{{choices[*] | strip}}"], "gold": "{{gold}}"},
    "word": {"type": "loglikelihood", "prompt": "{{context}}", "target": "{{word}}"},
    "problem": {"type": "loglikelihood", "prompt": "{{context}}", "target": "{{word}}"},
    "greedy": {"type": "generate", "prompt": "{{question}}", "target": "none", "stop": ["\n\n"], "max_tokens": 24,
               "answers": {"word": {"pattern": "\\w+", "pick": "first"}}},
}  # fmt: skip
BEHIND_ANSWER = ("choice", "yesno", "problem", "greedy")  # their contexts end with "Answer:"


def harness(program, model, name, folder, options):
    """The same items by `reverie eval --task`: (figures, responses), or None where it has no --task."""
    if "--task" not in run(program, "eval", "--help"):
        return None
    file, log = folder / f"{name}_task.json", folder / f"{name}_log.jsonl"
    file.write_text(json.dumps({"name": f"local_{name}", "mirrors": "own", "data": str(folder / f"{name}.jsonl"),
                                **HARNESS[name]}))  # fmt: skip
    run(program, "eval", model, "--task", file, "--log-samples", log, *options)
    items = [json.loads(line) for line in log.read_text(encoding="utf-8").split("\n")[1:] if line]
    measures = {name: sum(item["measures"][name] for item in items) / len(items)
                for name in ("acc", "exact_match") if name in items[0]["measures"]}  # fmt: skip
    if "text" in items[0]:
        return measures, [[item["text"]] for item in items]
    return measures, [list(zip(item["log_likelihoods"], item["greedy"])) for item in items]


def check_base(server, exported, definitions, folder, program, f64):
    from lm_eval.models.huggingface import HFLM

    where = {"pretrained": str(exported.parent), "gguf_file": exported.name} if exported.is_file() else {"pretrained": str(exported)}
    hf = HFLM(**where, device="cpu", dtype="float64" if f64 else "float32", batch_size=1, max_length=CONTEXT - 1,
              add_bos_token=False, attn_implementation="eager")  # fmt: skip
    theirs = evaluate(hf, definitions)
    ours = evaluate(server.client(server.names()[0]), definitions)
    good = [compare("base", name, ours[name], theirs[name], "served", "hf") for name in definitions]
    for name in HARNESS:
        own = harness(program, exported, name, folder, f64)
        good += [compare("base", name, ours[name], own, "served", "eval --task")] if own else []
    return good


def with_places(server, name, items):
    """Choice items scored by requests of our own that say where the latents go."""

    def tokens(text):
        return server.ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    out, right = [], 0
    for item in items:
        context, scores = tokens(item["query"]), []
        for choice in item["choices"]:
            text = tokens(item["query"] + choice)
            answer = server.ask("/v1/completions", {"model": name, "prompt": text, "max_tokens": 0, "echo": True,
                                                    "logprobs": 1, "latents_after": len(context)})  # fmt: skip
            part = answer["choices"][0]["logprobs"]
            own, top = part["token_logprobs"][len(context) :], part["top_logprobs"][len(context) :]
            scores.append((sum(own), all(x == max(t.values()) for x, t in zip(own, top))))
        out.append(scores)
        right += max(range(len(scores)), key=lambda i: scores[i][0]) == item["gold"]
    return {"acc,none": right / len(items)}, out


def check_latents(server, definitions, folder, beside, program, f64):
    name = server.names()[1]
    some = {task: definitions[task] for task in BEHIND_ANSWER}
    ours = evaluate(server.client(name), some)
    base = evaluate(server.client(server.names()[0]), {"choice": definitions["choice"]})["choice"]
    items = [json.loads(line) for line in (folder / "choice.jsonl").read_text(encoding="utf-8").splitlines()]
    if numbers(ours["choice"][1]) == numbers(base[1]):
        print("latents choice: every score is the base's: the latents did nothing")
        return [False]
    placed = with_places(server, name, items)
    good = [compare("latents", "choice", ours["choice"], placed, "served", "with latents_after")]
    for task in BEHIND_ANSWER:
        own = harness(program, beside, task, folder, ["--latents", *f64])
        good += [compare("latents", task, ours[task], own, "served", "eval --task --latents")] if own else []
    return good


def train(arguments, folder, name, model):
    config = folder / f"{name}.json"
    tokenizer = {"tokenizer": "gpt2", "tokenizer_files": str(arguments.data / "gpt2-bpe")}
    if arguments.model:
        tokenizer = {"tokenizer": "pretrained", "tokenizer_files": str(arguments.model)}
    config.write_text(json.dumps({
        "data": {"path": str(arguments.data / "tinyshakespeare/input.txt"), **tokenizer,
                 "prepared_directory": str(folder / "data")},
        "model": model, "train": {"steps": arguments.steps, "batch_size": 1 if arguments.model else 4}, "sample": {"interval": 0, "tokens": 0},
        "optimizer": {"learning_rate": 1e-4 if arguments.model else 3e-3, "warmup_steps": 5},
        "evaluation": {"interval": 0, "final_windows": 2, "final_prefix_only_windows": 1},
    }))  # fmt: skip
    run(arguments.reverie, "train", config, "--run-dir", folder / name, "--quiet")
    return folder / name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reverie", type=Path, default=ROOT / "build/release/reverie")
    parser.add_argument("--data", type=Path, default=os.environ.get("REVERIE_DATA"), help="default: REVERIE_DATA")
    parser.add_argument("--harness", type=Path, help="another program for `eval --task`")
    parser.add_argument("--model", type=Path, help="a .gguf file or a Hugging Face directory, instead of a small GPT-2")
    parser.add_argument("--items", type=int, default=60, help="items of each task")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--f64", action="store_const", const=["--f64"], default=[], help="compute in f64, on all sides")
    arguments = parser.parse_args()
    program = arguments.harness or arguments.reverie
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: {sys.executable} has no {', '.join(missing)}")
        sys.exit(77)
    if arguments.data is None:
        sys.exit("name the data (--data, or REVERIE_DATA)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exported = arguments.model and arguments.model.absolute()
        if not exported:
            base = train(arguments, folder, "base", {"type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 320})
            exported = folder / "exported"
            run(arguments.reverie, "inspect", base, "--export-hf", exported)
        beside = train(arguments, folder, "beside", {
            "type": "augmented", "base": str(exported), "latents": {"type": "coprocessor", "count": 8, "initial": "base"},
            "block_size": CONTEXT, "groups": 8, "ahead": 8})  # fmt: skip
        definitions = tasks(arguments.data, folder, arguments.items)
        server = Server(arguments.reverie, exported, "--coprocessor", beside, "--latents-behind", "Answer:",
                        *arguments.f64)  # fmt: skip
        try:
            good = check_base(server, exported, definitions, folder, program, arguments.f64)
            good += check_latents(server, definitions, folder, beside, program, arguments.f64)
        finally:
            server.end()
    sys.exit(0 if all(good) else 5)


if __name__ == "__main__":
    main()
