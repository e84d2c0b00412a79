"""Tables and experiments made small by --shrink, and what all of their files must say. For the tests of several folders.

Needs a finished build (REVERIE_BUILD_DIR, or build/release). Ranks are started over TCP, as torchrun does.
"""

import json
import os
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"
TABLES = ROOT / "configs" / "tables"

K = 50000
LABEL = f"shrunk by {K}"
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def doctor(**environment):
    """What `reverie doctor` says, by the first word of a line."""
    said = subprocess.run([str(REVERIE), "doctor"], capture_output=True, text=True, check=False, env=os.environ | environment)
    return {line.split(" ", 1)[0]: line for line in said.stdout.splitlines() if line[:1].strip()} | {"error": said.stderr}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class ShrunkRuns(unittest.TestCase):
    """Runs in a folder of the test's own, beside no text of this machine: everything is generated."""

    more_environment: dict = {}

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-shrunk-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def environment(self, **more):
        kept = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES and key != "REVERIE_DATA"}
        return kept | {"XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"} | self.more_environment | more

    def reverie(self, status, *arguments):
        got = subprocess.run([str(REVERIE), *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False, env=self.environment())
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def start_two_ranks(self, *arguments):
        port = str(free_port())
        return [subprocess.Popen([str(REVERIE), *map(str, arguments)], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=self.environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port))
                for rank in range(2)]

    def two_ranks(self, *arguments):
        started = self.start_two_ranks(*arguments)
        ended = [process.communicate(timeout=1200) for process in started]
        for process, (out, err) in zip(started, ended):
            self.assertEqual(process.returncode, 0, f"{arguments}\n{out}\n{err}")
        return ended

    def check_table(self, directory, cells):
        """Every cell has a finished run, and nothing looks like a figure of the table itself."""
        directory = self.folder / directory
        table = json.loads((directory / "table.json").read_text())
        self.assertTrue(table["title"].startswith(f"Shrunk by {K}: "), table["title"])
        for name in ("table.md", "report.html"):
            self.assertIn(f"Shrunk by {K}: ", (directory / name).read_text(), name)
        for row in table["rows"]:
            self.assertIn(LABEL, row["label"])
        runs = sorted((directory / "runs").iterdir())
        self.assertEqual(sorted({tuple(run.name.rsplit("-seed", 1)[0].rsplit("-", 1)) for run in runs}), sorted(cells))
        for run in runs:
            summary = json.loads((run / "summary.json").read_text())
            self.assertEqual(summary["shrunk_by"], K)
            self.assertIn(LABEL, summary["label"])
            self.assertEqual(summary["verdict"]["shrunk_by"], K)
            for line in (run / "metrics.jsonl").read_text().splitlines():
                if "loss" in line:
                    self.assertIn(LABEL, json.loads(line)["label"])
            self.assertIn(LABEL, (run / "report.html").read_text())
        return runs
