"""Tests that no part of a new model family, or of a component without defaults, can be forgotten: the suite fails and says what.

Run: REVERIE_BUILD_DIR=build/release python3 tests/scripts/test_layer_omissions.py

Compiles one test file of the room layers against a changed copy of what docs/contributing.md lists, and runs it.
Needs a finished build by Ninja of the room layers with its tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release")).resolve()
BINARY = "tests/test_layers"


def ninja(*arguments: str) -> str:
    return subprocess.run(["ninja", "-C", str(BUILD), *arguments], check=True, capture_output=True, text=True).stdout


class LayerOmissions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (BUILD / "build.ninja").exists() or not (BUILD / BINARY).exists():
            raise unittest.SkipTest(f"{BUILD} is no finished build by Ninja of {BINARY}")
        if "-fsanitize=" in (BUILD / "build.ninja").read_text():
            raise unittest.SkipTest("the tests themselves run under the sanitizers; this one compiles them anew")
        cls.compilations = json.loads(ninja("-t", "compdb"))

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def leave_out(self, header: str, pattern: str):
        """A copy of a header below tests/ without the one match of `pattern`."""
        text, count = re.subn(pattern, "", (ROOT / header).read_text(), flags=re.MULTILINE)
        self.assertEqual(count, 1, f"{pattern!r} matches {count} times; the omission must be written anew")
        copy = self.folder / header
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)

    def run_alone(self, source: str, chosen: str) -> tuple[int, str]:
        """Compiles and links one test file, with the copies and with this folder's tests/golden if there is one."""
        command = next(c["command"] for c in self.compilations
                       if Path(c["file"]) == ROOT / source and c["command"].count(" -c ") == 1)
        words, kept = iter(shlex.split(command)), []
        for word in words:
            if word in ("-o", "-MF", "-MT", "-include"):  # the precompiled header is of other flags
                next(words)
            elif word not in ("-c", "-MD", "-Winvalid-pch", "-fpch-preprocess") and not word.startswith("-O"):
                kept.append(word)
        compiler = next(i for i, word in enumerate(kept) if re.search(r"/[a-z+]*\+\+(-\d+)?$", word))
        # The source that was named is the last word.
        sources = [kept.pop()]
        if (self.folder / "tests/golden").exists():
            sources.append(str(self.folder / "test_directory.cpp"))
            Path(sources[1]).write_text('#include "support/tests_directory.h"\n'
                                        f'std::string reverie::testing::test_directory() {{ return "{self.folder / "tests"}"; }}\n')
        compiled = []
        for text in sources:
            compiled.append(str(self.folder / (Path(text).stem + ".o")))
            subprocess.run([*kept[compiler:compiler + 1], f"-I{self.folder / 'tests'}", *kept[compiler + 1:], "-O0", "-c", text,
                            "-o", compiled[-1]], cwd=BUILD, check=True, capture_output=True)
        links = [c for c in ninja("-t", "commands", BINARY).splitlines() if f" -o {BINARY}" in c]
        words = shlex.split(re.search(r"(?:^|&& )([^&]* -o [^&]*)", links[0])[1])
        words = [word for word in words if not word.endswith(".cpp.o")]
        words[words.index("-o") + 1] = str(self.folder / "test")
        subprocess.run([*words[:1], *compiled, *words[1:]], cwd=BUILD, check=True, capture_output=True)
        rooms = ":".join(str(BUILD / room) for room in ("core", "kernels", "autograd", "layers"))
        result = subprocess.run([self.folder / "test", f"--gtest_filter={chosen}"], capture_output=True, text=True,
                                env=dict(os.environ, LD_LIBRARY_PATH=rooms))
        return result.returncode, result.stdout + result.stderr

    def test_family_without_its_golden_and_its_tiny_model(self):
        shutil.copytree(ROOT / "tests/golden/pretrained", self.folder / "tests/golden/pretrained",
                        ignore=shutil.ignore_patterns("mistral*"))
        self.leave_out("tests/support/tiny_models.h", r'^ *\{"mistral", R".*\n')
        status, output = self.run_alone("tests/layers/test_families.cpp", "*EveryFamily*:*EveryName*")
        self.assertNotEqual(status, 0)
        failed = set(re.findall(r"^\[  FAILED  \] (\S+?),", output, flags=re.MULTILINE))
        self.assertEqual(failed, {f"Registered/EveryFamily.{test}/mistral" for test in
                                  ("HasAGoldenOfTransformers", "IsAmongTheTinyModels", "LeavesAsGgufAndGivesTransformersLogits")})
        self.assertIn('no model of the family "mistral": add a case to tests/golden/make/make_hf_golden.py', output)
        self.assertIn('add a model of the family "mistral" to tests/support/tiny_models.h', output)

    def test_source_without_the_options_that_it_needs(self):
        self.leave_out("tests/support/registered_components.h", r',\n *\{"several",\n.*\n.*\}\}\}\)\}\}\}(?=\};)')
        status, output = self.run_alone("tests/layers/test_every_source.cpp", "Registered/*several*:*IsSeen*")
        self.assertNotEqual(status, 0)
        self.assertIn("Give it options in tests/support/registered_components.h", output)


if __name__ == "__main__":
    unittest.main()
