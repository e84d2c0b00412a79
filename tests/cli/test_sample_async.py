"""`reverie sample --coprocessor RUN --async`: latents that are made while the base writes, and several coprocessors at once.

Needs a finished build (REVERIE_BUILD_DIR, or build/release). A coprocessor that crashes or takes for ever is a plug-in's:
tests/plugin/test_plugin.py.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REVERIE = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release")) / "reverie"

EXPERIMENT = {
    "seed": 7,
    "model": {"type": "llama", "block_size": 96, "n_layer": 2, "n_head": 2, "n_embd": 16},
    "optimizer": {"learning_rate": 0.01},
    "train": {"steps": 120, "batch_size": 4},
    "evaluation": {"interval": 120, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
    "sample": {"interval": 0, "tokens": 5},
}
LATENTS = {"embeddings": {"type": "coprocessor", "count": 3}, "rows": {"type": "coprocessor", "count": 6, "initial": "scratch", "writes": "cache"},
           "slots": {"type": "icae", "count": 2, "rank": 2}}


class SampleAsyncTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-async-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(400))
        (cls.folder / "text.txt").write_text(text)
        data = {"path": str(cls.folder / "text.txt"), "prepared_directory": str(cls.folder / "tokens")}
        cls.train("base", {**EXPERIMENT, "data": data})
        cls.done("inspect", "base", "--export-hf", "base_hf")
        for name, latents in LATENTS.items():
            model = {"type": "augmented", "base": str(cls.folder / "base_hf"), "latents": latents, "block_size": 32, "groups": 4, "ahead": 4}
            cls.train(name, {**EXPERIMENT, "data": data, "model": model})

    @classmethod
    def train(cls, name, experiment):
        (cls.folder / f"{name}.json").write_text(json.dumps(experiment))
        cls.done("train", f"{name}.json", "--run-dir", name)

    @classmethod
    def reverie(cls, *arguments):
        return subprocess.run([str(REVERIE), *map(str, arguments)], cwd=cls.folder, capture_output=True, text=True, check=False)

    @classmethod
    def done(cls, *arguments):
        got = cls.reverie(*arguments)
        if got.returncode != 0:
            raise AssertionError(f"{arguments} ended with {got.returncode}:\n{got.stdout}\n{got.stderr}")
        return got.stdout

    def sample(self, *arguments, tokens=40):
        """What was printed, and the written file."""
        shown = self.done("sample", "base", "--prompt", "The ", "--max-tokens", tokens, "--temperature", 1.5, "--json", "out.json", *arguments)
        return shown, json.loads((self.folder / "out.json").read_text())

    def test_pinned_it_writes_the_text_of_a_base_that_waits(self):
        for run in LATENTS:
            for late in (0, 6):
                _, waited = self.sample("--coprocessor", run, "--latents-late", late)
                self.assertNotEqual(waited["with_latents"]["tokens"], waited["base"]["tokens"])
                for contained in ([], ["--contained"]):
                    shown, got = self.sample("--coprocessor", run, "--latents-late", late, "--async", *contained)
                    self.assertEqual(got["with_latents"]["tokens"], waited["with_latents"]["tokens"], (run, late, contained))
                    self.assertEqual(got["blocking"]["tokens"], waited["with_latents"]["tokens"])
                    self.assertEqual(got["base"]["tokens"], waited["base"]["tokens"])
                    self.assertEqual(got["with_latents"]["where"], "process" if contained else "thread")
                    arrival = got["with_latents"]["coprocessors"][0]
                    self.assertEqual(arrival["arrived_after"], late)
                    self.assertIn(f"in the text after {late} tokens", shown)

    def test_where_it_arrived_is_where_the_same_text_comes_from(self):
        for contained in ([], ["--contained"]):
            shown, got = self.sample("--coprocessor", "embeddings", "--async", *contained, tokens=300)
            self.assertEqual(re.findall("^==== .*$", shown, re.M),
                             ["==== the base alone",
                              f"==== with 3 latents, made {'in a copy of the process' if contained else 'on a thread of their own'}"
                              " while the base writes",
                              "==== with 3 latents behind the prompt, for which the base waits"])
            after = got["with_latents"]["coprocessors"][0]["arrived_after"]
            if after is None:
                self.skipTest("the text of 300 tokens was written before the latents were made: the machine is busy")
            self.assertGreaterEqual(after, 1)
            self.assertEqual(got["with_latents"]["tokens"][:after], got["base"]["tokens"][:after])
            self.assertIn(f"in the text after {after} tokens; --latents-late {after} writes the same text", shown)
            _, again = self.sample("--coprocessor", "embeddings", "--latents-late", after, tokens=300)
            self.assertEqual(again["with_latents"]["tokens"], got["with_latents"]["tokens"])
            speed = re.search(r"tokens per second, the prompt and the latents included: ([\d.]+) the base alone, ([\d.]+) blocking, "
                              r"([\d.]+) async", shown)
            self.assertIsNotNone(speed, shown)
            for figure, name in zip(speed.groups(), ("base", "blocking", "async")):
                self.assertAlmostEqual(float(figure), got["speed"][name], delta=0.06)
                self.assertGreater(got["speed"][name], 0)

    def test_several_coprocessors(self):
        both = ["--coprocessor", "embeddings", "--coprocessor", "rows"]
        shown, waited = self.sample(*both, "--latents-late", 4)
        self.assertIn("==== with 3 latents of embeddings that arrive 4 tokens late, 6 latents of rows that arrive 4 tokens late\n", shown)
        self.assertEqual([c["latents"] for c in waited["coprocessors"]], [3, 6])
        for one in ("embeddings", "rows"):
            _, alone = self.sample("--coprocessor", one, "--latents-late", 4)
            self.assertNotEqual(alone["with_latents"]["tokens"], waited["with_latents"]["tokens"])
        shown, got = self.sample(*both, "--latents-late", 4, "--async")
        self.assertEqual(got["with_latents"]["tokens"], waited["with_latents"]["tokens"])
        self.assertIn("the latents of rows were ready", shown)
        self.assertEqual([c["arrived_after"] for c in got["with_latents"]["coprocessors"]], [4, 4])
        refused = self.reverie("sample", "base", "--coprocessor", "embeddings", "--coprocessor", "slots", "--prompt", "The ")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("hide the text", refused.stderr)

    def test_options_that_do_not_go_together_are_refused(self):
        for arguments, word in ((["--async"], "--coprocessor"), (["--contained", "--coprocessor", "rows"], "--async"),
                                (["--latents-wait", 3, "--coprocessor", "rows"], "--async"),
                                (["--async", "--coprocessor", "rows", "--samples", 2], "--samples")):
            got = self.reverie("sample", "base", *arguments)
            self.assertEqual(got.returncode, 1, got.stderr)
            self.assertIn(word, got.stderr)
            self.assertEqual(got.stdout, "")

    def test_a_text_that_ends_at_once_waits_for_nothing_it_needs(self):
        shown, got = self.sample("--coprocessor", "embeddings", "--async", tokens=1)
        self.assertEqual(got["with_latents"]["tokens"], got["base"]["tokens"])
        self.assertIsNone(got["with_latents"]["coprocessors"][0]["arrived_after"])
        self.assertIn("when the text of 1 tokens had ended", shown)


if __name__ == "__main__":
    unittest.main()
