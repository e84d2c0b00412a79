"""Tests of scripts/keep_runs.py on made-up run directories. What `reverie repro` makes of kept runs: tests/cli/test_reasoning.py.

Run: python3 tests/scripts/test_keep_runs.py
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "keep_runs.py"


class KeepRunsTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-keep-runs-")
        self.addCleanup(temporary.cleanup)
        self.here = Path(temporary.name)
        self.file = self.here / "kept.tar.xz"

    def call(self, status, *arguments):
        got = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, got.stdout + got.stderr)
        return got.stdout + got.stderr

    def run_in(self, table, name, loss=1.5, finished=True):
        run = self.here / table / "runs" / name
        for folder in ("checkpoints/step_1", "hugging_face", "tensorboard"):
            (run / folder).mkdir(parents=True)
            (run / folder / "large").write_text("weights")
        base = self.here / table / "runs" / "base" / "hugging_face"
        (run / "config.resolved.json").write_text(json.dumps({"base": str(base), "path": "/data/of/somebody/text.txt", "relative": "a/b"}))
        (run / "metrics.jsonl").write_text('{"step":1}\n')
        (run / "report.html").write_text("<html>")
        (run / "run.lock").write_text("")
        if finished:
            (run / "summary.json").write_text(json.dumps({"val_loss": loss, "commit": "0123456789abcdef"}))
        return run

    def files(self, table):
        return {str(path.relative_to(table)): path.read_text() for path in sorted(table.rglob("*")) if path.is_file()}

    def test_what_a_table_says_comes_back_without_weights_and_places(self):
        self.run_in("table", "one")
        self.run_in("table", "begun", finished=False)
        (self.here / "table/asked").mkdir()
        (self.here / "table/asked/base-0.json").write_text('{"right": 3}')
        self.assertIn("2 runs", self.call(0, "pack", self.here / "table", "-o", self.file))
        self.assertIn("runs/one  0123456\n", self.call(0, "list", self.file))
        self.call(0, "unpack", self.file, self.here / "back")
        back = self.files(self.here / "back")
        self.assertEqual(set(back), {"runs/one/config.resolved.json", "runs/one/summary.json", "asked/base-0.json"})
        self.assertEqual(
            json.loads(back["runs/one/config.resolved.json"]),
            {"base": "/table/runs/base/hugging_face", "path": "/elsewhere/text.txt", "relative": "a/b"},
        )
        self.assertEqual(json.loads(back["runs/one/summary.json"])["val_loss"], 1.5)
        self.call(0, "pack", self.here / "table", "-o", self.file, "--metrics")
        self.call(0, "unpack", self.file, self.here / "curves")
        self.assertEqual((self.here / "curves/runs/one/metrics.jsonl").read_text(), '{"step":1}\n')

    def test_parts_of_a_table_become_one_wherever_they_lie(self):
        for part in ("here", "there"):
            self.run_in(part, "shared")
        self.run_in("there", "other")
        self.assertIn("2 runs", self.call(0, "pack", self.here / "here", self.here / "there", "-o", self.file))
        # From one of them with the rest unpacked into it: the same bytes.
        self.call(0, "unpack", self.file, self.here / "here")
        again = self.here / "again.tar.xz"
        self.call(0, "pack", self.here / "here", "-o", again)
        self.assertEqual(again.read_bytes(), self.file.read_bytes())
        self.assertTrue((self.here / "here/runs/shared/checkpoints").is_dir(), "what was there stays")
        self.assertIn("0 runs from", self.call(0, "unpack", self.file, self.here / "here"))

    def test_runs_of_one_name_that_differ_are_refused_and_nothing_is_written(self):
        self.run_in("here", "shared")
        self.run_in("there", "shared", loss=1.25)
        self.run_in("there", "other")
        self.assertIn("runs/shared differ", self.call(3, "pack", self.here / "here", self.here / "there", "-o", self.file))
        self.assertFalse(self.file.exists())
        self.call(0, "pack", self.here / "there", "-o", self.file)
        before = self.files(self.here / "here")
        self.assertIn("runs/shared differ", self.call(3, "unpack", self.file, self.here / "here"))
        self.assertEqual(self.files(self.here / "here"), before)

    def test_what_is_no_table_and_no_archive_is_refused(self):
        (self.here / "empty/runs").mkdir(parents=True)
        self.assertIn("no finished run", self.call(2, "pack", self.here / "empty", "-o", self.file))
        self.assertIn("is not the directory of a table", self.call(2, "pack", self.here, "-o", self.file))
        self.file.write_bytes(b"not an archive")
        self.assertIn("is not an archive", self.call(2, "unpack", self.file, self.here / "back"))
        for name, kind in (("../outside", tarfile.REGTYPE), ("runs/../../outside", tarfile.REGTYPE), ("/outside", tarfile.REGTYPE), ("runs/link", tarfile.SYMTYPE)):
            with tarfile.open(self.file, "w:xz") as archive:
                entry = tarfile.TarInfo(name)
                entry.type = kind
                entry.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
                archive.addfile(entry, io.BytesIO(b""))
            self.assertIn("not what keep_runs.py packs", self.call(2, "unpack", self.file, self.here / "back"), name)
        self.assertFalse((self.here / "back").exists())
        self.assertFalse((self.here / "outside").exists())


if __name__ == "__main__":
    unittest.main()
