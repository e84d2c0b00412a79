"""Pages of docs/results whose runs are kept beside them: what the runs give must be what the page says.

Run: REVERIE=build/release/reverie python3 tests/cli/test_result_pages.py
"""

import csv
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "results"


def reverie(folder: Path, *arguments: str) -> None:
    got = subprocess.run(
        [Path(os.environ.get("REVERIE", ROOT / "build/release/reverie")).resolve(), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if got.returncode != 0:
        raise AssertionError(f"{arguments}:\n{got.stdout}{got.stderr}")


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


class ResultPagesTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="reverie-pages-")
        self.addCleanup(temporary.cleanup)
        self.here = Path(temporary.name)

    def written_anew(self, page: str, table: str, *arguments: str) -> Path:
        """The directory of the table that the runs kept beside `page` give."""
        directory = self.here / page
        subprocess.run(
            [sys.executable, ROOT / "scripts/keep_runs.py", "unpack", PAGES / f"{page}_runs.tar.xz", directory],
            check=True,
            capture_output=True,
        )
        reverie(self.here, "repro", str(ROOT / "configs/tables" / table), "--run-dir", str(directory), "--report-only", *arguments)
        return directory

    def assert_page_says(self, page: str, directory: Path) -> None:
        said = set(table_lines((PAGES / f"{page}.md").read_text()))
        rows = table_lines((directory / "table.md").read_text())
        self.assertGreater(len(rows), 5)
        self.assertEqual([row for row in rows if row not in said], [])

    def test_products(self):
        """The task with the small data; its graphs take minutes to generate."""
        directory = self.written_anew(
            "reasoning", "reasoning.json", "--preset", "laptop", "--set", "precision=bf16", "--set-table", 'presets.laptop.tasks=["arithmetic"]'
        )
        self.assert_page_says("reasoning", directory)
        with (PAGES / "reasoning.csv").open() as file:
            committed = [row for row in csv.DictReader(file) if row["task"] == "arithmetic"]
        with (directory / "table.csv").open() as file:
            self.assertEqual(list(csv.DictReader(file)), committed)

    def test_a_figure_that_the_runs_do_not_give_is_seen(self):
        directory = self.here / "changed"
        directory.mkdir()
        rows = table_lines((PAGES / "reasoning.md").read_text())
        (directory / "table.md").write_text("\n".join(rows))
        self.assert_page_says("reasoning", directory)
        (directory / "table.md").write_text("\n".join(rows[:-1] + [rows[-1].replace("1", "2")]))
        self.assertIn("1", rows[-1])
        with self.assertRaises(AssertionError):
            self.assert_page_says("reasoning", directory)


if __name__ == "__main__":
    unittest.main()
