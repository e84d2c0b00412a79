"""The files and folders that the documentation names exist, its commands can be run, and its plots have the style of today."""

import os
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
ROOMS = "core|kernels|autograd|layers|datasets|trainers|tests|scripts|configs|docs|cmake"
# `trainers/training/trainer.cpp` in backquotes, with or without a command's arguments behind it.
NAMED = re.compile(rf"`((?:{ROOMS})/[\w./-]*\w/?)(?=[`\s,:)])")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
LINK_TO_HEADING = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")


def missing_names(text: str) -> list[str]:
    return [name for name in NAMED.findall(text) if not (ROOT / name).exists()]


def missing_links(text: str, folder: Path) -> list[str]:
    return [link for link in LINK.findall(text) if not (folder / link).exists()]


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_headings(text: str, folder: Path) -> list[str]:
    """Links to headings of existing pages, where the page has no such heading."""
    return [
        f"{page}#{anchor}"
        for page, anchor in LINK_TO_HEADING.findall(text)
        if anchor not in anchors((folder / page).read_text() if page else text)
    ]


def empty_headings(page: str) -> list[str]:
    """Those that nothing follows, or a heading that is not below them."""
    lines = [line for line in re.sub(r"^```.*?^```", "text", page, flags=re.M | re.S).splitlines() if line.strip()]
    level = [len(re.match(r"#*", line).group()) if re.match(r"#+ ", line) else 0 for line in lines]
    return [line for i, line in enumerate(lines) if level[i] and (i + 1 == len(lines) or 0 < level[i + 1] <= level[i])]


def opening(page: str) -> str:
    """The paragraphs between a page's title and the first command, plot, list, table or heading."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", page.split("\n", 1)[1].strip()):
        if re.match(r"```|    |!\[|#|\||<|[-*] ", block):
            break
        paragraphs.append(block)
    return "\n\n".join(paragraphs)


def figures(text: str) -> list[str]:
    """The numbers of a text, an interval with its figure as one; those of code, links and names (SmolLM2-135M) are none."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\s*\\\[.*?\\\]", " ", text)
    return re.findall(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?!\w)", text)


class Documentation(unittest.TestCase):
    def test_results_open_with_three_figures_at_most(self):
        for page in sorted((ROOT / "docs/results").glob("*.md")):
            with self.subTest(page.name):
                self.assertLessEqual(len(figures(opening(page.read_text()))), 3, figures(opening(page.read_text())))

    def test_headings_have_something_under_them(self):
        for page in PAGES:
            with self.subTest(page):
                self.assertEqual(empty_headings((ROOT / page).read_text()), [])

    def test_an_empty_heading_is_seen(self):
        self.assertEqual(empty_headings("# a\n\n## b\n\n### c\n\n### d\n\ntext\n\n```sh\n# no heading\n```\n\n## e\n"), ["### c", "## e"])

    def test_figures_are_counted(self):
        page = "# 9 results\n\nIt gains 4.2 % \\[3.3 %, 5.1 %\\] beside SmolLM2-135M (`--steps 3`).\n\nAfter 1,000 steps,\n6.\n\n```sh\ncommand 7\n```\n8"
        self.assertEqual(figures(opening(page)), ["4.2", "1,000", "6"])

    def test_named_files_exist(self):
        for page in PAGES:
            with self.subTest(page):
                # The command of a measurement stands as it was given, at the commit beside it.
                lines = (ROOT / page).read_text().splitlines()
                self.assertEqual(missing_names("\n".join(line for line in lines if not line.startswith("- Command: "))), [])

    def test_links_lead_somewhere(self):
        for page in PAGES:
            with self.subTest(page):
                self.assertEqual(missing_links((ROOT / page).read_text(), (ROOT / page).parent), [])

    def test_links_lead_to_headings(self):
        for page in PAGES:
            with self.subTest(page):
                self.assertEqual(missing_headings((ROOT / page).read_text(), (ROOT / page).parent), [])

    def test_scripts_can_be_run(self):
        for script in sorted((ROOT / "scripts").glob("*")):
            if script.is_file() and script.read_bytes().startswith(b"#!"):
                with self.subTest(script.name):
                    self.assertTrue(os.access(script, os.X_OK), f"chmod +x {script.relative_to(ROOT)}")

    def test_plots_have_the_style_of_the_sources(self):
        # An SVG file stands by itself, so that each holds a copy of the style.
        style = (ROOT / "trainers/reports/plot.css").read_text().strip()
        plots = sorted((ROOT / "docs/results").glob("*.svg"))
        self.assertTrue(plots)
        for plot in plots:
            with self.subTest(plot.name):
                self.assertIn(style, plot.read_text(), "draw it again (reverie report, reverie repro --report-only)")

    def test_a_missing_file_is_seen(self):
        self.assertEqual(missing_names("see `core/no_such_file.h` and `core/error.h`"), ["core/no_such_file.h"])
        self.assertEqual(missing_links("[here](docs/nowhere.md) [there](README.md)", ROOT), ["docs/nowhere.md"])

    def test_a_missing_heading_is_seen(self):
        page = "# 7. What is here\n[a](#7-what-is-here) [b](#nowhere) [c](README.md#reverie)"
        self.assertEqual(missing_headings(page, ROOT), ["#nowhere"])


if __name__ == "__main__":
    unittest.main()
