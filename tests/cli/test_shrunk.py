"""--shrink: the paper's presets started at a size that runs in seconds, in one process and over ranks, and labelled everywhere.

Needs a finished build (REVERIE_BUILD_DIR, or build/release). Ranks are started over TCP, as torchrun does.
"""

import json
import signal
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from shrunk_runs import K, LABEL, ROOT, TABLES, ShrunkRuns, doctor  # noqa: E402 (support)

# cuda where it is emulated: two ranks want two GPUs, or none. The last value wins.
ON_DEVICE = ["--set", "device=cuda" if "emulated" in doctor().get("cuda", "") else "device=cpu"]


class ShrunkTest(ShrunkRuns):
    def test_the_papers_table_of_latents_starts_over_two_ranks(self):
        definition = TABLES / "cache_augmentation.json"
        preset = json.loads(definition.read_text())["presets"]["paper"]
        cells = [(model, str(count)) for model, counts in preset["cells"].items() for count in counts or [0]]
        self.assertLessEqual({("coprocessor", str(count)) for count in (4, 8, 16, 32, 64)}, set(cells))
        out = self.two_ranks("repro", definition, "--preset", "paper", "--shrink", K, "--run-dir", "table", *ON_DEVICE)
        self.assertIn(LABEL, out[0][1])
        self.assertIn(LABEL, out[0][0])
        runs = self.check_table("table", cells)
        config = json.loads((runs[0] / "config.resolved.json").read_text())
        self.assertEqual((config["shrunk_by"], config["precision"], config["model"]["rematerialize"]), (K, "bf16", True))
        self.assertEqual((config["train"]["batch_size"], config["train"]["micro_batches"], config["distributed"]["shard_optimizer"]), (2, 2, True))
        self.assertEqual(json.loads((runs[0] / "summary.json").read_text())["ranks"], 2)
        # Finished runs are used again, by one process, too.
        again = self.reverie(0, "repro", definition, "--preset", "paper", "--shrink", K, "--run-dir", "table", *ON_DEVICE)
        self.assertEqual(again.stderr.count("finished before, reused"), len(runs))

    def test_the_papers_table_of_memories_starts_over_two_ranks(self):
        definition = TABLES / "imm_shakespeare.json"
        preset = json.loads(definition.read_text())["presets"]["paper"]
        self.two_ranks("repro", definition, "--preset", "paper", "--shrink", K, "--run-dir", "table", *ON_DEVICE)
        self.check_table("table", [(model, str(size)) for model in preset["models"] for size in preset["block_sizes"]])

    def test_a_signal_to_one_rank_stops_the_table(self):
        command = ["repro", TABLES / "imm_shakespeare.json", "--preset", "paper", "--shrink", K, "--only", "gpt", "--run-dir", "table", *ON_DEVICE]
        ranks = self.start_two_ranks(*command, "--set", f"train.steps={K * 100000}", "--set", f"evaluation.interval={K * 1000}")
        for _ in range(600):
            if any(self.folder.glob("table/runs/*/metrics.jsonl")):
                break
            time.sleep(0.2)
        ranks[1].send_signal(signal.SIGTERM)
        ended = [rank.communicate(timeout=300) for rank in ranks]
        self.assertEqual([rank.returncode for rank in ranks], [128 + signal.SIGTERM] * 2, ended)
        self.assertIn("the same command continues from there", ended[0][1])
        self.assertTrue(any(self.folder.glob("table/runs/*/checkpoints/step_*/COMPLETE")))

    def test_one_experiment_is_shrunk_by_train_and_plan(self):
        config = ROOT / "configs" / "shakespeare_gpt.json"
        whole = json.loads(self.reverie(0, "plan", config, "--json").stdout)
        shrunk = json.loads(self.reverie(0, "plan", config, "--shrink", 4, "--json").stdout)
        self.assertEqual(shrunk["shrunk_by"], 4)
        self.assertNotIn("shrunk_by", whole)
        self.assertLess(shrunk["parameters"], whole["parameters"])
        self.assertIn("shrunk by 4", self.reverie(0, "plan", config, "--shrink", 4).stdout)
        self.assertFalse((self.folder / "runs").exists(), "a plan makes nothing")
        said = self.reverie(0, "train", config, "--shrink", K, "--run-dir", "run")
        self.assertIn(LABEL, said.stdout)
        for command in (["eval", "run"], ["inspect", "run"], ["sample", "run", "--max-tokens", "4"]):
            got = self.reverie(0, *command)
            self.assertIn(LABEL, got.stdout + got.stderr, command)
        self.reverie(0, "train", "--run-dir", "run", "--resume", "--set", "train.steps=4")
        self.assertEqual(json.loads((self.folder / "run/summary.json").read_text())["shrunk_by"], K)
        refused = self.reverie(2, "train", "run/config.resolved.json", "--shrink", 7, "--run-dir", "other")
        self.assertIn(f"$.shrunk_by is {K}", refused.stderr)

    def test_what_cannot_be_shrunk_is_refused_by_name(self):
        refused = self.reverie(2, "repro", TABLES / "memory.json", "--preset", "smoke", "--shrink", 4)
        self.assertIn("cannot be shrunk", refused.stderr)
        (self.folder / "config.json").write_text(json.dumps({"model": {"type": "pretrained", "path": "nowhere"}}))
        refused = self.reverie(2, "train", "config.json", "--shrink", 4)
        self.assertIn("nowhere is not there", refused.stderr)


if __name__ == "__main__":
    unittest.main()
