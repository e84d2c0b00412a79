"""The command line as a user meets it: exit codes, messages, files.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import os
import re
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
    "model": {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16},
    "train": {"steps": 8, "batch_size": 4},
    "evaluation": {"interval": 4, "windows": 4, "prefix_only_windows": 2, "final_windows": 4, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 5},
    "checkpoint": {"interval": 4, "keep": 2},
}
LEAKY_MEMORY = {"type": "imm", "mode": "as_published", "low_rank_dim": 4}


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-cli-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(400))
        (cls.folder / "text.txt").write_text(text)

    def reverie(self, *arguments, env=None):
        return subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False,
                              env={**os.environ, **(env or {})})

    def expect(self, status, *arguments, env=None):
        got = self.reverie(*arguments, env=env)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def config(self, name, **changes):
        experiment = json.loads(json.dumps(EXPERIMENT))
        experiment["data"] = {"path": str(self.folder / "text.txt"), "prepared_directory": str(self.folder / "tokens")}
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(experiment.get(key), dict):
                experiment[key].update(value)
            else:
                experiment[key] = value
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(experiment))
        return file

    def train(self, name, *more, **changes):
        run = self.folder / name
        self.expect(0, "train", self.config(name, **changes), "--run-dir", run, *more)
        return run

    def test_help_teaches_and_is_no_error(self):
        self.assertIn("repro", self.expect(0, "--help").stdout)
        for command in ("train", "eval", "sample", "prepare", "repro", "check", "inspect", "modules", "plan", "doctor", "report", "sweep"):
            self.assertIn("--help", self.expect(0, command, "--help").stdout)
        # "..." would mean several values in a row.
        self.assertRegex(self.expect(0, "repro", "--help").stdout, r"--only TEXT (?!\.\.\.)")
        self.expect(0, "--version")

    def test_usage_errors_exit_2(self):
        self.expect(2)
        self.expect(2, "fly")
        self.expect(2, "train", "--no-such-option")
        self.expect(2, "train")

    def test_bad_configs_exit_2_and_say_where(self):
        got = self.expect(2, "train", self.config("typo", model={"n_layers": 3}))
        self.assertIn("$.model", got.stderr)
        self.assertIn('"n_layer"', got.stderr)
        (self.folder / "twice.json").write_text('{"seed": 1, "seed": 2}')
        self.assertIn("seed", self.expect(2, "train", "twice.json").stderr)
        (self.folder / "broken.json").write_text('{"seed": ')
        self.expect(2, "train", "broken.json")
        self.assertIn("$.train.steps", self.expect(2, "train", self.config("mistyped", train={"steps": "many"})).stderr)
        self.assertIn("$.model.n_layer", self.expect(2, "train", self.config("range"), "--set", "model.n_layer=0").stderr)
        self.expect(2, "train", self.config("unknown_model", model={"type": "gpt3"}))

    def test_all_that_is_wrong_is_said_in_one_go(self):
        said = self.expect(2, "train", self.config("much"), "--set", "train.micro_batches=3", "--set", "data.tokenizer=bpe", "--set", "model.n_head=3",
                           "--set", "checkpoint.keep_best=true", "--set", "evaluation.interval=0", "--set", "data.validation_fraction=0").stderr
        for problem in ("micro_batches 3", "n_head 3", "$.data.train_bpe", "keep_best", "validation_fraction is 0"):
            self.assertIn(problem, said)
        self.assertIn("is for the tokenizer bpe", self.expect(2, "train", self.config("much"), "--set", "data.train_bpe=400").stderr)
        # The data contradict two keys, and both are named.
        said = self.expect(1, "train", self.config("fits_not"), "--set", "model.vocab_size=3", "--set", "model.block_size=99999").stderr
        self.assertIn("vocabulary_size 3", said)
        self.assertIn("block_size 99999 is larger than the data", said)

    def test_set_overrides(self):
        got = self.expect(0, "train", "--set", "train.steps=3", "--set", "model.dropout=0.25", self.config("set"), "--print-config")
        config = json.loads(got.stdout)
        self.assertEqual(config["train"]["steps"], 3)
        self.assertEqual(config["model"]["dropout"], 0.25)
        self.assertEqual(config["optimizer"]["beta1"], 0.9)  # a default, filled in

    def test_schema_describes_what_is_accepted(self):
        schema = json.loads(self.expect(0, "train", "--print-schema").stdout)
        self.assertIn("$schema", schema)
        self.assertFalse(schema["additionalProperties"])
        self.assertIn("as_published", json.dumps(schema))

    def test_a_run_says_what_it_will_do_within_80_columns(self):
        got = self.expect(0, "train", self.config("overview"), "--run-dir", self.folder / "overview", env={"NO_COLOR": "1"})
        lines = got.stderr.split("\n")
        first = next(i for i, line in enumerate(lines) if line.startswith("model "))  # behind what preparing the text says
        block = lines[first:first + 7]
        self.assertEqual([line.split()[0] for line in block],
                         ["model", "parameters", "device", "data", "training", "directory", "causality"])
        for line in block[:5] + block[6:]:
            self.assertLessEqual(len(line), 80, line)
        self.assertRegex(block[0], r"gpt2, 2 layers, 2 heads, width 16, block 16")
        self.assertRegex(block[4], r"8 steps x 64 tokens = 512")
        self.assertRegex(block[6], r"causal, probed in [0-9.]+ s")
        self.assertNotIn("\x1b", got.stderr)

    def test_reports_of_one_run_and_of_several(self):
        first, second = self.train("report_a"), self.train("report_b", optimizer={"learning_rate": 0.01})
        page = (first / "report.html").read_text()
        self.assertIn("config.resolved.json", page)
        self.assertIn("causal", page)
        (first / "report.html").unlink()
        self.assertEqual(self.expect(0, "report", first).stdout.strip(), str(first / "report.html"))
        self.assertTrue((first / "report.html").exists())
        got = self.expect(0, "report", first, second, "--out", "both.html").stdout
        self.assertIn(f"report_a:{first}/tensorboard,report_b:{second}/tensorboard", got)
        both = (self.folder / "both.html").read_text()
        self.assertIn("optimizer.<wbr>learning_rate", both)
        self.assertIn("0.01", both)
        self.assertIn("is no run directory", self.expect(1, "report", self.folder).stderr)
        self.expect(2, "report")

    def test_a_report_that_cannot_be_written_does_not_end_the_run(self):
        run = self.folder / "no_report"
        (run / "report.html").mkdir(parents=True)
        (run / "report.html" / "in_the_way").write_text("")
        got = self.expect(0, "train", self.config("no_report"), "--run-dir", run)
        self.assertTrue((run / "summary.json").exists())
        self.assertIn("reverie report", got.stderr)

    def test_sweep_trains_all_combinations_and_goes_on(self):
        sweep = ["sweep", self.config("swept"), "--set", "optimizer.learning_rate=1e-2,1e-3", "--run-dir", self.folder / "sweep"]
        self.expect(0, *sweep)
        for swept in (self.folder / "sweep" / "runs").iterdir():
            self.assertTrue(json.loads((swept / "summary_check.json").read_text())["same"])
        table = json.loads((self.folder / "sweep" / "table.json").read_text())
        self.assertEqual([row["values"]["optimizer.learning_rate"] for row in table["rows"]], [0.01, 0.001])
        self.assertEqual(sum(row["best"] for row in table["rows"]), 1)
        got = self.expect(0, *sweep, "--seeds", 2)  # one seed is there already
        self.assertEqual(got.stderr.count("finished before, reused"), 2)
        table = json.loads((self.folder / "sweep" / "table.json").read_text())
        self.assertEqual([row["seeds"] for row in table["rows"]], [[7, 8], [7, 8]])
        for file in ("table.md", "report.html", "validation_loss.svg", "sweep.json"):
            self.assertTrue((self.folder / "sweep" / file).exists(), file)

    def test_an_empty_argument_is_not_read_as_none(self):
        run = self.train("for_empty")
        for command in (["prepare", ""], ["train", self.config("empty"), "--run-dir", ""], ["inspect", run, "--export-hf", ""]):
            self.assertIn(f"argument {len(command)} is empty", self.expect(2, *command).stderr)
        self.assertFalse((self.folder / "runs").exists())
        self.assertIn("the prompt is empty", self.expect(1, "sample", run, "--prompt", "", "--max-tokens", 2).stderr)

    def test_nobody_elses_files_are_replaced_by_a_runs(self):
        foreign = self.folder / "foreign"
        foreign.mkdir()
        (foreign / "report.html").write_text("mine")
        self.assertIn("holds report.html and is no run directory", self.expect(1, "train", self.config("into_foreign"), "--run-dir", foreign).stderr)
        self.assertEqual([f.name for f in foreign.iterdir() if f.name != "run.lock"], ["report.html"])
        self.assertEqual((foreign / "report.html").read_text(), "mine")

    def test_a_run_without_resume_says_so(self):
        run = self.train("without_resume")
        self.assertIn("add --resume", self.expect(2, "train", "--run-dir", run).stderr)
        self.expect(2, "train", self.config("never_stops"), "--stop-after", -7)

    def test_figures_are_asked_anew_in_a_process_that_never_read_the_text(self):
        run = self.train("asked_anew")
        self.assertTrue(json.loads((run / "summary_check.json").read_text())["same"])  # as `train` did
        self.assertTrue(self.expect(0, "check", "summary", run, "--json", "anew.json").stdout.endswith("the same\n"))
        self.assertTrue(json.loads((self.folder / "anew.json").read_text())["same"])
        file = run / "summary.json"
        file.write_text(file.read_text().replace('"val_loss_on_prefix_only_windows": ', '"val_loss_on_prefix_only_windows": 0.5, "was": '))
        self.assertIn("NOT THE SAME", self.expect(5, "check", "summary", run).stdout)

    def test_options_of_which_one_would_be_ignored_are_refused(self):
        run = self.train("ignores_nothing")
        self.assertIn("excludes", self.expect(2, "sample", run, "--greedy", "--temperature", 0.5).stderr)
        self.assertIn("excludes", self.expect(2, "sample", run, "--prompts", "prompts.txt", "--prompt", "T").stderr)
        config = self.config("no_page")
        # Each names the option that it needs, or that rules it out.
        for command, option, other in (
            (["sample", run, "--greedy", "--top-k", 5], "--top-k", "--greedy"),
            (["sweep", config, "--set", "train.steps=2,3", "--steps", 5], "--steps", "--find-learning-rate"),
            (["sweep", config, "--set", "train.steps=2,3", "--lowest-rate", 0.1], "--lowest-rate", "--find-learning-rate"),
            (["sweep", config, "--find-learning-rate", "--seeds", 2], "--seeds", "--find-learning-rate"),
            (["sweep", config, "--find-learning-rate", "--report-only"], "--report-only", "--find-learning-rate"),
            (["inspect", run, "--dtype", "q8_0"], "--dtype", "--export-gguf"),
            (["inspect", run, "--export-hf", "x", "--without-tokenizer"], "--without-tokenizer", "--export-gguf"),
            (["inspect", run, "--tokenizer", run], "--tokenizer", "--export-hf"),
            (["inspect", run, "--tokenizer", run, "--export-gguf", "x", "--without-tokenizer"], "--tokenizer", "--without-tokenizer"),
            (["check", "causality", run, "--set", "model.n_layer=1"], "--set", "is a run"),
            (["plan", config, "--preset", "smoke"], "--preset", "name a table"),
            (["plan", config, "--utilisation", 0.3], "--utilisation", "--gpu"),
            (["eval", run, "--text", "text.txt", "--insertions", 3], "--insertions", "augmented"),
            (["repro", "table.json", "--report-only", "--only", "gpt"], "--report-only", "--only"),
        ):
            said = self.expect(2, *command).stderr
            self.assertIn(option, said)
            self.assertIn(other, said)
        self.assertFalse((self.folder / "x").exists())
        self.assertIn("ends in .html", self.expect(2, "report", run, "--out", config).stderr)
        self.assertTrue(json.loads(config.read_text()))

    def test_an_unknown_command_is_named(self):
        said = self.expect(2, "trian").stderr
        self.assertIn('"trian"', said)
        self.assertIn('did you mean "train"?', said)

    def test_sweep_refuses_before_it_trains(self):
        out = self.folder / "refused"
        for setting, said in (("optimizer.learning_rat=1,2", '"learning_rate"'), ("seed=1,2", "seeds"), ("data.tokenizer=char,word", "quantities"),
                              ("train.steps=4", "nothing is varied"), ("train.steps=4,,5", "empty"), ("train.steps", "PATH=VALUE")):
            self.assertIn(said, self.expect(2, "sweep", self.config("swept"), "--set", setting, "--run-dir", out).stderr)
        self.assertFalse(out.exists())
        # What only the data show is found before the first run, too.
        for setting, said in (("model.block_size=16,99999", "block_size 99999"), ("model.vocab_size=0,3", "vocabulary_size 3")):
            self.assertIn(said, self.expect(1, "sweep", self.config("swept"), "--set", setting, "--run-dir", out).stderr)
            self.assertFalse((out / "runs").exists())
            shutil.rmtree(out)
        # All that is impossible is named in one go, and what is the same for all once.
        impossible = ["sweep", self.config("swept"), "--run-dir", out, "--set"]
        said = self.expect(2, *impossible, "model.n_embd=8,9,7").stderr
        for width in (9, 7):
            self.assertIn(f"n_embd={width}: $.model: n_embd {width} is not a multiple of n_head 2", said)
        self.assertNotIn("n_embd=8", said)
        said = self.expect(2, *impossible, "model.n_embd=8,9", "--set", "train.steps=3,4").stderr
        self.assertEqual(said.count("n_embd 9 is not a multiple"), 1, said)
        for steps in (3, 4):
            self.assertRegex(said, rf"(n_embd=9,steps={steps}|steps={steps},n_embd=9)[;:]")
        self.assertEqual(self.expect(2, *impossible, "optimizer.learning_rat=1,2").stderr.count("unknown key"), 1)
        self.assertFalse(out.exists())
        said = self.expect(1, *impossible, "model.block_size=16,99999,88888").stderr
        for size in (99999, 88888):
            self.assertIn(f"block_size {size} is larger", said)
        shutil.rmtree(out)
        schema = json.loads(self.expect(0, "sweep", "--print-schema").stdout)
        self.assertFalse(schema["additionalProperties"])
        self.assertIn("model", schema["properties"]["base"]["properties"])
        for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)):
            self.assertIn(name, schema["$defs"])
        definition = json.loads(self.expect(0, "sweep", self.config("swept"), "--set", 'model.memory=null,{"type":"imm","num_slots":"auto"}',
                                            "--print-table").stdout)
        self.assertEqual(definition["vary"]["model.memory"], [None, {"type": "imm", "num_slots": "auto"}])
        commented = self.folder / "with a comment.json"
        commented.write_text("// a note\n" + Path(self.config("swept")).read_text())
        sweep = ["sweep", commented, "--set", "train.steps=3,4", "--print-table"]
        self.assertIn("--lenient", self.expect(2, *sweep).stderr)
        self.assertEqual(json.loads(self.expect(0, *sweep, "--lenient").stdout)["vary"], {"train.steps": [3, 4]})

    def test_schemas_of_tables(self):
        for kind, key in (("losses", "block_sizes"), ("latent_effect", "shuffled"), ("sweep", "vary")):
            schema = json.loads(self.expect(0, "repro", "--print-schema", kind).stdout)
            self.assertFalse(schema["additionalProperties"])
            self.assertIn(key, schema["properties"])
            self.assertIn("seeds", schema["properties"]["presets"]["additionalProperties"]["required"])
        self.assertIn('did you mean "losses"?', self.expect(2, "repro", "--print-schema", "loses").stderr)
        self.assertIn("which table?", self.expect(2, "repro").stderr)

    def test_find_learning_rate(self):
        got = self.expect(0, "sweep", self.config("range"), "--find-learning-rate", "--steps", 40, "--run-dir", self.folder / "range")
        found = json.loads((self.folder / "range" / "learning_rate.json").read_text())
        self.assertLess(found["suggested"], found["lowest"])
        self.assertIn("learning rate", got.stdout)

    def test_plots_of_a_table_that_is_there(self):
        table = ROOT / "docs" / "results" / "cache_augmentation.csv"
        got = self.expect(0, "report", "--plots-of", table, "--out", self.folder / "plots").stdout
        self.assertIn("![", got)
        self.assertEqual(len(list((self.folder / "plots").glob("cache_augmentation_*_latents.svg"))), 5)
        self.assertIn("nothing to plot", self.expect(1, "report", "--plots-of", self.config("no_table")).stderr)

    def test_train_eval_sample_inspect(self):
        run = self.train("plain")
        summary = json.loads((run / "summary.json").read_text())
        self.assertTrue(summary["causal"])
        self.assertIn("prefix-only", self.expect(0, "eval", run, "--windows", 4, "--prefix-only-windows", 2, "--json", "eval.json").stdout)
        evaluated = json.loads((self.folder / "eval.json").read_text())
        self.assertAlmostEqual(evaluated["val_loss_prefix_only"], evaluated["val_loss_on_prefix_only_windows"], places=5)
        self.assertAlmostEqual(evaluated["val_loss"], summary["val_loss"], places=6)
        one, two = (self.expect(0, "sample", run, "--prompt", "The ", "--max-tokens", 30, "--greedy").stdout for _ in range(2))
        self.assertEqual(one, two)
        self.assertEqual(len(one), 31)  # 30 characters and a newline
        alone, several = ["--seed", 8, "--json", "alone.json"], ["--seed", 7, "--samples", 34, "--json", "several.json", "--texts", "texts.jsonl"]
        for more in (alone, several):
            shown = self.expect(0, "sample", run, "--prompt", "The ", "--max-tokens", 20, *more).stdout
        figures, texts = (json.loads((self.folder / name).read_text()) for name in ("alone.json", "several.json"))
        self.assertGreater(figures["tokens_per_second"], 0)
        self.assertGreater(figures["first_token_seconds"], 0)
        self.assertEqual(len(texts["samples"]), 34)  # more than are generated together
        self.assertEqual(texts["samples"][1]["tokens"], figures["tokens"])  # of seed 7 + 1
        self.assertEqual(shown, "".join(f"---- {i + 1} of 34\n{t['text']}\n" for i, t in enumerate(texts["samples"])))
        lines = [json.loads(line)["text"] for line in (self.folder / "texts.jsonl").read_text().splitlines()]
        self.assertEqual(lines, [t["text"] for t in texts["samples"]])
        self.assertEqual(len(set(lines)), 34)  # a seed of its own each
        self.assertIn("transformer.wte.weight", self.expect(0, "inspect", run).stdout)
        self.assertIn("transformer.wte.weight", self.expect(0, "inspect", run / "checkpoints/step_00000008/model.safetensors").stdout)
        self.expect(0, "inspect", run, "--export-hf", "exported")
        exported = json.loads((self.folder / "exported/config.json").read_text())
        self.assertEqual(exported["model_type"], "gpt2")
        # A finished run is not trained again by accident.
        self.assertIn("--resume", self.expect(2, "train", self.folder / "plain.json", "--run-dir", run).stderr)

    def test_a_stopped_sample_keeps_the_texts_it_wrote(self):
        run = self.train("stopped_writer")
        texts = self.folder / "kept.jsonl"
        asked = [str(REVERIE), "sample", str(run), "--prompt", "The ", "--max-tokens", "20", "--samples", "1000000", "--texts", str(texts)]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            shown = ""
            for line in process.stdout:
                shown += line
                if line.startswith("---- 40 of"):  # the first ones were written before
                    process.kill()
        lines = [json.loads(line)["text"] for line in texts.read_text().splitlines()]
        self.assertGreaterEqual(len(lines), 32)
        self.assertEqual(len(lines) % 32, 0)
        self.assertTrue(shown.startswith("".join(f"---- {i + 1} of 1000000\n{t}\n" for i, t in enumerate(lines[:32]))))

    def test_perplexity_of_a_text(self):
        run = self.folder / "reader"
        self.expect(0, "train", self.config("reader"), "--run-dir", run)
        text = self.folder / "text.txt"
        got = self.expect(0, "eval", "--model", run, "--text", text, "--chars", "10:310", "--window", 16, "--max-windows", 3, "--json", "text.json")
        self.assertIn("per token", got.stdout)
        figures = json.loads((self.folder / "text.json").read_text())
        self.assertEqual((figures["tokens"], figures["windows"], figures["predictions"]), (300, 3, 45))
        self.assertAlmostEqual(figures["perplexity"], 2.718281828459045 ** figures["nll"], places=6)
        # Which text it was, and how it was cut.
        size = text.stat().st_size
        self.assertEqual((figures["text"], figures["text_bytes"], figures["chars"]), (str(text), size, "10:310"))
        self.assertEqual([figures[key] for key in ("window", "stride", "max_windows", "insertions")], [16, 16, 3, None])
        self.assertIn(f"text.txt ({size} bytes, of them characters 10:310)", " ".join(got.stdout.split()))
        (self.folder / "same_size.txt").write_text(text.read_text().replace("0. line", "0. enil"))
        for other, options in ((text, []), (self.folder / "same_size.txt", ["--window", 12, "--stride", 5])):
            self.expect(0, "eval", run, "--text", other, "--max-windows", 3, *options, "--json", "other.json")
            read = json.loads((self.folder / "other.json").read_text())
            self.assertEqual((read["text_bytes"], read["chars"]), (size, None))
            self.assertEqual((read["window"], read["stride"]), (12, 5) if options else (16, 16))
            self.assertEqual(read["text_hash"] == figures["text_hash"], other == text)
        sampled = self.expect(0, "sample", "--model", run, "--prompt", "The ", "--max-tokens", 9, "--greedy", "--json", "sample.json").stdout
        written = json.loads((self.folder / "sample.json").read_text())
        self.assertEqual((written["text"] + "\n", len(written["tokens"])), (sampled, 9))
        self.assertIn("--window", self.expect(1, "eval", run, "--text", text, "--window", 40).stderr)
        self.assertIn("--chars", self.expect(2, "eval", run, "--text", text, "--chars", "9:3").stderr)
        self.assertIn("the text has only", self.expect(1, "eval", run, "--text", text, "--chars", "0:99999999").stderr)
        # A model without data of its own wants a text; one of an unknown form is named.
        tiny = ROOT / "tests/golden/pretrained/llama"
        self.assertIn("--text", self.expect(2, "eval", tiny).stderr)
        self.assertIn("holds no tokenizer", self.expect(1, "eval", tiny, "--text", text).stderr)
        self.expect(1, "sample", "--model", text)

    def test_packed_groups_equal_separate_forwards(self):
        base = ROOT / "tests/golden/pretrained/gemma3"
        model = {"type": "augmented", "base": str(base), "latents": {"type": "coprocessor", "count": 3}, "block_size": 24, "groups": 4, "ahead": 4}
        config = self.folder / "beside.json"
        config.write_text(json.dumps({**EXPERIMENT, "data": {"path": str(self.folder / "text.txt")}, "model": model}))
        self.assertIn("packed groups equal separate forwards", self.expect(0, "check", "mask", config).stdout)
        self.assertIn("augmented", self.expect(2, "check", "mask", self.config("alone")).stderr)

    def test_latents_are_written_beside_the_base(self):
        alone = self.train("writer", model={"type": "llama", "block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 16})
        self.expect(0, "inspect", alone, "--export-hf", "writer_hf")
        model = {"type": "augmented", "base": str(self.folder / "writer_hf"), "latents": {"type": "coprocessor", "count": 3}, "block_size": 32, "groups": 4, "ahead": 4}
        beside = self.config("beside", train={"steps": 30})
        self.expect(0, "train", beside, "--run-dir", "beside", "--set", "model=" + json.dumps(model), "--set", "optimizer.learning_rate=0.01")
        shown = self.expect(0, "sample", alone, "--coprocessor", "beside", "--prompt", "The ", "--max-tokens", 12, "--greedy", "--json", "both.json").stdout
        both = json.loads((self.folder / "both.json").read_text())
        self.assertEqual(shown, f"==== the base alone\n{both['base']['text']}\n==== with 3 latents behind the prompt\n{both['with_latents']['text']}\n")
        self.assertEqual((both["latents"], both["latents_late"], len(both["base"]["tokens"])), (3, 0, 12))
        self.assertNotEqual(both["base"]["tokens"], both["with_latents"]["tokens"])
        base_alone = self.expect(0, "sample", alone, "--prompt", "The ", "--max-tokens", 12, "--greedy").stdout
        self.assertEqual(base_alone, both["base"]["text"] + "\n")
        # The run itself may stand for its base; latents that arrive late leave the first tokens to it.
        late = self.expect(0, "sample", "beside", "--coprocessor", "beside", "--prompt", "The ", "--max-tokens", 12, "--greedy", "--latents-late", 5,
                           "--json", "late.json").stdout
        self.assertIn("that arrive 5 tokens late", late)
        written = json.loads((self.folder / "late.json").read_text())
        self.assertEqual(written["with_latents"]["tokens"][:5], both["base"]["tokens"][:5])

        # Latents made anew are those of a prompt of all tokens so far; never, or behind the end, is once.
        def written_by(*more, prompt="The ", tokens=12):
            said = self.expect(0, "sample", "beside", "--coprocessor", "beside", "--prompt", prompt, "--max-tokens", tokens, "--greedy", *more,
                               "--json", "anew.json").stdout
            return said, json.loads((self.folder / "anew.json").read_text())

        so_far = ""
        for tokens in (5, 5, 2):
            so_far += written_by(prompt="The " + so_far, tokens=tokens)[1]["with_latents"]["text"]
        for more in ([], ["--stop", "no such text"]):
            said, anew = written_by("--latents-every", 5, *more)
            self.assertIn("==== with 3 latents behind the prompt, made anew every 5 tokens\n", said)
            self.assertEqual((anew["with_latents"]["text"], anew["latents_every"]), (so_far, 5))
            self.assertEqual(anew["base"]["tokens"], both["base"]["tokens"])
            for every in (0, 12, 1000):
                self.assertEqual(written_by("--latents-every", every, *more)[1]["with_latents"]["tokens"], both["with_latents"]["tokens"])
        self.assertNotIn("latents_every", both)
        twice = ["--coprocessor", "beside", "--coprocessor", "beside"]
        for wrong, words in ((["--latents-every", 2], "--coprocessor"), ([*twice, "--latents-every", 2], "but 2 of --coprocessor were given"),
                             ([*twice[:2], "--latents-every", 2, "--async"], "remove one of them"),
                             ([*twice[:2], "--latents-every", 2, "--latents-late", 2], "would be replaced before they arrive")):
            self.assertIn(words, self.expect(1, "sample", "beside", *wrong).stderr)
        self.assertNotEqual(self.reverie("sample", "beside", *twice[:2], "--latents-every", -1).returncode, 0)

        # A run with latents that is asked to write without them says so first.
        without = self.expect(0, "sample", "beside", "--prompt", "The ", "--max-tokens", 12, "--greedy").stdout
        self.assertEqual(without.split("\n", 1)[0], "==== the base alone, without the run's coprocessor latents (with them: --coprocessor beside)")
        self.assertEqual(without.split("\n", 1)[1], base_alone)
        # What was trained leaves alone, and comes back.
        self.assertIn("none of another program's families", self.expect(1, "inspect", "beside", "--export-hf", "beside_hf").stderr)
        self.expect(0, "inspect", "beside", "--export-state", "beside_state")
        names = self.expect(0, "inspect", "beside_state/state.safetensors").stdout
        self.assertIn("latents.soft_tokens", names)
        self.assertNotIn("base.", names)
        self.expect(0, "sample", alone, "--coprocessor", "beside_state", "--prompt", "The ", "--max-tokens", 12, "--greedy", "--json", "state.json")
        back = json.loads((self.folder / "state.json").read_text())
        self.assertEqual(back["with_latents"]["tokens"], both["with_latents"]["tokens"])

        self.assertIn("no coprocessor", self.expect(1, "sample", alone, "--coprocessor", alone).stderr)
        self.assertIn("--coprocessor", self.expect(1, "sample", alone, "--latents-late", 1).stderr)
        other = self.train("other_writer", seed=8, model={"type": "llama", "block_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 16})
        self.assertIn("other weights", self.expect(1, "sample", other, "--coprocessor", "beside").stderr)

    def oracle(self, script, *arguments):
        """Runs a script that needs packages of others with the Python that has them."""
        python = os.environ.get("REVERIE_ORACLE_PYTHON", sys.executable)
        if subprocess.run([python, "-c", "import torch, transformers, gguf"], capture_output=True).returncode != 0:
            self.skipTest("needs Python's torch, transformers and gguf (REVERIE_ORACLE_PYTHON)")
        done = subprocess.run([python, ROOT / "scripts" / script, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_exports_are_read_by_transformers_and_gguf(self):
        bytes_of = {"prepared_directory": str(self.folder / "byte_tokens"), "tokenizer": "pretrained", 
                    "tokenizer_files": str(ROOT / "tests/golden/tokenizers/llama3.gguf")}
        cases = {
            "gpt": {},
            "llama": {"model": {"type": "llama"}, "data": bytes_of},
            "gemma": {"model": {"type": "gemma3", "sliding_window": 4}},
        }
        for name, changes in cases.items():
            run, out = self.train(f"export_{name}", **changes), self.folder / f"hf_{name}"
            self.expect(0, "inspect", run, "--export-hf", out)
            self.assertIn("the same ids for 2000 of 2000", self.oracle("check_hf_export.py", out))
            if name == "llama":
                for dtype in ("f32", "f16", "bf16", "q8_0"):
                    self.expect(0, "inspect", run, "--export-gguf", out / f"{dtype}.gguf", "--dtype", dtype)
                    self.oracle("check_gguf_export.py", out / f"{dtype}.gguf", out)

    def test_whatever_a_run_is_it_can_leave(self):
        run = self.train("leaves", model={"type": "llama"})
        # Our own export is opened by every path, and is the same model.
        self.expect(0, "inspect", run, "--export-hf", "leaves_hf")
        for name, model in (("own", run), ("exported", "leaves_hf")):
            self.expect(0, "sample", model, "--prompt", "The ", "--max-tokens", 12, "--greedy", "--json", f"{name}.json")
            self.expect(0, "eval", model, "--text", self.folder / "text.txt", "--max-windows", 3, "--json", f"{name}_text.json")
        own, exported = (json.loads((self.folder / f"{n}.json").read_text())["tokens"] for n in ("own", "exported"))
        self.assertEqual(own, exported)
        own, exported = (json.loads((self.folder / f"{n}_text.json").read_text())["nll"] for n in ("own", "exported"))
        self.assertAlmostEqual(own, exported, places=6)
        # GGUF has no form for characters, and says so when it is told to leave them out.
        self.assertIn("of type 'char'", self.expect(1, "inspect", run, "--export-gguf", "leaves.gguf").stderr)
        self.assertFalse((self.folder / "leaves.gguf").exists())
        self.assertIn("of its bound", self.expect(0, "inspect", run, "--export-gguf", "leaves.gguf", "--dtype", "f16", "--without-tokenizer").stdout)
        self.expect(0, "eval", "leaves.gguf", "--tokenizer", run, "--text", self.folder / "text.txt", "--max-windows", 3)
        self.expect(0, "inspect", run, "--export-state", "leaves_state")
        self.assertEqual(json.loads((self.folder / "leaves_state/config.json").read_text())["model_type"], "reverie_llama")
        self.assertIn("name a new directory", self.expect(1, "inspect", run, "--export-hf", self.folder).stderr)

    def test_a_label_goes_with_the_exported_model(self):
        run, text = self.train("labelled", model={"type": "llama"}, shrunk_by=4), self.folder / "text.txt"
        self.expect(0, "inspect", run, "--export-hf", "labelled_hf", "--export-gguf", "labelled.gguf", "--dtype", "f32", "--without-tokenizer")
        self.assertEqual(json.loads((self.folder / "labelled_hf/config.json").read_text())["reverie"]["label"], "shrunk by 4")
        for model in ([run], ["labelled_hf"], ["labelled.gguf", "--tokenizer", run]):
            shown = self.expect(0, "eval", *model, "--text", text, "--max-windows", 3, "--json", "labelled_text.json").stdout
            self.assertRegex(shown, r"perplexity .*shrunk by 4")
            figures = json.loads((self.folder / "labelled_text.json").read_text())
            self.assertEqual((figures["label"], figures["verdict"]["shrunk_by"]), ("shrunk by 4", 4))
            self.assertIn("shrunk by 4", self.expect(0, "sample", *model, "--prompt", "The ", "--max-tokens", 3).stderr)

    def test_an_export_without_its_tokenizer_is_refused(self):
        run = self.train("no_words")
        (run / "reverie_tokenizer.json").unlink()
        for export in (["--export-hf", "no_words_hf"], ["--export-gguf", "no_words.gguf"]):
            self.assertIn("--tokenizer", self.expect(1, "inspect", run, *export).stderr)
        self.assertFalse((self.folder / "no_words_hf").exists())
        self.expect(0, "inspect", run, "--export-hf", "no_words_hf", "--tokenizer", self.train("words"))

    def test_leaking_model_is_refused_unless_allowed(self):
        file = self.config("leaky", model={"memory": LEAKY_MEMORY})
        self.assertIn("allow_future_leak", self.expect(2, "train", file, "--run-dir", "leaky").stderr)
        self.assertIn("LEAKS", self.expect(5, "check", "causality", file).stdout)
        got = self.expect(0, "train", file, "--run-dir", "leaky", "--set", "allow_future_leak=true")
        self.assertIn("LEAKS", got.stdout)
        self.assertIn("LEAKS", got.stderr)
        self.expect(5, "check", "causality", "leaky")
        self.assertIn("LEAKS", self.expect(0, "eval", "leaky", "--windows", 2, "--prefix-only-windows", 1).stdout)
        self.assertIn("LEAKS", self.expect(0, "sample", "leaky", "--max-tokens", 3).stderr)
        self.expect(1, "inspect", "leaky", "--export-hf", "leaky_hf")  # transformers knows no memory

    def test_causal_models_pass_the_check(self):
        self.expect(0, "check", "causality", self.config("causal"))
        for mode in ("causal_mean", "segment", "slots"):
            memory = {"type": "imm", "mode": mode, "low_rank_dim": 4, "segment_length": 5, "chunk_length": 5}
            got = self.expect(0, "check", "causality", self.config(mode, model={"memory": memory}), "--json", "probes.json")
            self.assertIn("causal", got.stdout)
        self.assertTrue(json.loads((self.folder / "probes.json").read_text()))
        # A base with fewer rows than the probe's own vocabulary, and no data.
        model = {"type": "pretrained", "path": str(ROOT / "tests/golden/pretrained/llama"), "vocab_size": 0, "new_tokens": 5}
        (self.folder / "new_rows.json").write_text(json.dumps({"model": model}))
        self.expect(0, "check", "causality", "new_rows.json")

    def test_resume_is_bit_exact(self):
        file = self.config("resume", model={"dropout": 0.1})
        self.assertIn("bit-exact", self.expect(0, "check", "resume", file, "--steps", 8, "--kill-at", 3, "--run-dir", "resume_check").stdout)

    def test_signals_save_and_exit_128_plus_n(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            run = self.folder / f"signal{int(number)}"
            file = self.config(f"signal{int(number)}", train={"steps": 1000000, "batch_size": 2}, evaluation={"interval": 0})
            process = subprocess.Popen([str(REVERIE), "train", str(file), "--run-dir", str(run)], cwd=self.folder,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            metrics = run / "metrics.jsonl"
            while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 200):
                time.sleep(0.05)
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=120), 128 + number)
            saved = list((run / "checkpoints").glob("step_*/COMPLETE"))
            self.assertTrue(saved)

    def test_changed_config_is_refused_with_the_difference(self):
        file = self.config("changed")
        self.expect(0, "train", file, "--run-dir", "changed", "--stop-after", 4)
        got = self.expect(2, "train", file, "--run-dir", "changed", "--resume", "--set", "optimizer.learning_rate=0.5")
        self.assertIn("learning_rate", got.stderr)
        self.expect(0, "train", file, "--run-dir", "changed", "--resume")

    def test_corrupt_files_exit_3(self):
        run = self.train("corrupt")
        for model in run.glob("checkpoints/*/model.safetensors"):
            data = bytearray(model.read_bytes())
            data[-5] ^= 1
            model.write_bytes(data)
        got = self.reverie("eval", run)
        self.assertIn(got.returncode, (1, 3), got.stderr)
        self.assertRegex(got.stderr, "truncated or altered")
        (self.folder / "short.safetensors").write_bytes(b"\xff" * 8 + b"{}")
        self.expect(3, "inspect", "short.safetensors")
        for name in ("config.resolved.json", "summary.json"):
            run = self.train(f"corrupt_{name.split('.')[0]}")
            (run / name).write_text((run / name).read_text()[:-9])
            commands = [("inspect", run), ("report", run)] if name == "summary.json" else [("eval", run), ("report", run), ("train", "--run-dir", run, "--resume")]
            for command in commands:
                self.assertIn("is damaged", self.expect(3, *command).stderr, command)
        self.train("tokens_corrupt", data={"path": str(self.folder / "text.txt"), "prepared_directory": str(self.folder / "tokens_corrupt_data")})
        tokens = self.folder / "tokens_corrupt_data" / "train.tok"
        tokens.write_bytes(tokens.read_bytes()[:-3])
        self.expect(3, "train", self.folder / "tokens_corrupt.json", "--run-dir", "tokens_corrupt_again")

    def test_diverging_run_exits_4(self):
        file = self.config("diverge", optimizer={"learning_rate": 10, "minimum_learning_rate": 10, "warmup_steps": 0, "gradient_clip": 0, "weight_decay": 10},
                           train={"steps": 3000, "batch_size": 2}, evaluation={"interval": 0}, checkpoint={"interval": 2})
        got = self.expect(4, "train", file, "--run-dir", "diverge")
        self.assertIn("checkpoint", got.stderr)

    def test_prepare_reads_back(self):
        got = self.expect(0, "prepare", "text.txt", "--out", "prepared")
        self.assertEqual(got.stdout.strip(), "prepared")
        self.assertTrue((self.folder / "prepared/train.tok").exists())
        self.assertIn("100 %", got.stderr)  # the progress line's last state
        (self.folder / "empty.txt").write_text("")
        self.expect(3, "prepare", "empty.txt", "--out", "empty")
        self.expect(1, "prepare", "no-such-file.txt", "--out", "missing")

    def test_repro_trains_reuses_and_reports(self):
        table = {
            "title": "a small table",
            "report": {"paper": {"gpt": {"16": {"train_loss": 1.0}}}},
            "base": {**EXPERIMENT, "data": {"path": str(self.folder / "text.txt"), "prepared_directory": str(self.folder / "tokens")}},
            "block_sizes": {"16": {}},
            "models": {"gpt": {}, "imm_as_published": {"allow_future_leak": True, "model": {"memory": LEAKY_MEMORY}}},
            "presets": {"tiny": {"models": ["gpt", "imm_as_published"], "block_sizes": [16], "seeds": [1, 2]}},
        }
        (self.folder / "table.json").write_text(json.dumps(table))
        self.expect(0, "repro", "table.json", "--preset", "tiny", "--run-dir", "repro")
        out = self.folder / "repro"
        rows = json.loads((out / "table.json").read_text())["rows"]
        self.assertEqual([r["model"] for r in rows], ["gpt", "imm_as_published"])
        self.assertEqual(rows[0]["paper"], {"train_loss": 1.0})
        self.assertEqual(rows[0]["measured"]["train_loss"]["n"], 2)
        self.assertTrue(rows[0]["causal"])
        self.assertFalse(rows[1]["causal"])
        self.assertIn("LEAKS", (out / "table.md").read_text())
        self.assertNotRegex((out / "report.html").read_text(), r"(src|href)=\"https?:")
        again = self.expect(0, "repro", "table.json", "--preset", "tiny", "--run-dir", "repro")
        self.assertEqual(len(re.findall("reused", again.stderr)), 4)
        self.assertIn("tiny", self.expect(2, "repro", "table.json", "--preset", "huge").stderr)
        planned = self.expect(0, "plan", "table.json", "--preset", "tiny").stdout
        self.assertRegex(planned, r"imm_as_published +16 ")
        fewer = self.expect(0, "plan", "table.json", "--preset", "tiny", "--set-table", 'presets.tiny.models=["gpt"]').stdout
        self.assertNotIn("imm_as_published", fewer)
        self.assertIn("--set-table", self.expect(2, "plan", self.config("plan"), "--set-table", "kind=lattice").stderr)
        self.assertIn("$.kind", self.expect(2, "repro", "table.json", "--preset", "tiny", "--set-table", "kind=lattice").stderr)

    def test_a_paper_sized_table_is_planned_without_weights_or_data(self):
        planned = self.expect(0, "plan", ROOT / "configs/tables/cache_augmentation.json", "--preset", "paper").stdout
        self.assertIn("2,614,341,888 parameters", planned)  # Gemma-2 2B
        self.assertRegex(planned, r"coprocessor +64 +3 +2,024,665,344 ")

    def test_a_paper_sized_table_is_planned_for_ranks_of_a_gpu(self):
        planned = self.expect(0, "plan", ROOT / "configs/tables/cache_augmentation.json", "--preset", "paper", "--ranks", "8", "--gpu", "h100").stdout
        self.assertIn("each run on 8 ranks, H100 SXM", planned)
        self.assertRegex(planned, r"coprocessor 64 +3 +\d")
        self.assertRegex(planned, r"hours one after another; the highest peak, [\d.]+ GiB, (fits|exceeds) its 74.5 GiB")
        self.assertNotIn("not planned", planned)
        self.assertRegex(planned, r"coprocessor 32 +3 +9\.74 ")
        # The same base, saved in bf16.
        planned = self.expect(0, "plan", ROOT / "configs/tables/cache_augmentation.json", "--preset", "paper", "--ranks", "8", "--gpu", "h100", "--set-table",
                              "presets.paper.base_dtype=bf16", "--set-table", 'presets.paper.cells={"coprocessor": [32]}').stdout
        self.assertRegex(planned, r"coprocessor 32 +3 +4\.87 ")
        refused = self.expect(1, "plan", self.config("plan_gpu"), "--gpu", "abacus").stderr
        self.assertIn("wanted one of a100-40", refused)
        self.assertIn("--ranks", self.expect(2, "plan", self.config("plan_gpu"), "--ranks", "0").stderr)
        one = self.expect(0, "plan", self.config("plan_gpu"), "--ranks", "2", "--gpu", "a100").stdout
        self.assertIn("for each of 2 ranks", one)
        self.assertRegex(one, r"on 2 x a100 +[\d.e-]+ hours at 40 %")

    def test_a_plan_says_what_ranks_share(self):
        def planned(*sharded):
            return self.expect(0, "plan", self.config("plan_ranks"), "--ranks", "2", "--set", "precision=bf16", *sharded).stdout
        shared, whole = planned("--set", "distributed.shard_optimizer=true"), planned()
        self.assertRegex(shared, r"trained weights +[\d.]+ MiB \(f32: this rank's share")
        self.assertNotIn("this rank's share", whole)
        for text in (shared, whole):
            self.assertRegex(text, r"copies in bf16 +[\d.]+ MiB")
        self.assertIn("the one that keeps the most", shared)
        small = self.config("plan_start", train={"batch_size": 8}, evaluation={"batch_size": 1}, precision="bf16", model={
            "type": "llama", "block_size": 8, "n_layer": 8, "n_head": 2, "n_embd": 96, "rematerialize": True})
        start = r"peak at the start +[\d.]+ MiB"
        eight = ("plan", small, "--ranks", "8")
        self.assertRegex(self.expect(0, *eight, "--set", "distributed.shard_optimizer=true").stdout, start)
        self.assertNotRegex(self.expect(0, *eight).stdout, start)

    def test_a_plan_counts_frozen_weights_as_on_the_asked_device(self):
        run = self.train("planned_base", model={"type": "llama", "block_size": 32, "n_embd": 64})
        wide = 4 * json.loads((run / "summary.json").read_text())["parameters"]
        frozen, devices = {}, {"cpu": [], "cuda": ["--set", "device=cuda"], "h100": ["--gpu", "h100"]}
        for dtype in ("q8_0", "bf16"):
            base, beside = self.folder / f"planned_{dtype}.gguf", self.folder / f"planned_{dtype}.json"
            self.expect(0, "inspect", run, "--export-gguf", base, "--dtype", dtype, "--without-tokenizer")
            model = {"type": "augmented", "base": str(base), "latents": {"type": "coprocessor", "count": 2}, "block_size": 16, "groups": 2, "ahead": 4}
            beside.write_text(json.dumps({"data": {"path": str(self.folder / "text.txt")}, "model": model}))
            for device, more in devices.items():
                plan = json.loads(self.expect(0, "plan", beside, "--json", *more).stdout)
                self.assertEqual(plan["device"], "cpu" if device == "cpu" else "cuda")
                frozen[dtype, device] = plan["frozen_bytes"]
            self.assertIn("(as they lie on device cuda)", self.expect(0, "plan", beside, *devices["cuda"]).stdout)
        # A GPU, too, has matrices as their file has them.
        self.assertLess(frozen["q8_0", "cpu"], 0.5 * wide)
        self.assertLess(frozen["bf16", "cpu"], 0.6 * wide)
        for dtype in ("q8_0", "bf16"):
            self.assertEqual((frozen[dtype, "cuda"], frozen[dtype, "h100"]), (frozen[dtype, "cpu"], frozen[dtype, "cpu"]))

    def test_plan_counts_parameters(self):
        plan = json.loads(self.expect(0, "plan", self.config("plan"), "--json").stdout)
        run = self.train("planned")
        self.assertEqual(plan["parameters"], json.loads((run / "summary.json").read_text())["parameters"])

    def test_modules_and_doctor(self):
        said = self.expect(0, "modules").stdout
        self.assertIn("as_published", said)
        for kind in ("losses", "latent_effect", "reasoning", "sweep", "explained", "benchmarks"):
            self.assertIn(f'table kind "{kind}"', said)
        self.assertIn("cpu kernels", self.expect(0, "doctor").stdout)
        self.assertRegex(self.expect(0, "doctor").stdout, r"of an unknown history|never run on a GPU|run on a GPU at [0-9a-f]+ \(.+\)[;,] (kernel files changed since: \d+|a commit that this clone does not have)")
        self.assertRegex(self.expect(0, "doctor").stdout, r"\n +(on device cpu, because|device cuda, being emulated|no NCCL|on device cuda by NCCL \d)")
        self.assertIn("portable", self.expect(0, "doctor", env={"REVERIE_ISA": "portable"}).stdout)


if __name__ == "__main__":
    unittest.main()
