"""lm-eval asks `reverie serve`, and its scores are those of its own `hf` model: scripts/check_lm_eval_server.py, short.

REVERIE_LM_EVAL_PYTHON names a Python with lm-eval (default: this one), REVERIE_DATA the data.
"""

import os
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REVERIE = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release")) / "reverie"


class LmEval(unittest.TestCase):
    def test_scores_are_those_of_its_own_model(self):
        if not os.environ.get("REVERIE_DATA"):
            self.skipTest("REVERIE_DATA is not set")
        python = os.environ.get("REVERIE_LM_EVAL_PYTHON", sys.executable)
        got = subprocess.run([python, str(ROOT / "scripts/check_lm_eval_server.py"), "--reverie", str(REVERIE),
                              "--items", "8"], capture_output=True, text=True, check=False)  # fmt: skip
        if got.returncode == 77:
            self.skipTest(got.stdout.strip())
        self.assertEqual(got.returncode, 0, f"{got.stdout}\n{got.stderr[-3000:]}")
        self.assertGreaterEqual(got.stdout.count("texts and flags equal"), 6)


if __name__ == "__main__":
    unittest.main()
