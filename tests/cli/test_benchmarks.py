"""`reverie eval --task`: accuracies, labels, logs, comparisons, and evaluations that were killed.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "model": {"type": "llama", "block_size": 96, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32},
    "train": {"steps": 4, "batch_size": 4},
    "evaluation": {"interval": 0, "final_windows": 2, "final_prefix_only_windows": 1},
    "sample": {"interval": 0, "tokens": 0},
}
CHOICE = {
    "name": "sums", "mirrors": "own", "data": "sums.jsonl", "split": "test",
    "prompt": "Sum: {{a}} + {{b}} =", "choices": ["{{choices[*]}}"], "gold": "{{gold}}", "group": "{{part}}",
}  # fmt: skip
GENERATE = {
    "name": "answers", "mirrors": "own", "type": "generate", "data": "sums.jsonl", "prompt": "Sum: {{a}} + {{b}} =",
    "target": "{{choices[0]}}", "stop": ["\n"], "max_tokens": 12, "second_prompt": "\nSo ", "second_max_tokens": 6,
    "answers": {"first": {"pattern": "\\d+"}, "last": {"pattern": "\\d+", "pick": "last"}},
}  # fmt: skip
ITEMS = 60


class BenchmarkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-benchmarks-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.here = Path(cls.temporary.name)
        lines = [f"Sum: {n} + {n * 7 % 50} = {n + n * 7 % 50}\nSo {n}.\n" for n in range(100)]
        (cls.here / "text.txt").write_text("".join(lines) * 4)
        with open(cls.here / "sums.jsonl", "w") as file:
            for n in range(ITEMS):
                a, b = n * 13 % 40, n * 29 % 50
                choices = [str(a + b), str(a + b + 1), str(2 * a + 10)]
                file.write(json.dumps({"a": a, "b": b, "choices": choices, "gold": 0, "part": "xy"[n % 3 == 0]}) + "\n")
        (cls.here / "choice.json").write_text(json.dumps(CHOICE))
        (cls.here / "generate.json").write_text(json.dumps(GENERATE))
        for name, model in (
            ("run", {}),
            ("other", {"n_embd": 8}),
            ("leaky", {"type": "gpt2", "block_size": 96, "n_layer": 2, "n_head": 2, "n_embd": 16,
                       "memory": {"type": "imm", "mode": "as_published", "low_rank_dim": 3, "num_slots": 3},
                       "allow_future_leak": True}),
        ):  # fmt: skip
            experiment = json.loads(json.dumps(EXPERIMENT))
            experiment["data"] = {"path": str(cls.here / "text.txt"), "prepared_directory": str(cls.here / "tokens"),
                                  "tokenizer": "char"}  # fmt: skip
            if "allow_future_leak" in model:
                model = dict(model)
                experiment["allow_future_leak"] = model.pop("allow_future_leak")
                experiment["model"] = model
            else:
                experiment["model"].update(model)
            (cls.here / f"{name}.json").write_text(json.dumps(experiment))
            done = cls.reverie("train", f"{name}.json", "--run-dir", name, "--quiet")
            assert done.returncode in (0, 5), done.stdout + done.stderr

    @classmethod
    def environment(cls):
        return {**os.environ, "XDG_CACHE_HOME": str(cls.here / "cache"), "REVERIE_DATA": str(cls.here)}

    @classmethod
    def reverie(cls, *arguments):
        return subprocess.run([str(REVERIE), *map(str, arguments)], cwd=cls.here, capture_output=True, text=True, check=False,
                              env=cls.environment())  # fmt: skip

    def expect(self, status, *arguments):
        got = self.reverie(*arguments)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def log(self, name):
        return [json.loads(line) for line in (self.here / name).read_text().splitlines()]

    def evaluate(self, model, task, *arguments, status=0):
        got = self.expect(status, "eval", model, "--task", task, "--json", "figures.json", "--log-samples", "log.jsonl",
                          *arguments)  # fmt: skip
        return got, json.loads((self.here / "figures.json").read_text()), self.log("log.jsonl")

    def test_accuracies_are_those_of_the_logged_scores(self):
        got, figures, (head, *items) = self.evaluate("run", "choice.json")
        self.assertEqual(len(items), ITEMS)
        right = []
        for item in items:
            self.assertEqual(item["contexts"][0][:5], "Sum: ")
            self.assertEqual(item["continuations"][0][0], " ")
            nats = item["log_likelihoods"]
            right.append(nats.index(max(nats)) == item["gold"])
            per_byte = [n / len(c[1:]) for n, c in zip(nats, item["continuations"], strict=True)]
            self.assertEqual(item["measures"]["acc_norm"], per_byte.index(max(per_byte)) == item["gold"])
            self.assertEqual(item["measures"]["acc"], right[-1])
        mean = sum(right) / ITEMS
        acc = figures["measures"]["acc"]
        self.assertAlmostEqual(acc["value"], mean, places=12)
        parts = [[r for r, i in zip(right, items, strict=True) if i["part"] == p] for p in "xy"]
        macro = sum(sum(p) / len(p) for p in parts) / 2
        self.assertAlmostEqual(acc["macro"], macro, places=12)
        self.assertEqual(acc["parts"]["y"]["items"], len(parts[1]))
        pooled = sum(len(p) * sum((r - sum(p) / len(p)) ** 2 for r in p) / len(p) for p in parts)
        self.assertAlmostEqual(acc["stderr"], math.sqrt(pooled / (ITEMS - 2) / ITEMS), places=12)
        self.assertAlmostEqual(figures["chance"], 1 / 3, places=12)
        self.assertFalse(figures["limited"])
        self.assertEqual(figures["verdict"]["state"], "causal")
        self.assertIn("the evaluation's own forward, keys cached,", json.dumps(figures["verdict"]))
        self.assertIn(f"acc           {mean:.4f} +- {acc['stderr']:.4f}  (chance 0.3333)", got.stdout)
        self.assertIn("\ncausal: ", got.stdout)
        self.assertEqual(list((self.here / "cache" / "reverie" / "evaluations").glob("*.jsonl")), [])

    def test_a_part_of_a_task_is_labelled_everywhere(self):
        got, figures, (head, *items) = self.evaluate("run", "choice.json", "--limit", 7)
        self.assertEqual((figures["items"], figures["of"], figures["limited"]), (7, ITEMS, True))
        self.assertTrue(head["limited"])
        self.assertEqual(len(items), 7)
        for line in got.stdout.splitlines():
            if line.startswith(("acc", "  macro")):
                self.assertIn("LIMITED to 7 of 60 items", line)
        other = self.here / "other_sums.jsonl"
        other.write_text((self.here / "sums.jsonl").read_text().splitlines()[0] + "\n")
        got, figures, _ = self.evaluate("run", "choice.json", "--data", other)
        self.assertTrue(figures["other_data"])
        self.assertIn("OTHER DATA", got.stdout)

    def test_a_leaking_model_is_labelled(self):
        got, figures, (head, *_) = self.evaluate("leaky", "choice.json", "--limit", 5)
        self.assertEqual((figures["label"], head["label"]), ("LEAKS", "LEAKS"))
        figures_shown = [line for line in got.stdout.splitlines() if line.startswith(("acc", "  macro"))]
        self.assertGreaterEqual(len(figures_shown), 3)
        for line in figures_shown:
            self.assertIn("  LEAKS", line)

    def test_two_models_on_the_same_items(self):
        self.evaluate("run", "choice.json")
        (self.here / "log.jsonl").rename(self.here / "run_log.jsonl")
        got, figures, _ = self.evaluate("run", "choice.json", "--against", "run_log.jsonl")
        acc = figures["against"]["measures"]["acc"]
        self.assertEqual((acc["difference"], acc["interval_95"], acc["mcnemar_p"]), (0, [0, 0], 1))
        got, figures, (_, *items) = self.evaluate("other", "choice.json", "--against", "run_log.jsonl")
        its = [item["measures"]["acc"] for item in self.log("run_log.jsonl")[1:]]
        mine = [item["measures"]["acc"] for item in items]
        acc = figures["against"]["measures"]["acc"]
        self.assertAlmostEqual(acc["difference"], (sum(mine) - sum(its)) / ITEMS, places=12)
        self.assertEqual(acc["only_this_right"], sum(m > i for m, i in zip(mine, its, strict=True)))
        self.assertLessEqual(acc["interval_95"][0], acc["difference"])
        self.assertIn("against run", got.stdout)
        self.assertIn("McNemar's p", got.stdout)
        got = self.expect(2, "eval", "run", "--task", "choice.json", "--limit", 5, "--against", "run_log.jsonl")
        self.assertIn("its items is 60, this evaluation's is 5", got.stderr)
        got = self.expect(2, "eval", "run", "--task", "generate.json", "--against", "run_log.jsonl")
        self.assertIn("its task is", got.stderr)

    def test_written_answers(self):
        got, figures, (_, *items) = self.evaluate("run", "generate.json", "--limit", 9)
        self.assertEqual(set(figures["measures"]), {"exact_match,first", "exact_match,last"})
        for item in items:
            self.assertNotIn("\n", item["text"])
            self.assertLessEqual(item["tokens"], 12)
            self.assertLessEqual(item["second_tokens"], 6)
            self.assertEqual(item["measures"]["exact_match,first"], item["answers"]["first"] == item["target"])
        self.assertGreater(figures["tokens_written_per_item"], 1)
        alone = self.log("log.jsonl")
        self.evaluate("run", "generate.json", "--limit", 9, "--batch-tokens", 1)
        self.assertEqual([i["second_text"] for i in alone[1:]], [i["second_text"] for i in self.log("log.jsonl")[1:]])

    def train_beside(self):
        if (self.here / "beside").exists():
            return
        self.expect(0, "inspect", "run", "--export-hf", "run_hf")
        experiment = json.loads((self.here / "run.json").read_text())
        experiment["model"] = {"type": "augmented", "base": str(self.here / "run_hf"), "block_size": 64, "groups": 4,
                               "ahead": 4, "latents": {"type": "coprocessor", "count": 3}}  # fmt: skip
        (self.here / "beside.json").write_text(json.dumps(experiment))
        self.expect(0, "train", "beside.json", "--run-dir", "beside", "--quiet")

    def test_a_run_with_latents_is_asked_as_its_base_or_behind_them(self):
        self.train_beside()
        scores = {}
        for name, arguments in (("alone", ["run_hf"]), ("base", ["beside"]), ("latents", ["beside", "--latents"])):
            got, figures, (head, *items) = self.evaluate(arguments[0], "choice.json", *arguments[1:])
            scores[name] = [item["log_likelihoods"] for item in items]
            self.assertEqual(figures["latents"], name == "latents")
            self.assertEqual(head["latents"], name == "latents")
            self.assertEqual("its base, without latents" in got.stdout, name == "base")
            self.assertEqual("with its latents behind every context" in got.stdout, name == "latents")
        self.assertEqual(scores["base"], scores["alone"])
        self.assertNotEqual(scores["latents"], scores["base"])

    def test_latents_are_made_anew_while_an_answer_is_written(self):
        self.train_beside()
        texts = {}
        for every in (None, 0, 3, 1000):
            more = [] if every is None else ["--latents-every", every]
            got, figures, (head, *items) = self.evaluate("beside", "generate.json", "--latents", "--limit", 9, *more)
            texts[every] = [(item["text"], item["second_text"]) for item in items]
            for said in (figures, head):
                self.assertEqual(said.get("latents_every", 0), every or 0)
            self.assertEqual("behind every context, made anew every" in got.stdout, bool(every))
            self.evaluate("beside", "generate.json", "--latents", "--limit", 9, "--batch-tokens", 1, *more)
            self.assertEqual([(item["text"], item["second_text"]) for item in self.log("log.jsonl")[1:]], texts[every])
        self.assertEqual(texts[0], texts[None])
        self.assertEqual(texts[1000], texts[None])
        (self.here / "log.jsonl").rename(self.here / "anew.jsonl")
        got, _, _ = self.evaluate("beside", "generate.json", "--latents", "--limit", 9, "--against", "anew.jsonl")
        self.assertIn("with latents, made anew every 1000 tokens", got.stdout)
        for wrong, words in ((["--task", "choice.json", "--latents", "--latents-every", 3], 'task sums is of type "choice"'),
                             (["--task", "generate.json", "--latents-every", 3], "wanted --latents beside it")):  # fmt: skip
            self.assertIn(words, self.expect(1, "eval", "beside", *wrong).stderr)
        self.assertNotEqual(self.reverie("eval", "beside", "--task", "generate.json", "--latents", "--latents-every", -3).returncode, 0)

    def test_a_killed_evaluation_goes_on_with_latents_made_as_often_alone(self):
        self.train_beside()
        arguments = [*self.evaluation("beside", "generate.json"), "--latents", "--latents-every"]
        self.kill([*arguments, "3"], b'"second_text"')
        self.assertNotIn("going on: ", self.expect(0, *arguments[1:], "2").stderr)
        self.assertNotIn("going on: ", self.expect(0, *arguments[1:], "0").stderr)
        self.assertIn("going on: ", self.expect(0, *arguments[1:], "3").stderr)

    def evaluation(self, model, task):
        return [str(REVERIE), "eval", model, "--task", task, "--log-samples", "log.jsonl", "--batch-tokens", "1"]

    def kill(self, arguments, shape):
        """Kills an evaluation behind some results, and gives the file that keeps them."""
        folder = self.here / "cache" / "reverie" / "evaluations"
        process = subprocess.Popen(arguments, cwd=self.here, env=self.environment(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        kept = 0
        while process.poll() is None and kept < 8:
            for file in folder.glob("*.jsonl"):
                kept = file.read_bytes().count(shape)
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (file,) = folder.glob("*.jsonl")  # it was killed before its end
        return file

    def kill_in_the_middle(self, task, shape):
        arguments = self.evaluation("run", task)
        self.expect(0, *arguments[1:])
        whole = self.log("log.jsonl")
        (self.here / "log.jsonl").unlink()
        file = self.kill(arguments, shape)
        with open(file, "ab") as results:
            results.write(b'{"item":59,"result":{"log_l')  # a line that the kill cut off
        kept = file.read_bytes().count(shape)
        self.assertGreaterEqual(kept, 8)
        got = self.expect(0, *arguments[1:], "--json", "figures.json")
        self.assertIn("going on: ", got.stderr)
        self.assertGreater(json.loads((self.here / "figures.json").read_text())["scored_before"], 0)
        again = self.log("log.jsonl")
        for log in (whole, again):
            self.assertEqual(log[0].pop("verdict")["state"], "causal")  # it tells of other rows
        self.assertEqual(again, whole)
        self.assertEqual(list(file.parent.glob("*.jsonl")), [])

    def test_a_killed_evaluation_goes_on(self):
        self.kill_in_the_middle("choice.json", b'"log_likelihoods"')

    def test_the_same_weights_in_another_model_begin_anew(self):
        self.expect(0, "inspect", "run", "--export-hf", "one")
        shutil.copytree(self.here / "one", self.here / "two", dirs_exist_ok=True)
        config = json.loads((self.here / "two" / "config.json").read_text())
        config["rope_theta"] = 50.0
        if "rope_parameters" in config:
            config["rope_parameters"]["rope_theta"] = 50.0
        (self.here / "two" / "config.json").write_text(json.dumps(config))
        one, two = (self.evaluation(model, "choice.json") for model in ("one", "two"))
        self.expect(0, *two[1:])
        whole = self.log("log.jsonl")
        self.kill(one, b'"log_likelihoods"')
        got = self.expect(0, *two[1:], "--json", "figures.json")
        self.assertNotIn("going on: ", got.stderr)
        self.assertEqual(json.loads((self.here / "figures.json").read_text()).get("scored_before", 0), 0)
        self.assertEqual(self.log("log.jsonl"), whole)
        self.assertIn("going on: ", self.expect(0, *one[1:]).stderr)
        self.assertNotEqual(self.log("log.jsonl")[1:], whole[1:])

    def test_killed_writing_goes_on(self):
        self.kill_in_the_middle("generate.json", b'"second_text"')

    def test_refusals(self):
        got = self.expect(2, "eval", "run", "--task", "arc_esy")
        self.assertIn("did you mean 'arc_easy'", got.stderr)
        got = self.expect(1, "eval", "run", "--task", ROOT / "configs" / "tasks" / "boolq.json")
        self.assertIn("https://huggingface.co/datasets/aps/super_glue", got.stderr)
        got = self.expect(1, "eval", "run", "--task", "choice.json", "--latents")
        self.assertIn("makes no latents", got.stderr)
        self.assertNotEqual(self.reverie("eval", "run", "--task", "choice.json", "--windows", 3).returncode, 0)
        self.expect(2, "eval", "run", "--tokenizer", "run")
        (self.here / "broken.json").write_text(json.dumps({**CHOICE, "promt": "x"}))
        self.assertIn("promt", self.expect(2, "eval", "run", "--task", "broken.json").stderr)
        (self.here / "broken.json").write_text(json.dumps({**GENERATE, "stop": ["\n", ""]}))
        self.assertIn("an empty text", self.expect(2, "eval", "run", "--task", "broken.json").stderr)

    def test_an_output_replaces_no_input(self):
        for option, path, part in (
            ("--json", "choice.json", "which is the task's definition"),
            ("--log-samples", "sums.jsonl", "which is the task's items"),
            ("--json", "run/config.resolved.json", "a file that a run is made of"),
            ("--json", "run/metrics.jsonl", "a file that a run is made of"),
        ):
            before = (self.here / path).read_bytes()
            got = self.expect(1, "eval", "run", "--task", "choice.json", option, path)
            self.assertIn(part, got.stderr)
            self.assertEqual((self.here / path).read_bytes(), before)
        got = self.expect(1, "eval", "run", "--task", "choice.json", "--json", "one.json", "--log-samples", "./one.json")
        self.assertIn("are the same file", got.stderr)
        self.assertFalse((self.here / "one.json").exists())
        self.expect(0, "eval", "run", "--task", "choice.json", "--json", "/dev/null", "--log-samples", "/dev/null")

    def test_figures_and_results_outlive_an_output_that_cannot_be_written(self):
        # A limit on the size of files that the kept results fit, and the log does not.
        command = f"ulimit -f 12; exec {REVERIE} eval run --task choice.json --log-samples big.jsonl"
        got = subprocess.run(["bash", "-c", command], cwd=self.here, env=self.environment(), capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, 1, got.stderr)
        self.assertIn("acc", got.stdout)
        again = self.expect(0, "eval", "run", "--task", "choice.json", "--log-samples", "big.jsonl")
        self.assertIn(f"{ITEMS} of {ITEMS} items were scored before", again.stderr)

    # Items as scripts/check_tasks.py has them, long enough to lose their beginnings in a block of 320 characters.
    MADE_UP = {
        "tasks/arc_easy.jsonl": [
            {"query": f"Question: Is {n} more than {7 - n}?\nAnswer:", "choices": [" yes", " no, it is not", " both"], "gold": n % 3}
            for n in range(8)
        ],
        "tasks/copa.jsonl": [
            {"query": f"The {n}. cup broke {why}", "choices": [" it fell.", " he swept the floor."], "gold": n % 2}
            for n, why in enumerate(["because", "therefore"] * 3)
        ],
        "tasks/winogrande.jsonl": [
            {"query": [f"Ann met Anna {n} times so Ann", f"Ann met Anna {n} times so Anna"], "choices": " was glad.", "gold": n % 2}
            for n in range(6)
        ],
        "tasks/hellaswag_1000.jsonl": [
            {"query": f"Cooking: He takes {n} eggs. He", "choices": [" eats.", "  fries them.", " a", " runs off."], "gold": n % 4}
            for n in range(6)
        ],
        "tasks/mmlu_test.jsonl": [
            {"subject": "abstract_algebra", "question": f" What is {n} + {n}? ", "choices": [str(n * k) for k in range(4)], "answer": 2}
            for n in range(6)
        ],
        "tasks/mmlu_dev.jsonl": [
            {"subject": "abstract_algebra", "question": f"And {n}?", "choices": ["a", "b", "c", "d"], "answer": n % 4}
            for n in range(5)
        ],
        "tasks/lambada_openai.jsonl": [{"text": f"It was the {n}. time that he\nread the line"} for n in range(6)],
        "gsm8k/train.jsonl": [
            {"question": f"He has {n} cups and buys 2. How many?", "answer": f"{n}+2={n + 2}\n#### {n + 2}"} for n in range(8)
        ],
    }  # fmt: skip

    def test_lm_eval_scores_the_same(self):
        python = os.environ.get("REVERIE_ORACLE_PYTHON", sys.executable)
        if subprocess.run([python, "-c", "import lm_eval, torch, transformers, datasets"], capture_output=True).returncode != 0:
            self.skipTest("needs Python's lm-eval, torch, transformers and datasets (REVERIE_ORACLE_PYTHON)")
        data = self.here / "made_up"
        for name, items in self.MADE_UP.items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_text("".join(json.dumps(item) + "\n" for item in items))
        experiment = json.loads((self.here / "run.json").read_text())
        experiment["data"] = {"path": str(self.here / "text.txt"), "prepared_directory": str(self.here / "pieces"),
                              "tokenizer": "pretrained",
                              "tokenizer_files": str(ROOT / "tests/golden/tokenizers/pieces_no_prefix.model")}  # fmt: skip
        experiment["model"]["block_size"] = 320
        (self.here / "wide.json").write_text(json.dumps(experiment))
        self.expect(0, "train", "wide.json", "--run-dir", "wide", "--quiet")
        tasks = ["arc_easy", "copa", "winogrande", "hellaswag", "mmlu", "lambada", "gsm8k"]
        done = subprocess.run([python, ROOT / "scripts" / "check_tasks.py", "--reverie", REVERIE, "--model", "wide", "--data", data,
                               "--tasks", *tasks, "--json", "equal.json"], cwd=self.here, env=self.environment(),
                              capture_output=True, text=True, check=False)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-2000:])
        self.assertIn("check_tasks: 7 of 7 tasks equal", done.stdout)
        equal = json.loads((self.here / "equal.json").read_text())["tasks"]
        self.assertTrue(all(equal[name]["items"] >= 3 and equal[name]["measures"] for name in tasks))


if __name__ == "__main__":
    unittest.main()
