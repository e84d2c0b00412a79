"""Tables of benchmarks as a user meets them: the shipped smoke preset, and a published model with the latents of runs.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

COMMON = {
    "seed": 7,
    "data": {"path": "text.txt", "tokenizer": "char", "prepared_directory": "tokens"},
    "train": {"steps": 4, "batch_size": 4},
    "evaluation": {"interval": 0, "windows": 2, "final_windows": 2, "final_prefix_only_windows": 1},
    "sample": {"interval": 0, "tokens": 0},
}
CHOICE = {
    "name": "sums", "mirrors": "own", "data": "sums.jsonl", "prompt": "Sum: {{a}} + {{b}} =",
    "choices": ["{{choices[*]}}"], "gold": "{{gold}}",
}  # fmt: skip
GENERATE = {
    "name": "answers", "mirrors": "own", "type": "generate", "data": "sums.jsonl", "prompt": "Sum: {{a}} + {{b}} =",
    "target": "{{choices[0]}}", "stop": ["\n"], "max_tokens": 8, "answers": {"first": {"pattern": "\\d+"}},
}  # fmt: skip
STEPS = {**GENERATE, "name": "steps", "second_prompt": "\nSo ", "second_max_tokens": 6}
TABLE = {
    "kind": "benchmarks", "title": "sums, asked", "base": {"seed": 1}, "models": {"trained": {}, "coprocessor": {}}, "baseline": "trained",
    "shuffled": ["coprocessor"], "compared": {"coprocessor": ["coprocessor_shuffled", "zero_shot"]},
    "presets": {"asked": {"seeds": [1], "measure": {"resamples": 200}, "asked": {
        "model": "base", "runs": "latents", "latents": ["coprocessor"], "limit": 12,
        "tasks": {"sums": {"base": "choice.json"}, "answers": {"base": "generate.json", "zero_shot": "steps.json"}},
    }}},
}  # fmt: skip


class ReasoningTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-reasoning-")
        self.addCleanup(temporary.cleanup)
        self.here = Path(temporary.name)

    def expect(self, status, *arguments):
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.here / "cache"), "REVERIE_DATA": str(self.here)}
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.here, capture_output=True, text=True, check=False, env=environment)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def test_the_smoke_preset_trains_both_tasks_and_says_what_helps(self):
        said = self.expect(0, "repro", ROOT / "configs/tables/reasoning.json", "--preset", "smoke", "--run-dir", "out").stdout
        table = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual(table["finished_runs"], table["planned_runs"])
        self.assertEqual({row["task"] for row in table["rows"]}, {"arithmetic", "reachability"})
        for row in table["rows"]:
            self.assertEqual(row["verdict"], "causal", row)
            self.assertEqual(row["items"], row["of"], row)
        titles = [row["title"] for row in table["rows"] if row["task"] == "reachability"]
        for title in ("Direct answer", "Written steps", "Soft embeddings, 4", "Coprocessor, 2", "Coprocessor, 4, shuffled", "Coconut, stage 2"):
            self.assertIn(title, titles)
        written = {row["title"]: row["measured"]["tokens_written"]["mean"] for row in table["rows"] if row["task"] == "arithmetic"}
        self.assertEqual(set(written), {row["title"] for row in table["rows"] if row["task"] == "arithmetic"})
        findings = {(f["task"], f["title"]): [a["title"] for a in f["against"]] for f in table["findings"]}
        self.assertEqual(
            findings["reachability", "Coprocessor, 4"],
            ["Direct answer", "Coprocessor, 4, shuffled", "Soft embeddings, 4", "Direct, continued", "Written steps"],
        )
        self.assertIn("Do latents help, and against what?", (self.here / "out/report.html").read_text())
        self.assertIn("rows with latents or thoughts", said)
        # What is kept of the runs says the same elsewhere, without their weights.
        keep = [sys.executable, ROOT / "scripts/keep_runs.py"]
        for arguments in (["pack", "out", "-o", "kept.tar.xz"], ["unpack", "kept.tar.xz", "kept/out"]):
            subprocess.run([*keep, *arguments], cwd=self.here, check=True, capture_output=True)
        self.assertFalse([*(self.here / "kept").rglob("*.safetensors")])
        self.expect(0, "repro", ROOT / "configs/tables/reasoning.json", "--preset", "smoke", "--run-dir", "kept/out", "--report-only")
        self.assertEqual(json.loads((self.here / "kept/out/table.json").read_text())["rows"], table["rows"])
        # Runs of earlier versions keep their names: options that came later are no part of them.
        self.assertTrue((self.here / "out/runs/steps-arithmetic-seed1337-24c4d049").exists(), os.listdir(self.here / "out/runs"))
        for preset in ("laptop", "sentences", "gsm8k", "smollm2_trained"):
            planned = self.expect(0, "plan", ROOT / "configs/tables/reasoning.json", "--preset", preset).stdout
            self.assertIn("coconut", planned)
        for preset in ("smollm2", "gemma3", "paper"):
            planned = self.expect(0, "plan", ROOT / "configs/tables/reasoning.json", "--preset", preset).stdout
            self.assertRegex(planned, r"zero_shot +0 +gsm8k +gsm8k_zero_shot_cot")
            self.assertRegex(planned, r"few_shot +0 +gsm8k +gsm8k\n")
            asked = json.loads((ROOT / "configs/tables/reasoning.json").read_text())["presets"][preset]["asked"]
            cells = json.loads((ROOT / "configs/tables/cache_augmentation.json").read_text())["presets"][preset]["cells"]
            self.assertLessEqual(set(asked["latents"]), set(cells), "what is asked can be trained")

    def test_gsm8k_is_a_task_to_train_on(self):
        settings = {
            "tasks.gsm8k.data.problems.held_out": 20, "tasks.gsm8k.data.train_bpe": 280, "tasks.gsm8k.data.examples.thought_steps": 1,
            "presets.gsm8k.seeds": [1337], "presets.gsm8k.stages.gsm8k": 2, "presets.gsm8k.measure": {"resamples": 200},
            "presets.gsm8k.cells": {"direct": [], "coprocessor": [2], "pause": [2], "steps": [], "coconut_mixed": []},
            "presets.gsm8k.patch": {"train": {"batch_size": 4}, "optimizer": {"warmup_steps": 1}, "evaluation": {"windows": 4, "final_windows": 4, "batch_size": 4}},
        }  # fmt: skip
        for model in ("direct", "coprocessor", "pause", "steps", "coconut_mixed"):
            settings[f"presets.gsm8k.model_patches.{model}.train.steps"] = 4
        for model in ("direct", "steps"):
            for size, value in (("n_layer", 1), ("n_head", 2), ("n_embd", 16), ("n_hidden", 24)):
                settings[f"models.{model}.model.{size}"] = value
        arguments = ["repro", ROOT / "configs/tables/reasoning.json", "--preset", "gsm8k", "--run-dir", "out"]
        for key, value in settings.items():
            arguments += ["--set-table", f"{key}={json.dumps(value)}"]
        said = self.expect(1, *arguments).stderr
        self.assertIn("scripts/fetch.py gsm8k", said)
        self.assertIn("https://raw.githubusercontent.com/openai/grade-school-math/", said)
        (self.here / "gsm8k").mkdir()
        with open(self.here / "gsm8k/train.jsonl", "w") as file:
            long = "It sold 15345678-3000000=<<15345678-3000000=12345678>>12345678 pens.\n#### 12345678"
            file.write(json.dumps({"question": "A shop had 15345678 pens and keeps 3000000. How many did it sell?", "answer": long}) + "\n")
            for n in range(80):
                a, b = n, n * 37 % 80
                text = f"Ann has {a}+{b}=<<{a}+{b}={a + b + (n == 7)}>>{a + b} pens.\nHalf are <<{a + b}/2={(a + b) / 2}>>red.\n#### {(a + b) / 2}"
                file.write(json.dumps({"question": f"Ann has {a} pens and buys {b}. How many is half of them?", "answer": text}) + "\n")
        self.expect(0, *arguments)
        table = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual((table["finished_runs"], table["planned_runs"]), (6, 6))
        self.assertEqual([r["title"] for r in table["rows"]],
                         ["Direct answer", "Written steps", "Soft embeddings, 2", "Coprocessor, 2", "Coprocessor, 2, shuffled",
                          "Coconut, mixed stages, stage 1", "Coconut, mixed stages, stage 2"])  # fmt: skip
        for row in table["rows"]:
            self.assertEqual((row["verdict"], row["items"], row["of"]), ("causal", 20, 20), row)
        self.assertIn("80 of 81 problems, with equations alone for steps", table["provenance"]["datasets"]["gsm8k"]["note"])
        self.assertIn("1 with a wrong result", (self.here / "out/table.md").read_text())
        mixed = {p.parent for p in (self.here / "data").glob("*/train_steps.tok")}
        for prepared in (self.here / "data").iterdir():
            shown = self.expect(0, "inspect", prepared).stdout
            (self.assertRegex if prepared in mixed else self.assertNotRegex)(shown, r"train steps +\d+ tokens, checksum \w+")
        self.assertEqual(len(mixed), 2, "a stage each")
        # Rows that predict fewer tokens than the longest answer has are refused before anything is trained.
        arguments[arguments.index("out")] = "refused"
        said = self.expect(1, *arguments, "--set-table", "presets.gsm8k.model_patches.pause.model.ahead=8").stderr
        self.assertRegex(said, r"\$\.model\.ahead is 8, and example \d+ of .*\.tok has 1[01] targets")
        self.assertFalse((self.here / "refused/runs").exists())

    def prepare_asked(self):
        (self.here / "text.txt").write_text("".join(f"Sum: {n} + {n * 7 % 50} = {n + n * 7 % 50}\nSo {n}.\n" for n in range(400)))
        with open(self.here / "sums.jsonl", "w") as file:
            for n in range(20):
                a, b = n * 13 % 40, n * 29 % 50
                file.write(json.dumps({"a": a, "b": b, "choices": [str(a + b), str(a + b + 1)], "gold": 0}) + "\n")
        for name, content in (("choice", CHOICE), ("generate", GENERATE), ("steps", STEPS), ("table", TABLE)):
            (self.here / f"{name}.json").write_text(json.dumps(content))
        model = {"type": "llama", "block_size": 96, "n_layer": 1, "n_head": 2, "n_embd": 16, "n_hidden": 32}
        (self.here / "plain.json").write_text(json.dumps({**COMMON, "model": model}))
        self.expect(0, "train", "plain.json", "--run-dir", "plain")
        self.expect(0, "inspect", "plain", "--export-hf", "base")

    def train_latents(self, seed, steps, name):
        latents = {"type": "augmented", "base": "base", "block_size": 32, "groups": 2, "ahead": 4, "latents": {"type": "coprocessor", "count": 4}}
        (self.here / "latents.json").write_text(json.dumps({**COMMON, "seed": seed, "model": latents, "train": {"steps": steps, "batch_size": 2}}))
        self.expect(0, "train", "latents.json", "--run-dir", f"latents/runs/{name}")

    def test_a_published_model_is_asked_plainly_by_steps_and_with_latents(self):
        self.prepare_asked()
        # Without the runs: what is missing, and how it is made. The other rows are there. Trials of
        # learning rates, two of one length among them, are no runs of the table.
        for name in ("coprocessor-4-seed1-89abcdef", "coprocessor-4-seed1-89abcde0"):
            self.train_latents(1, 2, name)
            (self.here / "latents/runs" / name / "latent_effect.json").write_text('{"of": {"texts": "every fourth"}}')
        got = self.expect(0, "repro", "table.json", "--preset", "asked", "--run-dir", "out")
        self.assertIn("latents/runs holds no finished run of coprocessor", got.stderr)
        self.assertIn("cache_augmentation.json --preset PRESET --run-dir latents --only coprocessor", got.stderr)
        for page in ("table.md", "report.html"):
            self.assertIn("coprocessor: its rows are left out, since no run of it has finished", (self.here / "out" / page).read_text())
        rows = json.loads((self.here / "out/table.json").read_text())["rows"]
        self.assertEqual([(r["task"], r["model"]) for r in rows], [("sums", "base"), ("answers", "base"), ("answers", "zero_shot")])
        before = {f: f.stat().st_mtime_ns for f in (self.here / "out/asked").glob("*.json")}
        self.assertEqual(len(before), 3)

        self.train_latents(1, 4, "coprocessor-4-seed1-01234567")
        self.train_latents(2, 4, "coprocessor-4-seed2-01234567")
        self.train_latents(2, 2, "coprocessor-4-seed2-89abcdef")  # a trial that was not measured yet
        self.expect(0, "repro", "table.json", "--preset", "asked", "--run-dir", "out")
        table = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual((table["finished_runs"], table["planned_runs"]), (11, 11))
        rows = {(r["task"], r["title"]): r for r in table["rows"]}
        latents = rows["answers", "coprocessor, 4"]
        self.assertEqual(latents["seeds"], [1, 2])
        self.assertEqual((latents["items"], latents["of"]), (12, 20))
        self.assertEqual(len(latents["against_base"]["by_seed"]), 2)
        self.assertIn(("sums", "coprocessor, 4, shuffled"), rows)
        self.assertEqual(rows["sums", "base"]["chance"], 0.5)
        self.assertIn("LIMITED", (self.here / "out/table.md").read_text())
        # What had been measured stays; what eval --task says is what the table says.
        self.assertEqual({f: f.stat().st_mtime_ns for f in before}, before)
        self.expect(0, "eval", "latents/runs/coprocessor-4-seed1-01234567", "--task", "choice.json", "--latents", "--limit", "12", "--json", "own.json")
        right = json.loads((self.here / "out/asked/coprocessor-4-seed1-sums.json").read_text())["right"]
        self.assertAlmostEqual(sum(right) / 12, json.loads((self.here / "own.json").read_text())["measures"]["acc"]["value"])

    def test_latents_are_made_anew_in_written_answers(self):
        self.prepare_asked()
        self.train_latents(1, 4, "coprocessor-4-seed1-01234567")
        repro = ("repro", "table.json", "--preset", "asked", "--run-dir", "out")
        self.expect(0, *repro)
        once = {f: f.stat().st_mtime_ns for f in (self.here / "out/asked").glob("*.json")}
        table = json.loads(json.dumps(TABLE))
        table["presets"]["asked"]["asked"]["latents_every"] = [0, 3]
        (self.here / "table.json").write_text(json.dumps(table))
        planned = self.expect(0, "plan", "table.json", "--preset", "asked").stdout
        self.assertRegex(planned, r"coprocessor, every 3 +4 +1 +answers +generate\.json")
        self.assertRegex(planned, r"coprocessor, every 3, shuffled +4 +1 +answers +generate\.json")
        self.assertNotRegex(planned, r"every 3.* sums ")
        self.assertIn("with its latents, anew every 3 tokens on generate.json", self.expect(0, *repro).stderr)
        self.assertEqual({f: f.stat().st_mtime_ns for f in once}, once)
        made = {(r["task"], r["title"]): r.get("latents_every") for r in json.loads((self.here / "out/table.json").read_text())["rows"]}
        self.assertEqual(made["answers", "coprocessor, 4, anew every 3 tokens"], 3)
        self.assertEqual(made["answers", "coprocessor, 4, anew every 3 tokens, shuffled"], 3)
        self.assertIsNone(made["answers", "coprocessor, 4"])
        self.assertNotIn(("sums", "coprocessor, 4, anew every 3 tokens"), made)
        kept = json.loads((self.here / "out/asked/coprocessor-4-seed1-every3-answers.json").read_text())
        self.expect(0, "eval", "latents/runs/coprocessor-4-seed1-01234567", "--task", "generate.json", "--latents", "--latents-every", "3", "--limit", "12",
                    "--json", "own.json")
        own = json.loads((self.here / "own.json").read_text())
        self.assertAlmostEqual(sum(kept["right"]) / 12, own["measures"]["exact_match"]["value"])
        self.assertAlmostEqual(kept["tokens"], own["tokens_written_per_item"])

        del table["presets"]["asked"]["asked"]["tasks"]["answers"]
        (self.here / "table.json").write_text(json.dumps(table))
        self.assertIn("latents_every has 3, but none of the tasks has answers that the model writes", self.expect(2, *repro).stderr)

    def test_low_rank_updates_of_the_base_are_asked_with_it(self):
        self.prepare_asked()
        model = {"type": "pretrained", "path": "base", "block_size": 32, "rank": 2, "alpha": 8}
        (self.here / "lora.json").write_text(json.dumps({**COMMON, "model": model, "train": {"steps": 30, "batch_size": 4},
                                                         "optimizer": {"learning_rate": 0.03}}))
        run = "latents/runs/base_lora-0-seed7-01234567"
        self.expect(0, "train", "lora.json", "--run-dir", run)
        table = json.loads(json.dumps(TABLE))
        table["presets"]["asked"]["asked"].update({"latents": ["coprocessor", "base_lora"], "latents_every": [0, 3]})
        (self.here / "table.json").write_text(json.dumps(table))
        said = self.expect(0, "repro", "table.json", "--preset", "asked", "--run-dir", "out").stderr
        self.assertIn("no finished run of coprocessor", said)
        self.assertNotIn("no finished run of base_lora", said)
        made = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual([m["model"] for m in made["missing_runs"]], ["coprocessor"])
        self.assertEqual([(r["task"], r["title"]) for r in made["rows"] if r["model"] == "base_lora"], [("sums", "base_lora"), ("answers", "base_lora")])

        # The scores are those of the base with the updates added to its weights, and not the base's.
        self.expect(0, "inspect", run, "--export-hf", "merged")
        scores = {}
        for name, asked in (("base", "base"), ("updated", run), ("merged", "merged")):
            self.expect(0, "eval", asked, "--task", "choice.json", "--limit", "12", "--log-samples", "log.jsonl")
            items = [json.loads(line) for line in (self.here / "log.jsonl").read_text().splitlines()[1:]]
            scores[name] = [n for item in items for n in item["log_likelihoods"]]
            right = [item["measures"]["acc"] for item in items]
            if name == "updated":
                self.assertEqual(json.loads((self.here / "out/asked/base_lora-0-seed7-sums.json").read_text())["right"], right)
        for updated, merged in zip(scores["updated"], scores["merged"]):
            self.assertAlmostEqual(updated, merged, delta=1e-3 * abs(merged))
        self.assertTrue(any(abs(updated - base) > 0.05 for updated, base in zip(scores["updated"], scores["base"])))

    def test_missing_data_are_named_first_and_leave_out_their_rows_alone(self):
        self.prepare_asked()
        products = {**CHOICE, "name": "products", "data": "products.jsonl", "split": "test", "source": "https://example.org/products", "fetch": "scripts/fetch.py products"}
        few = {**GENERATE, "name": "few", "few_shot": {"count": 2, "pool": "solved.jsonl"}}
        table = json.loads(json.dumps(TABLE))
        asked = table["presets"]["asked"]["asked"]
        del asked["runs"], asked["latents"]
        asked["tasks"]["answers"]["few_shot"] = "few.json"
        asked["tasks"]["products"] = {"base": "products.json"}
        asked["tasks"]["products_again"] = {"base": "products.json"}
        for name, content in (("products", products), ("few", few), ("table", table)):
            (self.here / f"{name}.json").write_text(json.dumps(content))
        got = self.expect(0, "repro", "table.json", "--preset", "asked", "--run-dir", "out")
        said = got.stderr
        for part in ("3 of 6 measurements are left out", "products.jsonl (of products, products_again) is at none of these places",
                     "https://example.org/products (test split)", "run: `scripts/fetch.py products`", "solved.jsonl (of answers) is at none"):  # fmt: skip
            self.assertEqual(said.count(part), 1, said)
        self.assertLess(said.index("are left out"), said.index("base on choice.json: 12 items"), "before anything is measured")
        made = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual([(r["task"], r["model"]) for r in made["rows"]], [("sums", "base"), ("answers", "base"), ("answers", "zero_shot")])
        gaps = {(g["task"], g["model"]): g["file"] for g in made["no_data"]}
        self.assertEqual(gaps, {("answers", "few_shot"): "solved.jsonl", ("products", "base"): "products.jsonl", ("products_again", "base"): "products.jsonl"})
        self.assertEqual((made["finished_runs"], made["planned_runs"]), (3, 6))
        for page in (got.stdout, (self.here / "out/table.md").read_text(), (self.here / "out/report.html").read_text()):
            self.assertIn("no data", page)
            self.assertIn("products.jsonl is missing", page)

        # They come, and the rest is measured.
        for name in ("products", "solved"):
            (self.here / f"{name}.jsonl").write_text((self.here / "sums.jsonl").read_text())
        said = self.expect(0, "repro", "table.json", "--preset", "asked", "--run-dir", "out").stderr
        self.assertNotIn("left out", said)
        made = json.loads((self.here / "out/table.json").read_text())
        self.assertEqual((made["finished_runs"], made["planned_runs"], made["no_data"]), (6, 6, []))

        # With none of the data there is no table.
        for name in ("products", "solved", "sums"):
            (self.here / f"{name}.jsonl").unlink()
        said = self.expect(1, "repro", "table.json", "--preset", "asked", "--run-dir", "nothing").stderr
        self.assertIn("nothing can be measured", said)
        self.assertIn("sums.jsonl (of sums, answers) is at none of these places", said)
        self.assertFalse((self.here / "nothing/table.md").exists())

    def test_answers_are_those_of_the_model_and_the_items_that_lie_there_now(self):
        self.prepare_asked()
        repro = ("repro", "table.json", "--preset", "asked", "--run-dir", "out")

        def measured():
            self.expect(0, *repro)
            return {f.name: f.stat().st_mtime_ns for f in (self.here / "out/asked").glob("*.json")}

        first = measured()
        self.assertEqual(len(first), 3)
        weights = self.here / "base/model.safetensors"
        os.utime(weights)  # the same bytes, copied anew
        self.assertEqual(measured(), first)
        self.expect(0, "train", "plain.json", "--run-dir", "other", "--set", "seed=9")
        self.expect(0, "inspect", "other", "--export-hf", "other_base")
        (self.here / "other_base/model.safetensors").replace(weights)
        another = measured()
        self.assertTrue(all(another[name] > time for name, time in first.items()), "another model at its path")
        with open(self.here / "sums.jsonl") as file:
            items = file.readlines()
        (self.here / "sums.jsonl").write_text("".join(reversed(items)))
        hashes = {json.loads((self.here / "out/asked" / name).read_text())["items_hash"] for name in first}
        reversed_items = measured()
        self.assertTrue(all(reversed_items[name] > time for name, time in another.items()), "other items")
        self.assertTrue(hashes.isdisjoint(json.loads((self.here / "out/asked" / name).read_text())["items_hash"] for name in first))
        self.expect(0, *repro, "--report-only")
        self.assertEqual(measured(), reversed_items)


if __name__ == "__main__":
    unittest.main()
