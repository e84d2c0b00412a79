"""A decoder of a run's memory as a user meets it: train, eval, `sample --explain`, and the run without it.

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

COMMON = {
    "seed": 7,
    "data": {"path": "text.txt", "prepared_directory": "tokens"},
    "train": {"steps": 6, "batch_size": 4},
    "evaluation": {"interval": 3, "windows": 8, "prefix_only_windows": 1, "final_windows": 8, "final_prefix_only_windows": 1},
    "sample": {"interval": 0, "tokens": 0},
    "checkpoint": {"interval": 3},
}
SLOTS = {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 4, "chunk_length": 4, "carry_state": True}
GPT = {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16}
BASE = {**COMMON, "model": {**GPT, "memory": SLOTS}}
DECODER = {
    **COMMON,
    "data": {"path": "text.txt", "prepared_directory": "records", "examples": {"form": "recount", "read": 24, "tokens": 6}},
    "model": {"type": "explained", "base": "base", "block_size": 40, "decoder": {"n_layer": 1, "n_embd": 16}},
}


class ExplainedTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-explained-")
        self.addCleanup(temporary.cleanup)
        self.here = Path(temporary.name)
        (self.here / "text.txt").write_text("".join(f"The {n * n % 97}. line of a text that is made up.\n" for n in range(200)))

    def expect(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.here, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def train(self, name, experiment, status=0):
        (self.here / f"{name}.json").write_text(json.dumps(experiment))
        return self.expect(status, "train", f"{name}.json", "--run-dir", name)

    def sample(self, run, *more):
        out = self.here / "sample.json"
        shown = self.expect(0, "sample", run, "--prompt", "The 4. line of a text that", "--max-tokens", "20", "--json", out, *more)
        written = json.loads(out.read_text())
        return shown.stdout, written

    def test_the_chain_stands_beside_an_answer_that_stays_the_same_to_the_bit(self):
        self.train("base", BASE)
        plain_text, plain = self.sample("base")
        self.train("decoder", DECODER)
        weights = (self.here / "base").glob("checkpoints/*/model.safetensors")
        before = {file: file.read_bytes() for file in weights}
        text, explained = self.sample("base", "--explain", "decoder")
        self.assertTrue(text.startswith(plain_text), text)
        self.assertIn("==== explained by decoder", text)
        self.assertIn("memory, 8 rows of 16 features after 26 tokens", text)
        self.assertEqual(explained["tokens"], plain["tokens"])
        self.assertEqual(explained["text"], plain["text"])
        self.assertEqual(set(explained["explained"]), {"decoder", "tokens", "steps", "answer", "verdict", "length", "trained_lengths", "label"})
        # The prompt is longer than the texts of its training, and every place says so.
        self.assertIn("UNLIKE ITS TRAINING: the decoder was trained on texts of 24 tokens", text)
        self.assertEqual((explained["explained"]["length"], explained["explained"]["trained_lengths"]), (26, [24, 24]))
        self.assertNotIn("explained", plain)
        for file, bytes_before in before.items():
            self.assertEqual(file.read_bytes(), bytes_before)
        # Greedily and for several texts, too; and no file of the decoder is needed without the flag.
        several = ("--samples", "3", "--greedy")
        with_flag = self.sample("base", *several, "--explain", "decoder")[1]["samples"]
        shutil.rmtree(self.here / "decoder")
        self.assertEqual(self.sample("base", *several)[1]["samples"], with_flag)
        self.assertEqual(self.sample("base")[1]["tokens"], plain["tokens"])

    def test_a_decoder_is_evaluated_and_checked_like_any_run(self):
        self.train("base", BASE)
        shown = self.train("decoder", DECODER)
        self.assertIn("causal", shown.stdout + shown.stderr)
        evaluated = self.expect(0, "eval", "decoder", "--windows", "4", "--json", "eval.json")
        self.assertIn("validation, answers", evaluated.stdout)
        self.assertIn("causal: ", evaluated.stdout)
        self.expect(0, "check", "causality", "decoder")
        # It is no language model, and nothing scores it as one.
        for arguments in (("eval", "decoder", "--text", "text.txt"), ("serve", "decoder"), ("sample", "decoder", "--prompt", "x")):
            said = self.expect(1, *arguments).stderr
            self.assertIn("is no language model", said)
            self.assertIn("base --explain decoder", said)
        prepared = json.loads((self.here / "records/dataset.json").read_text())
        self.assertEqual(prepared["examples"]["form"], "recount")
        # Its checkpoint has the decoder alone.
        checkpoint = max((self.here / "decoder/checkpoints").iterdir())
        header = (checkpoint / "model.safetensors").read_bytes()
        names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
        names.pop("__metadata__", None)
        self.assertTrue(names)
        self.assertTrue(all(name.startswith("decoder.") for name in names), sorted(names))

    def test_what_cannot_be_explained_is_refused_with_the_reason(self):
        self.train("gpt", {**COMMON, "model": GPT})
        of_gpt = json.loads(json.dumps(DECODER))
        of_gpt["model"]["base"] = "gpt"
        refused = self.train("of_gpt", of_gpt, 1).stderr
        self.assertIn("has no memory module and no latents", refused)
        self.assertFalse((self.here / "of_gpt").exists())
        self.train("base", BASE)
        nothing = {**DECODER, "data": COMMON["data"]}
        self.assertIn("$.data.examples.form is none", self.train("nothing", nothing, 1).stderr)
        self.train("decoder", DECODER)
        self.assertIn("holds no decoder", self.expect(1, "sample", "base", "--explain", "gpt").stderr)
        other = self.expect(1, "sample", "base@3", "--explain", "decoder").stderr
        self.assertIn("give its own base as the run", other)
        self.assertIn("--explain", self.expect(1, "sample", "decoder").stderr)
        shutil.rmtree(self.here / "base")
        self.train("base", {**BASE, "seed": 8})
        retrained = self.expect(1, "sample", "base", "--explain", "decoder").stderr
        self.assertIn("was retrained or replaced", retrained)


if __name__ == "__main__":
    unittest.main()
