#!/usr/bin/env python3
"""Checks that `reverie eval --task` scores items as lm-eval's `hf` model does, with lm-eval's own task definitions.

    scripts/check_tasks.py --model MODEL --limit 200 --json out.json
    scripts/check_tasks.py --model MODEL --tasks arc_easy winogrande mmlu
    scripts/check_tasks.py --model MODEL --tasks arc_easy --rounds 5 --batch-size 8      also how fast both are

MODEL is a Hugging Face directory, a .gguf file or a run, which is exported first (`reverie inspect --export-hf`).
Needs torch, transformers, datasets, lm-eval 0.4, and gguf for such a file; no network. The items are those of
$REVERIE_DATA/tasks. Each is given to lm-eval in the fields of the published set, so that lm-eval fills its own
templates.

Compared are every request's log-likelihood and whether it is greedy, every item's measures, the accuracies and
their standard errors; of generated texts, the answers. Prints a line a task, with the seconds that both took for
it, loading left out. Exit code 0: all equal, up to --tolerance in a log-likelihood (relative, where it is above
1) and up to choices closer than that; 5: not.

With --rounds, both evaluate every task so many times, in an order that turns from round to round, and the medians of
their items per second are given with the ratio of each round. Neither loading nor lm-eval's bootstrap counts.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


def between(text):
    """The question of an item that is stored as "Question: ...\\nAnswer:"."""
    return text.removeprefix("Question: ").removesuffix("\nAnswer:")


def lettered(item):
    texts = [c.removeprefix(" ") for c in item["choices"]]
    letters = "ABCDE"[: len(texts)]
    return {"choices": {"text": texts, "label": list(letters)}, "answerKey": letters[item["gold"]]}


def arc(item):
    return {"question": between(item["query"]), **lettered(item)}


def copa(item):
    premise, connector = item["query"].rsplit(" ", 1)
    kind = {"because": "cause", "therefore": "effect"}[connector]
    one, two = (c.removeprefix(" ") for c in item["choices"])
    return {"premise": premise + ".", "question": kind, "choice1": one, "choice2": two, "label": item["gold"]}


def winogrande(item):
    one, two = item["query"]
    begin = os.path.commonprefix([one, two])
    begin = begin[: begin.rfind(" ") + 1]  # options may begin alike
    return {"sentence": begin + "_" + item["choices"], "option1": one[len(begin) :], "option2": two[len(begin) :],
            "answer": str(item["gold"] + 1)}  # fmt: skip


def social(item):
    # lm-eval joins context and question by a space.
    context, question = between(item["query"]).rsplit(" ", 1)
    a, b, c = (x.removeprefix(" ") for x in item["choices"])
    return {"context": context, "question": question, "answerA": a, "answerB": b, "answerC": c,
            "label": str(item["gold"] + 1)}  # fmt: skip


def hellaswag(item):
    return {"query": item["query"], "choices": [c.removeprefix(" ") for c in item["choices"]], "label": str(item["gold"])}


def same(item):
    return item


# ours: (file of items, lm-eval's definition, its task, from a stored item to the published fields, changes)
TASKS = {
    "arc_easy": ("tasks/arc_easy.jsonl", "arc/arc_easy.yaml", arc, {}),
    "arc_challenge": ("tasks/arc_challenge.jsonl", "arc/arc_challenge.yaml", arc, {}),
    "openbookqa": ("tasks/openbookqa.jsonl", "openbookqa/openbookqa.yaml",
                   lambda i: {"question_stem": between(i["query"]), **lettered(i)}, {}),
    "csqa": ("tasks/csqa.jsonl", "commonsense_qa/default.yaml", arc, {}),
    "copa": ("tasks/copa.jsonl", "super_glue/copa/default.yaml", copa, {}),
    "winogrande": ("tasks/winogrande.jsonl", "winogrande/default.yaml", winogrande, {}),
    "socialiqa": ("tasks/socialiqa.jsonl", "siqa/siqa.yaml", social, {}),
    "hellaswag": ("tasks/hellaswag_1000.jsonl", "hellaswag/hellaswag.yaml", hellaswag, {"process_docs": None}),
    "mmlu": ("tasks/mmlu_test.jsonl", "mmlu/default/mmlu_abstract_algebra.yaml", same, {"num_fewshot": 5}),
    "lambada": ("tasks/lambada_openai.jsonl", "lambada/lambada_openai.yaml", same, {}),
    "gsm8k": ("gsm8k/train.jsonl", "gsm8k/gsm8k.yaml", same, {"num_fewshot": 8, "fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}),
}  # fmt: skip
GENERATED = {"gsm8k"}


def run(*command, env=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if done.returncode not in (0, 5):
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def read_lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


def write_lines(file, items):
    file.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def lm_eval_task(name, items, data, folder):
    """lm-eval's own definition of the task, on these items."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    _, definition, convert, changes = TASKS[name]
    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / definition)
    write_lines(folder / "items.jsonl", [convert(item) for item in items])
    files = {"test": str(folder / "items.jsonl")}
    if "num_fewshot" in changes and name == "mmlu":
        subject = items[0]["subject"]
        pool = [item for item in read_lines(data / "tasks/mmlu_dev.jsonl") if item["subject"] == subject]
        write_lines(folder / "dev.jsonl", pool)
        files["dev"] = str(folder / "dev.jsonl")
    if name in GENERATED:
        files["train"] = str(data / "gsm8k/train.jsonl")
    for key in ("tag", "training_split", "validation_split", "should_decontaminate", "doc_to_decontamination_query",
                "task_alias", "dataset_name"):  # fmt: skip
        config.pop(key, None)
    config.update({"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": {"data_files": files},
                   "test_split": "test", **changes})  # fmt: skip
    return {key: value for key, value in config.items() if value is not None}


def theirs(model, name, items, data, folder, errors):
    import lm_eval
    from lm_eval.tasks import TaskManager

    config = lm_eval_task(name, items, data, folder)
    began = time.monotonic()
    results = lm_eval.simple_evaluate(
        model=model, tasks=[config], task_manager=TaskManager(include_defaults=False), bootstrap_iters=errors, log_samples=True
    )
    seconds = time.monotonic() - began
    task = config["task"]
    samples = {}
    for sample in results["samples"][task]:
        samples.setdefault(sample["doc_id"], {})[sample["filter"]] = sample
    return results["results"][task], [samples[i] for i in sorted(samples)], seconds


def ours(arguments, exported, name, items, data, folder):
    source = folder / "stored.jsonl"
    write_lines(source, items)
    run(arguments.reverie, "eval", exported, "--task", ROOT / "configs" / "tasks" / f"{name}.json", "--data", source,
        "--log-samples", folder / "log.jsonl", "--json", folder / "figures.json",
        env={**os.environ, "REVERIE_DATA": str(data)})  # fmt: skip
    return json.loads((folder / "figures.json").read_text()), read_lines(folder / "log.jsonl")[1:]


def near(a, b, tolerance):
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def closest(values):
    """How far the likeliest choice is from the next."""
    ordered = sorted(values, reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else math.inf


def compare_likelihoods(mine, its, tolerance):
    """(largest difference, differences that count)"""
    largest, wrong = 0.0, []
    for i, (item, filters) in enumerate(zip(mine, its, strict=True)):
        sample = next(iter(filters.values()))
        pairs = [(float(r[0]), str(r[1]) == "True") for r in sample["filtered_resps"]]
        if len(pairs) != len(item["log_likelihoods"]):
            wrong.append(f"item {i}: {len(item['log_likelihoods'])} requests and {len(pairs)}")
            continue
        for choice, (nats, (wanted, greedy)) in enumerate(zip(item["log_likelihoods"], pairs, strict=True)):
            largest = max(largest, abs(nats - wanted) / max(1.0, abs(wanted)))
            if not near(nats, wanted, tolerance):
                wrong.append(f"item {i}, choice {choice}: {nats:.6f} and {wanted:.6f}")
            if item["greedy"][choice] != greedy:
                wrong.append(f"item {i}, choice {choice}: greedy {item['greedy'][choice]} and {greedy}")
        for measure in ("acc", "acc_norm"):
            if measure in sample and measure in item["measures"] and sample[measure] != item["measures"][measure]:
                if closest([p[0] for p in pairs]) > tolerance or len(pairs) == 1:
                    wrong.append(f"item {i}: {measure} {item['measures'][measure]} and {sample[measure]}")
    return largest, wrong


def compare_answers(mine, its):
    wrong = []
    for i, (item, filters) in enumerate(zip(mine, its, strict=True)):
        for name, answer in item["answers"].items():
            wanted = filters[name]["filtered_resps"][0]
            if answer != wanted or item["measures"][f"exact_match,{name}"] != filters[name]["exact_match"]:
                wrong.append(f"item {i}, {name}: '{answer}' and '{wanted}'")
    return 0.0, wrong


def check(name, arguments, exported, model, data, folder):
    stored = read_lines(data / TASKS[name][0])
    limit = arguments.generate_limit if name in GENERATED else arguments.limit
    if name == "mmlu":  # one subject: its solved examples are its own
        stored = [item for item in stored if item["subject"] == arguments.subject]
    items = stored[:limit]
    seconds = {"reverie": [], "lm_eval": []}
    for turn in range(max(1, arguments.rounds)):
        for side in ("reverie", "lm_eval") if turn % 2 == 0 else ("lm_eval", "reverie"):
            if side == "reverie":
                figures, mine = ours(arguments, exported, name, items, data, folder)
                seconds[side].append(figures["seconds"])
            else:
                # Only the first one needs the standard errors that lm-eval resamples.
                again, it, taken = theirs(model, name, items, data, folder, 1000 if turn == 0 and not arguments.rounds else 0)
                results, its = (again, it) if turn == 0 else (results, its)
                seconds[side].append(taken)
    largest, wrong = compare_answers(mine, its) if name in GENERATED else compare_likelihoods(mine, its, arguments.tolerance)
    shown = {}
    for measure, value in figures["measures"].items():
        key = measure if "," in measure else f"{measure},none"
        if key not in results:
            continue
        metric, filter_ = key.split(",")
        error = results.get(f"{metric}_stderr,{filter_}")
        shown[measure] = {"reverie": value["value"], "lm_eval": results[key], "reverie_stderr": value["stderr"],
                          "lm_eval_stderr": error}  # fmt: skip
        if not near(value["value"], results[key], arguments.tolerance):
            wrong.append(f"{measure} {value['value']} and {results[key]}")
        exact = metric != "perplexity" and isinstance(error, float) and value["stderr"] is not None
        if exact and not near(value["stderr"], error, 1e-9):
            wrong.append(f"{measure}: standard error {value['stderr']} and {error}")
    text = ", ".join(f"{m} {v['reverie']:.4f} and {v['lm_eval']:.4f}" for m, v in shown.items())
    print(f"{name}: {len(items)} items: {text}; largest difference of a log-likelihood {largest:.2g}; {len(wrong)} unequal; "
          f"{median(seconds['reverie']):.1f} and {median(seconds['lm_eval']):.1f} s", flush=True)  # fmt: skip
    if arguments.rounds:
        ratios = [b / a for a, b in zip(seconds["reverie"], seconds["lm_eval"])]
        print(f"  {len(items) / median(seconds['reverie']):.2f} and {len(items) / median(seconds['lm_eval']):.2f} items/s; ratio of each round "
              f"{', '.join(f'{r:.2f}' for r in ratios)}; median {median(ratios):.2f}", flush=True)  # fmt: skip
    for line in wrong[:10]:
        print(f"  {line}", flush=True)
    return {"items": len(items), "measures": shown, "largest_difference": largest, "unequal": len(wrong),
            "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=0, help="also measure how fast both are, so many times")
    parser.add_argument("--reverie", type=Path, default=ROOT / "build/release/reverie")
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face directory, a run or a .gguf file")
    parser.add_argument("--data", type=Path, default=os.environ.get("REVERIE_DATA"), help="default: $REVERIE_DATA")
    parser.add_argument("--tasks", nargs="+", default=[t for t in TASKS if t not in GENERATED], choices=list(TASKS))
    parser.add_argument("--subject", default="abstract_algebra", help="of mmlu")
    parser.add_argument("--limit", type=int, default=200, help="items of each task")
    parser.add_argument("--generate-limit", type=int, default=20, help="items of tasks that write texts")
    parser.add_argument("--batch-size", type=int, default=8, help="of lm-eval")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("set REVERIE_DATA, or name the folder of the items (--data)")
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory(prefix="reverie-tasks-") as temporary:
        model_path, options = arguments.model, {}
        if model_path.suffix == ".gguf":
            options = {"pretrained": str(model_path.parent.resolve()), "gguf_file": model_path.name}
        else:
            if not (model_path / "config.json").is_file():
                model_path = Path(temporary) / "exported"
                run(arguments.reverie, "inspect", arguments.model, "--export-hf", model_path)
            options = {"pretrained": str(model_path)}
        # The other attention implementations leave Gemma 2's soft-caps out; the fused one is the faster.
        attention = "sdpa" if arguments.rounds else "eager"
        model = HFLM(**options, device="cpu", dtype="float32", batch_size=arguments.batch_size,
                     attn_implementation=attention)  # fmt: skip
        out = {}
        for name in arguments.tasks:
            folder = Path(temporary) / name
            folder.mkdir()
            out[name] = check(name, arguments, model_path, model, Path(arguments.data), folder)
    unequal = [name for name, result in out.items() if result["unequal"]]
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": str(arguments.model.name), "tasks": out}, indent=2) + "\n")
    print(f"check_tasks: {len(out) - len(unequal)} of {len(out)} tasks equal" + (f"; not: {', '.join(unequal)}" if unequal else ""))
    return 5 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
