"""Tests of cmake/build_commit.cmake: what a build says of its commit and of the newest run on a GPU.

Run: python3 tests/scripts/test_build_commit.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "cmake" / "build_commit.cmake"


class BuildCommit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        (self.root / "kernels" / "cuda").mkdir(parents=True)
        (self.root / "docs" / "results").mkdir(parents=True)
        self.git("init", "--quiet")
        self.days = 0
        self.first = self.commit("kernels/cuda/norm.cu", "one")

    def git(self, *arguments: str, day: int = 0) -> str:
        when = f"2024-01-{day + 1:02d}T00:00:00Z"
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}).stdout.strip()

    def commit(self, path: str, text: str) -> str:
        (self.root / path).write_text(text)
        self.git("add", path)
        self.days += 1
        self.git("commit", "--quiet", "-m", "x", day=self.days)
        return self.git("rev-parse", "HEAD")

    def record(self, name: str, text: str) -> None:
        (self.root / "docs" / "results" / name).write_text(text)

    def header(self) -> tuple[int, str, str]:
        out = self.root / "build_commit.h"
        done = subprocess.run(["cmake", f"-DSOURCE={self.root}", f"-DOUTPUT={out}", "-P", str(SCRIPT)], capture_output=True, text=True, check=False)
        return done.returncode, out.read_text() if out.exists() else "", done.stderr

    def test_names_the_commit_and_that_no_gpu_ran(self):
        status, header, _ = self.header()
        self.assertEqual(status, 0)
        self.assertIn(f'REVERIE_COMMIT "{self.first}"', header)
        self.assertIn("never run on a GPU", header)

    def test_knows_nothing_outside_git(self):
        shutil.rmtree(self.root / ".git")
        status, header, _ = self.header()
        self.assertEqual(status, 0)
        self.assertIn('REVERIE_COMMIT "unknown"', header)
        self.assertIn("of an unknown history", header)

    def test_counts_kernel_files_changed_since_the_newest_run(self):
        second = self.commit("kernels/cuda/norm.cu", "two")
        self.commit("kernels/cuda/copy.cu", "new")
        self.commit("docs/page.md", "not a kernel")
        self.record("gpu_old.json", json.dumps({"commit": self.first, "gpu": "NVIDIA A100"}))
        self.record("gpu_new.json", json.dumps({"commit": second, "gpu": "NVIDIA H100 80GB HBM3"}))
        self.assertIn(f"last run on a GPU at {second} (NVIDIA H100 80GB HBM3); kernel files changed since: 1", self.header()[1])
        (self.root / "kernels" / "cuda" / "norm.cu").write_text("three, not committed")
        self.assertIn("changed since: 2", self.header()[1])

    def test_refuses_a_record_without_its_commit(self):
        for text in ('{"gpu": "NVIDIA H100"}', "{", '{"commit": "HEAD; true", "gpu": "NVIDIA H100"}'):
            self.record("gpu_x.json", text)
            status, _, error = self.header()
            self.assertNotEqual(status, 0, text)
            self.assertIn("gpu_x.json", error)

    def test_says_that_the_clone_does_not_have_the_commit(self):
        self.record("gpu_x.json", json.dumps({"commit": "0" * 40, "gpu": "NVIDIA H100"}))
        status, header, _ = self.header()
        self.assertEqual(status, 0)
        self.assertIn("a commit that this clone does not have", header)


if __name__ == "__main__":
    unittest.main()
