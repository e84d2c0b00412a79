"""`reverie eval`: what it scored, of which data, and what is no result.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import fcntl
import json
import math
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import tempfile
import termios
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "model": {"type": "llama", "block_size": 48, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32},
    "train": {"steps": 6, "batch_size": 4},
    "evaluation": {"interval": 3, "windows": 4, "prefix_only_windows": 2, "final_windows": 4, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 0},
    "checkpoint": {"interval": 3, "keep": 2},
}


class EvaluateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-eval-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        cls.text = "".join(f"The {n * n % 97}. line of a text that is made up, to be learnt by heart.\n" for n in range(200))

    def setUp(self):
        self.here = Path(tempfile.mkdtemp(dir=self.folder))
        (self.here / "text.txt").write_text(self.text)

    def reverie(self, *arguments):
        return subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.here, capture_output=True, text=True, check=False)

    def expect(self, status, *arguments):
        got = self.reverie(*arguments)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def train(self, name, **changes):
        experiment = json.loads(json.dumps(EXPERIMENT))
        experiment["data"] = {"path": str(self.here / "text.txt"), "prepared_directory": str(self.here / "tokens")}
        for key, value in changes.items():
            experiment[key] = {**experiment.get(key, {}), **value} if isinstance(value, dict) and key != "model" else value
        (self.here / f"{name}.json").write_text(json.dumps(experiment))
        return self.expect(0, "train", f"{name}.json", "--run-dir", name, "--quiet")

    def figures(self, *arguments, status=0):
        self.expect(status, *arguments, "--json", "figures.json")
        return json.loads((self.here / "figures.json").read_text())

    def train_beside_a_base(self):
        self.train("writer")
        self.expect(0, "inspect", "writer", "--export-hf", "writer_hf")
        model = {"type": "augmented", "base": str(self.here / "writer_hf"), "latents": {"type": "coprocessor", "count": 3},
                 "block_size": 32, "groups": 4, "ahead": 4}
        return self.train("beside", model=model)

    def test_one_base_figure_and_one_of_latents_whatever_the_groups(self):
        shown = self.train_beside_a_base()
        self.assertIn("behind latents: val loss", shown.stdout)
        self.assertIn("16 offsets of each text, drawn by its own tokens from 1 to T - 3", shown.stdout)
        (self.here / "other.txt").write_text(self.text[:2000])
        alone = self.figures("eval", "writer", "--text", "other.txt", "--window", 32)
        # A run's own config cannot be edited: its checkpoint says which one it is.
        self.expect(0, "inspect", "beside", "--export-state", "beside_state")
        config = self.here / "beside_state" / "config.json"
        seen = []
        for groups in (1, 2, 8, 16):
            changed = json.loads(config.read_text())
            changed["model"]["groups"] = groups
            config.write_text(json.dumps(changed))
            figures = self.figures("eval", "beside_state", "--text", "other.txt", "--window", 32)
            figures["augmented"]["rule"]  # says where
            seen.append(figures)
        for figures in seen[1:]:
            self.assertEqual(figures, seen[0])
        base, behind = seen[0]["perplexity"], seen[0]["augmented"]
        self.assertEqual(seen[0]["insertions"], 16)
        self.assertAlmostEqual(base, alone["perplexity"], places=4)
        self.assertEqual(seen[0]["predictions"], alone["predictions"])
        self.assertNotAlmostEqual(behind["perplexity"], base, places=2)
        self.assertNotAlmostEqual(behind["perplexity"], behind["base_perplexity_on_same_predictions"], places=2)
        self.assertEqual(behind["positions"], [1, 4])
        self.assertEqual(behind["predictions"], 4 * behind["insertions"])
        every = self.figures("eval", "beside", "--text", "other.txt", "--window", 32, "--insertions", 0)["augmented"]
        self.assertGreater(every["insertions"], behind["insertions"])
        self.assertTrue(every["rule"].startswith("at every offset"), every["rule"])

    def test_f64_is_the_same_model_rounded_finer(self):
        self.train_beside_a_base()
        (self.here / "other.txt").write_text(self.text[:2000])
        seen = []
        for model, extra in (("writer", ()), ("writer_hf", ("--tokenizer", "writer")), ("beside", ())):
            arguments = ["eval", model, "--text", "other.txt", "--window", 32, *extra]
            f32, f64 = self.figures(*arguments), self.figures(*arguments, "--f64")
            self.assertEqual(f64["model"], f32["model"] + ", in f64")
            self.assertGreater(f64["weights_bytes"], f32["weights_bytes"])
            self.assertNotEqual(f64["nll"], f32["nll"])
            self.assertAlmostEqual(f64["nll"], f32["nll"], places=5)
            seen.append(f64["nll"])
            if model == "beside":
                self.assertNotEqual(f64["augmented"]["loss"], f32["augmented"]["loss"])
                self.assertAlmostEqual(f64["augmented"]["loss"], f32["augmented"]["loss"], places=5)
        # One base, in three files.
        self.assertAlmostEqual(seen[1], seen[0], places=10)
        self.assertAlmostEqual(seen[2], seen[0], places=10)
        self.assertIn("--f64 belongs to", self.expect(2, "eval", "writer", "--f64").stderr)

    def test_losses_of_a_run_with_latents_have_names_of_their_own(self):
        self.train_beside_a_base()
        summary = json.loads((self.here / "beside" / "summary.json").read_text())
        # What has the base's name is the base's: with and without the future, the same.
        self.assertAlmostEqual(summary["val_loss_prefix_only"], summary["val_loss_on_prefix_only_windows"], places=5)
        behind = summary["augmented"]
        self.assertNotAlmostEqual(behind["val_loss"], summary["val_loss"], places=3)
        for key in ("train_loss", "base_loss_on_same_predictions", "predictions", "insertions", "positions", "rule"):
            self.assertIn(key, behind)
        events = [json.loads(line) for line in (self.here / "beside" / "metrics.jsonl").read_text().splitlines()]
        last = [e for e in events if e["event"] == "eval"][-1]
        self.assertEqual(last["augmented"]["val_loss"], behind["val_loss"])
        self.assertEqual(last["val_loss"], summary["val_loss"])
        evaluated = self.figures("eval", "beside", "--windows", 4, "--prefix-only-windows", 2)
        self.assertAlmostEqual(evaluated["augmented"]["loss"], behind["val_loss"], places=6)
        self.assertAlmostEqual(evaluated["val_loss"], summary["val_loss"], places=6)

    def test_a_changed_text_is_refused_or_labelled(self):
        self.train("run")
        before = self.figures("eval", "run")
        prepared = {p.name: p.read_bytes() for p in (self.here / "tokens").iterdir()}
        # As many characters, all known, in another order.
        (self.here / "text.txt").write_text(self.text[::-1])
        refused = self.expect(2, "eval", "run")
        self.assertIn("trained on other tokens", refused.stderr)
        self.assertIn("--other-data", refused.stderr)
        other = self.figures("eval", "run", "--other-data")
        self.assertEqual(other["other_data"]["trained_on"], before["dataset_hash"])
        self.assertNotEqual(other["dataset_hash"], before["dataset_hash"])
        self.assertGreater(other["val_loss"], before["val_loss"])
        for name in ("run", "run@last"):  # with the run's own tokenizer, however it is named
            self.assertIn("OTHER DATA", self.expect(0, "eval", name, "--other-data").stdout)
        # Characters that the run has never seen have no tokens of its own.
        (self.here / "text.txt").write_text("\u00e4" + self.text[1:])
        self.assertIn("\u00e4", self.expect(1, "eval", "run", "--other-data").stderr)
        # The run's own tokens are what they were.
        self.assertEqual({p.name: p.read_bytes() for p in (self.here / "tokens").iterdir()}, prepared)
        (self.here / "text.txt").write_text(self.text)
        self.assertEqual(self.figures("eval", "run"), before)
        # Gone, they are made again, from the same text to the same hash.
        shutil.rmtree(self.here / "tokens")
        self.assertEqual(self.figures("eval", "run"), before)

    def test_the_last_shorter_window_counts(self):
        self.train("run")
        tokens = json.loads((self.here / "tokens" / "dataset.json").read_text())["validation"]["tokens"]
        self.assertNotEqual((tokens - 1) % 48, 0)
        self.assertEqual(self.figures("eval", "run")["predictions"], tokens - 1)

    def test_losses_that_are_not_finite_end_with_4(self):
        self.train("run")
        self.expect(0, "inspect", "run", "--export-hf", "hf")
        (self.here / "other.txt").write_text(self.text[:500])
        arguments = ["eval", "hf", "--text", "other.txt", "--tokenizer", "run", "--window", 32]
        self.expect(0, *arguments)
        spoil(self.here / "hf" / "model.safetensors")
        got = self.expect(4, *arguments)
        self.assertIn("not finite", got.stderr)
        self.assertNotIn("nan", got.stdout)

    def test_deep_json_is_an_error_and_an_earlier_checkpoint_is_taken(self):
        deep = "[" * 100000 + "]" * 100000
        self.train("run")
        last, metrics = self.here / "run" / "checkpoints" / "step_00000006", self.here / "run" / "metrics.jsonl"
        (last / "COMPLETE").write_text(deep)
        got = self.expect(0, "eval", "run")
        self.assertIn("step_00000006 is damaged", got.stderr)
        self.assertIn("step_00000003", got.stdout)
        lines = metrics.read_text().splitlines()
        metrics.write_text("\n".join([deep, *lines]) + "\n")
        self.assertIn("metrics.jsonl:1 is no event", self.expect(3, "train", "run.json", "--run-dir", "run", "--resume", "--quiet").stderr)
        description = self.here / "tokens" / "dataset.json"
        description.write_text(deep)
        self.assertIn("nested deeper", self.expect(3, "eval", "run").stderr)

    def test_a_terminal_gets_lines_of_its_width_and_every_word(self):
        self.train("run", optimizer={"warmup_steps": 1})
        self.train("leaky", model={**EXPERIMENT["model"], "memory": {"type": "imm", "mode": "as_published", "low_rank_dim": 4}},
                   allow_future_leak=True)
        for arguments in (["eval", "run"], ["eval", "leaky"], ["eval", "leaky", "--text", "text.txt", "--max-windows", 4], ["inspect", "run"],
                          ["inspect", "tokens"], ["check", "causality", "run"], ["check", "summary", "run"], ["doctor"],
                          ["plan", "run.json", "--gpu", "h100", "--ranks", 2]):
            with self.subTest(arguments=arguments):
                piped = self.expect(0, *arguments).stdout
                self.assertGreater(max(map(len, piped.split("\n"))), 80, "nothing is long enough to be wrapped")
                shown, _ = self.on_terminal(*arguments)
                self.assertEqual(shown.split(), piped.split())
                self.assert_fits(shown)

    def test_tables_of_a_plan_on_a_terminal_fit_it(self):
        for table in ("memory", "imm_shakespeare", "reasoning", "explained"):
            plan = ["plan", ROOT / f"configs/tables/{table}.json", "--preset", "smoke"]
            shown, _ = self.on_terminal(*plan)
            self.assert_fits(shown)
            self.assertEqual(shown, self.expect(0, *plan).stdout, "a row takes one line")

    def test_a_sweep_on_a_terminal_fits_it(self):
        self.train("run", optimizer={"warmup_steps": 1})
        sweep = ["sweep", "run.json", "--set", "optimizer.learning_rate=1e-3,3e-4", "--run-dir", "swept"]
        shown, errors = self.on_terminal(*sweep)
        self.assert_fits(shown)
        self.assertIn("| 0.0003 |", shown)
        without_escapes = re.sub(r"\\([\\`*_|<>\[\]#])", r"\1", (self.here / "swept" / "table.md").read_text())
        shown_words = [word for word in shown.split() if word != "\\"]  # a long command goes on behind one
        self.assertEqual(shown_words[:-3], without_escapes.split())
        self.assertNotIn("\\_", shown)
        self.assertIn("prefix-only", errors)
        self.assert_fits(errors)
        shown, _ = self.on_terminal("sweep", "run.json", "--find-learning-rate", "--steps", 30, "--run-dir", "range")
        self.assert_fits(shown)

    def assert_fits(self, text):
        for line in re.split(r"\r?\n|\r", re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text)):
            if len(line.split()) > 1:  # a path is for copying
                self.assertLessEqual(len(line), 80, line)

    def on_terminal(self, *arguments):
        """What a terminal of 80 columns gets on stdout and on stderr."""
        try:
            ends = [pty.openpty() for _ in range(2)]
        except OSError as e:
            self.skipTest(f"this machine offers no pseudo-terminal ({e})")
        for _, child in ends:
            fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with subprocess.Popen([str(REVERIE), *map(str, arguments)], cwd=self.here, stdin=subprocess.DEVNULL,
                              stdout=ends[0][1], stderr=ends[1][1]) as process:
            for _, child in ends:
                os.close(child)
            texts = [b"", b""]
            open_ends = {ends[0][0]: 0, ends[1][0]: 1}
            while open_ends:
                for end in select.select(list(open_ends), [], [])[0]:
                    try:
                        read = os.read(end, 65536)
                    except OSError:  # Linux: the other side is closed
                        read = b""
                    if read:
                        texts[open_ends[end]] += read
                    else:
                        del open_ends[end]
                        os.close(end)
            self.assertEqual(process.wait(), 0, texts[1])
        return texts[0].decode().replace("\r\n", "\n"), texts[1].decode()


def spoil(file):
    """Makes the first number of every tensor a NaN."""
    data = bytearray(file.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin = 8 + size + tensor["data_offsets"][0]
            data[begin:begin + 4] = struct.pack("<f", math.nan)
    file.write_bytes(data)


if __name__ == "__main__":
    unittest.main()
