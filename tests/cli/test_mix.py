"""A run on several texts that are mixed by weight: it goes on bit by bit, and wrong mixes are refused.

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
    "data": {"mix": [{"path": "books", "weight": 3}, {"path": "web", "weight": 1}]},
    "model": {"type": "gpt2", "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.1},
    "train": {"steps": 8, "batch_size": 4},
    "optimizer": {"warmup_steps": 2},
    "evaluation": {"interval": 4, "windows": 4, "prefix_only_windows": 2, "final_windows": 8, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 5},
    "checkpoint": {"interval": 4, "keep": 0},
}
MEMORY = {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 4, "chunk_length": 2, "carry_state": True}


class MixTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-mix-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        (cls.folder / "books.txt").write_text("".join(f"The {n}. line of a book.\n" for n in range(300)))
        (cls.folder / "web.txt").write_text("".join(f"look {n * 7} on\n".replace("l", "b") for n in range(100)))
        (cls.folder / "mix.json").write_text(json.dumps(EXPERIMENT))
        for arguments in (("books.txt", "--out", "books"), ("web.txt", "--tokenizer", "pretrained", "--tokenizer-files", "books", "--out", "web")):
            subprocess.run([str(REVERIE), "prepare", *arguments], cwd=cls.folder, capture_output=True, text=True, check=True)

    def expect(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def train(self, run, *more):
        return self.expect(0, "train", "mix.json", "--run-dir", run, *more)

    def last_state(self, run):
        checkpoint = self.folder / run / "checkpoints" / "step_00000008"
        return [(checkpoint / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]

    def test_a_run_that_stopped_goes_on_bit_by_bit(self):
        self.train("whole")
        self.train("halves", "--stop-after", 3)
        self.train("halves", "--resume")
        self.assertEqual(self.last_state("halves"), self.last_state("whole"))
        summaries = [json.loads((self.folder / run / "summary.json").read_text()) for run in ("whole", "halves")]
        self.assertEqual(summaries[0]["val_loss"], summaries[1]["val_loss"])
        self.assertEqual(summaries[0]["dataset"]["name"], "books+web")
        self.assertEqual(summaries[0]["dataset"]["mix"], "books 75%, web 25%")
        described = json.loads((self.folder / "whole" / "dataset.json").read_text())
        self.assertEqual([entry["share"] for entry in described["mix"]], [0.75, 0.25])
        evaluated = self.expect(0, "eval", "whole")
        self.assertNotIn("OTHER DATA", evaluated.stdout)
        refused = self.expect(2, "train", "mix.json", "--run-dir", "halves", "--resume", "--set", "data.mix.1.weight=2")
        self.assertIn("$.data.mix", refused.stderr)

    def test_each_text_has_a_loss_of_its_own(self):
        self.train("by_text")
        summary = json.loads((self.folder / "by_text" / "summary.json").read_text())
        books, web = summary["val_loss_by_entry"]
        self.assertEqual([books["entry"], web["entry"]], ["books", "web"])
        self.assertEqual([books["predictions"], web["predictions"]], [6 * 16, 2 * 16])  # final_windows, by share
        self.assertAlmostEqual(summary["val_loss"], (3 * books["loss"] + web["loss"]) / 4, places=6)
        self.assertNotAlmostEqual(books["loss"], web["loss"], places=2)
        events = [json.loads(line) for line in (self.folder / "by_text" / "metrics.jsonl").read_text().splitlines()]
        evaluations = [e for e in events if e["event"] == "eval"]
        self.assertEqual(evaluations[-1]["val_loss_by_entry"], summary["val_loss_by_entry"])
        check = json.loads((self.folder / "by_text" / "summary_check.json").read_text())  # by another process
        self.assertTrue(check["same"])
        compared = [figure["name"] for figure in check["figures"]]
        self.assertEqual(compared[1:], ["val_loss", "val_loss_by_entry.books", "val_loss_by_entry.web", "train_loss"])
        evaluated = self.expect(0, "eval", "by_text", "--windows", 8, "--json", "by_text.json").stdout
        self.assertRegex(evaluated, r"  books +\d+\.\d+ nats .*\(96 predictions\)")
        self.assertEqual(json.loads((self.folder / "by_text.json").read_text())["val_loss_by_entry"], summary["val_loss_by_entry"])

    def test_parts_of_a_batch_read_its_rows(self):
        exact = ("--set", "train.exact_sums=on", "--set", "model.dropout=0")
        self.train("one_part", *exact)
        self.train("four_parts", *exact, "--set", "train.micro_batches=4")
        self.assertEqual(self.last_state("one_part")[0], self.last_state("four_parts")[0])

    def test_other_tokens_are_noticed(self):
        (self.folder / "own.txt").write_text("".join(f"{n}. line of a book\n" for n in range(200)))
        prepare = ("prepare", "own.txt", "--tokenizer", "pretrained", "--tokenizer-files", "books", "--out", "own")
        self.expect(0, *prepare)
        self.train("changed", "--set", "data.mix.1.path=own")
        with (self.folder / "own.txt").open("a") as text:
            text.write("a book of a book\n" * 20)
        self.expect(0, *prepare, "--replace")
        self.assertIn("was trained on other tokens", self.expect(2, "eval", "changed").stderr)
        self.assertIn("OTHER DATA", self.expect(0, "eval", "changed", "--other-data").stdout)

    def test_wrong_mixes_are_refused(self):
        def refused(status, *more):
            return self.expect(status, "train", "mix.json", "--run-dir", "refused", *more).stderr

        self.assertIn("$.data.mix[1].weight must be", refused(2, "--set", "data.mix.1.weight=0"))
        self.assertIn("$.data.path", refused(1, "--set", "data.path=books"))
        self.assertIn("carry_state: false", refused(1, "--set", "model.memory=" + json.dumps(MEMORY)))
        self.assertIn("$.data.mix[1] (web): its training part has", refused(1, "--set", "model.block_size=2048"))
        (self.folder / "other.txt").write_text("abc" * 400)
        self.expect(0, "prepare", "other.txt", "--out", "other")
        self.assertIn("--tokenizer pretrained", refused(1, "--set", "data.mix.1.path=other"))
        self.expect(0, "prepare", "--generated", "recall", "--set", "documents=50", "--out", "recall")
        self.assertIn("a generated task", refused(1, "--set", "data.mix.1.path=recall"))
        self.assertIn("--shrink", refused(2, "--shrink", 2))


if __name__ == "__main__":
    unittest.main()
