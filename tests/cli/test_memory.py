"""`reverie check memory`, and the losses with memory carried, as a user meets them.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "data": {"path": "text.txt", "prepared_directory": "tokens"},
    "model": {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16},
    "train": {"steps": 6, "batch_size": 4},
    "evaluation": {"interval": 3, "windows": 16, "prefix_only_windows": 2, "final_windows": 16, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 0},
    "checkpoint": {"interval": 3},
}
SLOTS = {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 4, "chunk_length": 4, "carry_state": True}


class MemoryTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-memory-")
        self.addCleanup(temporary.cleanup)
        self.here = Path(temporary.name)
        (self.here / "text.txt").write_text("".join(f"The {n * n % 97}. line of a text that is made up.\n" for n in range(200)))

    def expect(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.here, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def train(self, name, memory=None, **changes):
        experiment = json.loads(json.dumps({**EXPERIMENT, **changes}))
        if memory:
            experiment["model"]["memory"] = memory
        (self.here / f"{name}.json").write_text(json.dumps(experiment))
        return self.expect(0, "train", f"{name}.json", "--run-dir", name)

    def test_a_run_that_carries_says_so_everywhere_and_another_nowhere(self):
        shown = self.train("slots", SLOTS)
        self.assertIn("val memory carried", shown.stderr + shown.stdout)
        summary = json.loads((self.here / "slots/summary.json").read_text())
        self.assertNotEqual(summary["val_loss_carried"], summary["val_loss_on_carried_windows"])
        self.assertEqual(summary["carried"]["of"], "pieces of one text")
        self.assertIn("Memory carried from window to window", (self.here / "slots/report.html").read_text())
        evaluated = self.expect(0, "eval", "slots", "--json", "eval.json")
        self.assertIn("validation, memory carried", evaluated.stdout)
        figures = json.loads((self.here / "eval.json").read_text())
        self.assertEqual(figures["carried"]["loss"], figures["val_loss_carried"])
        self.train("gpt")
        self.assertNotIn("carried", (self.here / "gpt/summary.json").read_text())
        self.assertNotIn("carried", (self.here / "gpt/metrics.jsonl").read_text())
        self.assertFalse("emory carried" in (self.here / "gpt/report.html").read_text())
        self.expect(0, "report", "slots", "gpt", "--out", "both.html")
        self.assertIn("val, memory carried", (self.here / "both.html").read_text())

    def test_check_memory_of_models_with_and_without(self):
        self.train("slots", SLOTS)
        shown = self.expect(5, "check", "memory", "slots", "--json", "memory.json")  # six steps teach it nothing
        self.assertIn("The model does not use its memory across windows", shown.stdout)
        self.assertIn("causal: ", shown.stdout)
        figures = json.loads((self.here / "memory.json").read_text())
        self.assertEqual(figures["memory"], "not_used")
        self.assertEqual(set(figures["changes"]), {"wiped", "swapped", "frozen"})
        self.assertEqual(set(figures["layers"]), {"layer 0", "layer 1"})
        self.assertTrue(figures["carried_in_training"])
        self.assertIn("verdict", figures)
        self.train("gpt")
        shown = self.expect(5, "check", "memory", "gpt@3", "--json", "memory.json")
        self.assertIn("has no memory that goes on", shown.stdout)
        self.assertEqual(json.loads((self.here / "memory.json").read_text())["memory"], "none")

    def test_a_leaking_memory_is_labelled(self):
        leaks = {"type": "imm", "mode": "as_published", "low_rank_dim": 4}
        self.train("leaks", leaks, allow_future_leak=True)
        shown = self.expect(5, "check", "memory", "leaks", "--json", "memory.json")
        self.assertIn("LEAKS", shown.stdout.splitlines()[1])
        self.assertEqual(json.loads((self.here / "memory.json").read_text())["label"], "LEAKS")

    def test_what_cannot_be_checked_is_refused_with_the_reason(self):
        self.assertIn("no run directory", self.expect(2, "check", "memory", "nowhere").stderr)
        self.train("slots", SLOTS)
        (self.here / "text.txt").write_text("".join(f"The {n * n % 89}. line of a text that is made up.\n" for n in range(200)))
        other = self.expect(2, "check", "memory", "slots").stderr
        self.assertIn("was trained on other tokens", other)
        self.assertIn("--other-data", other)
        shown = self.expect(5, "check", "memory", "slots", "--other-data")
        self.assertIn("OTHER DATA", shown.stdout)
        (self.here / "text.txt").unlink()
        self.assertIn("text.txt", self.expect(1, "check", "memory", "slots").stderr)

    def test_carried_memory_over_examples_is_refused_before_training(self):
        lines = "".join(json.dumps({"question": f"1 + {n} ?", "answer": f"1 + {n}\n#### {n + 1}"}) + "\n" for n in range(100))
        (self.here / "examples.jsonl").write_text(lines)
        experiment = {**EXPERIMENT, "data": {"path": "examples.jsonl", "prepared_directory": "records", "examples": {"form": "gsm8k"}}}
        experiment["model"] = {**EXPERIMENT["model"], "block_size": 32, "memory": SLOTS}
        (self.here / "examples.json").write_text(json.dumps(experiment))
        got = self.expect(1, "train", "examples.json", "--run-dir", "examples")
        self.assertIn("carry_state: false", got.stderr)
        self.assertFalse((self.here / "examples").exists())


if __name__ == "__main__":
    unittest.main()
