"""Runs beside a frozen base at the command line: small checkpoints, a base that was moved, changed or copied.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "data": {"path": "text.txt"},
    "model": {"type": "augmented", "base": "base", "latents": {"type": "coprocessor", "count": 2}, "block_size": 16, "groups": 4, "ahead": 4},
    "train": {"steps": 4, "batch_size": 4},
    "evaluation": {"interval": 2, "windows": 4, "prefix_only_windows": 2, "final_windows": 4, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 0},
    "checkpoint": {"interval": 2, "keep": 0, "keep_best": True},
}


class FrozenBaseTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-frozen-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.folder.joinpath("text.txt").write_text("".join(f"The {n}. line of a text that is made up.\n" for n in range(300)))
        shutil.copytree(ROOT / "tests/golden/pretrained/llama", self.folder / "base")
        self.folder.joinpath("run.json").write_text(json.dumps(EXPERIMENT))

    def reverie(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def opens(self, run):
        losses = self.reverie(0, "eval", run).stdout
        self.assertIn("behind latents", losses)
        self.reverie(0, "sample", run, "--prompt", "The ", "--max-tokens", "4")
        self.reverie(0, "check", "causality", run)
        return losses

    def test_every_command_opens_a_run_whose_base_is_named_moved_or_copied(self):
        self.reverie(0, "train", "run.json", "--run-dir", "run", "--quiet")
        state = json.loads((self.folder / "run/checkpoints/step_00000004/state.json").read_text())
        self.assertEqual(state["base"]["path"], str(self.folder.resolve() / "base"))
        before = self.opens("run")
        self.opens("run@best")
        shown = self.reverie(0, "inspect", "run").stdout
        self.assertIn(f"weights hash {state['base']['weights_hash']}", shown)
        self.reverie(0, "inspect", "run", "--export-state", "state")
        self.reverie(0, "sample", "state", "--prompt", "The ", "--max-tokens", "4")

        (self.folder / "base").rename(self.folder / "moved")
        missing = self.reverie(3, "eval", "run").stderr
        self.assertIn("is not there", missing)
        self.assertIn("--base PATH", missing)
        self.reverie(0, "inspect", "run", "--base", "moved")
        self.assertEqual(self.opens("run"), before)
        self.reverie(0, "train", "--run-dir", "run", "--resume", "--set", "train.steps=6", "--self-contained", "--quiet")
        shutil.rmtree(self.folder / "moved")
        self.opens("run")

    def test_a_changed_base_is_refused_before_anything_is_written(self):
        self.reverie(0, "train", "run.json", "--run-dir", "run", "--stop-after", "2", "--quiet")
        weights = self.folder / "base/model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(content)
        files = sorted(p.name for p in (self.folder / "run/checkpoints").iterdir())
        for command in (["eval", "run"], ["sample", "run", "--prompt", "The "], ["train", "--run-dir", "run", "--resume"]):
            self.assertIn("has other weights than those that", self.reverie(3, *command).stderr)
        self.assertEqual(files, sorted(p.name for p in (self.folder / "run/checkpoints").iterdir()))

    def test_the_same_weights_in_another_model_are_refused(self):
        self.reverie(0, "train", "run.json", "--run-dir", "run", "--stop-after", "2", "--quiet")
        self.reverie(0, "inspect", "run", "--export-state", "state")
        config = self.folder / "base/config.json"
        before = config.read_text()
        config.write_text(json.dumps(json.loads(before) | {"rms_norm_eps": 0.1}))
        for command in (["eval", "run"], ["train", "--run-dir", "run", "--resume"], ["sample", "state", "--prompt", "The "]):
            self.assertRegex(self.reverie(3, *command).stderr, "another model than the one that.*its rms_norm_eps is 0.1, wanted")
        config.write_text(before)
        self.opens("run")


if __name__ == "__main__":
    unittest.main()
