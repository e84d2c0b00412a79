"""The paper's presets, shrunk, as they are: on device cuda, emulated, over two ranks.

Needs a program whose device cuda is emulated (build/emulated; REVERIE_BUILD_DIR). Any other program is given the libraries core and
kernels of an emulated build of the same commit, which are all that differs between the two:

    scripts/test.sh --preset emulated --room kernels
    REVERIE_EMULATED_BUILD=build/emulated scripts/run_tests.py --build build/release --room emulated
"""

import json
import os
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from shrunk_runs import BUILD, K, TABLES, ShrunkRuns, doctor  # noqa: E402 (support)

EMULATED_BUILD = os.environ.get("REVERIE_EMULATED_BUILD")


def emulated_libraries():
    """The environment in which the program finds them before its own."""
    if not EMULATED_BUILD:
        return {}
    folders = [Path(EMULATED_BUILD).resolve() / room for room in ("core", "kernels")]
    missing = [str(f) for f in folders if not (f / f"libreverie_{f.name}.so").exists()]
    if missing:
        raise AssertionError(f"REVERIE_EMULATED_BUILD: no libraries in {', '.join(missing)}; build them with scripts/test.sh --preset emulated --room kernels")
    return {"LD_LIBRARY_PATH": os.pathsep.join(map(str, folders))}


class PaperPresetsOnTheEmulatedDevice(ShrunkRuns):
    @classmethod
    def setUpClass(cls):
        cls.more_environment = emulated_libraries()
        own, with_them = doctor(), doctor(**cls.more_environment)
        if EMULATED_BUILD and own.get("build") != with_them.get("build"):
            raise AssertionError(f"{BUILD} and {EMULATED_BUILD} are of different commits, build both:\n{own.get('build')}\n{with_them.get('build')}\n"
                                 f"{with_them['error']}")
        if "emulated" in with_them.get("cuda", ""):
            return
        if EMULATED_BUILD:
            raise AssertionError(f"{EMULATED_BUILD} holds no emulated device: {with_them.get('cuda')}")
        raise unittest.SkipTest("device cuda is not emulated in this build, and REVERIE_EMULATED_BUILD names none beside it (.ci/run does)")

    def start(self, definition, *more):
        """The directory of the table that two ranks made."""
        self.two_ranks("repro", TABLES / definition, "--preset", "paper", "--shrink", K, "--run-dir", "table", *more)
        return self.folder / "table"

    def check_runs(self, cells):
        for run in self.check_table("table", cells):
            config = json.loads((run / "config.resolved.json").read_text())
            self.assertEqual((config["device"], config["precision"]), ("cuda", "bf16"))
            self.assertEqual(json.loads((run / "summary.json").read_text())["ranks"], 2)
            yield config

    def test_latents(self):
        # A coprocessor beside the frozen base, and one whose base is trained with it; the other cells differ in what the CPU tells as well.
        cells = {"coprocessor": [32], "cotrained": [32]}
        self.start("cache_augmentation.json", "--set-table", f"presets.paper.cells={json.dumps(cells)}")
        for config in self.check_runs([(model, "32") for model in cells]):
            self.assertTrue(config["model"]["rematerialize"])
            self.assertEqual((config["train"]["batch_size"], config["train"]["micro_batches"], config["distributed"]["shard_optimizer"]), (2, 2, True))

    def test_memories(self):
        models = ("gpt", "imm_slots")
        only = [word for model in models for word in ("--only", model)]
        self.start("imm_shakespeare.json", "--set-table", "presets.paper.block_sizes=[64]", *only)
        for config in self.check_runs([(model, "64") for model in models]):
            self.assertEqual(config["model"]["block_size"], 64)


if __name__ == "__main__":
    unittest.main()
