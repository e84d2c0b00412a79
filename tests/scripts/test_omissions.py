"""Tests that no part of a new op can be forgotten: without it, a file does not compile or a coverage test fails.

Run: REVERIE_BUILD_DIR=build/release python3 tests/scripts/test_omissions.py

Each test leaves out one edit that docs/contributing.md lists, of an elementwise function (softplus) or of a structured op
(conv1d): it compiles one file against a changed copy of a header, or links a library or a test again without one object.
Needs a finished build by Ninja of the rooms kernels and autograd with their tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release")).resolve()
NEEDED = ["kernels/libreverie_kernels.so", "autograd/libreverie_autograd.so", "tests/test_kernels", "tests/test_autograd"]


def ninja(*arguments: str) -> str:
    return subprocess.run(["ninja", "-C", str(BUILD), *arguments], check=True, capture_output=True, text=True).stdout


def without(text: str, pattern: str) -> str:
    """`text` without the one match of `pattern`."""
    changed, count = re.subn(pattern, "", text, flags=re.MULTILINE)
    if count != 1:
        raise AssertionError(f"{pattern!r} matches {count} times; the omission must be written anew")
    return changed


class Omissions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (BUILD / "build.ninja").exists() or not all((BUILD / file).exists() for file in NEEDED):
            raise unittest.SkipTest(f"{BUILD} is no finished build by Ninja of {', '.join(NEEDED)}")
        if "-fsanitize=" in (BUILD / "build.ninja").read_text():
            raise unittest.SkipTest("a build with sanitizers links other libraries first")
        cls.compilations = json.loads(ninja("-t", "compdb"))

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    # ---- single files -----------------------------------------------------------------------

    def compile(self, source: str, header: str | None = None, pattern: str | None = None) -> tuple[int, str]:
        """Checks `source` with the build's own flags, against a copy of `header` without `pattern`."""
        if header is not None:
            copy = self.folder / header
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(without((ROOT / header).read_text(), pattern))
        command = next(c["command"] for c in self.compilations
                       if Path(c["file"]) == ROOT / source and c["command"].count(" -c ") == 1)
        words = shlex.split(command)
        compiler = next(i for i, word in enumerate(words) if re.search(r"/[a-z+]*\+\+(-\d+)?$", word))
        before = [words[compiler], "-fsyntax-only", f"-I{self.folder}", f"-I{self.folder / 'tests'}"]
        kept, skip = [], False
        for word in words[compiler + 1:]:
            if skip:
                skip = False
            elif word in ("-o", "-MF", "-MT"):
                skip = True
            elif word not in ("-c", "-MD"):
                kept.append(word)
        result = subprocess.run([*before, *kept], cwd=BUILD, capture_output=True, text=True)
        return result.returncode, result.stderr

    def assert_does_not_compile(self, source: str, header: str, pattern: str, words: str):
        status, errors = self.compile(source, header, pattern)
        self.assertNotEqual(status, 0, f"{source} compiles without {pattern!r} of {header}")
        self.assertIn(words, errors)

    # ---- libraries and tests without one object --------------------------------------------

    def link_without(self, target: str, source: str) -> Path:
        """Links `target` of the build again, without the objects of `source`, into this test's folder."""
        commands = [c for c in ninja("-t", "commands", target).splitlines() if f" -o {target}" in c]
        self.assertEqual(len(commands), 1, f"one command links {target}")
        command = re.search(r"(?:^|&& )([^&]* -o [^&]*)", commands[0])[1]
        words = shlex.split(command)
        kept = [word for word in words if not word.endswith(f"/{source}.o")]
        self.assertLess(len(kept), len(words), f"{target} holds {source}")
        soname = next((word.split(",")[-1] for word in kept if word.startswith("-Wl,-soname,")), Path(target).name)
        output = self.folder / soname
        kept[kept.index("-o") + 1] = str(output)
        subprocess.run(kept, cwd=BUILD, check=True, capture_output=True)
        return output

    def run_tests(self, binary: Path, chosen: str) -> tuple[int, str]:
        environment = dict(os.environ, LD_LIBRARY_PATH=f"{self.folder}:{BUILD / 'core'}:{BUILD / 'kernels'}:{BUILD / 'autograd'}")
        result = subprocess.run([binary, f"--gtest_filter={chosen}"], env=environment, capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr

    def assert_fails(self, binary: Path, chosen: str, words: str):
        status, output = self.run_tests(binary, chosen)
        self.assertNotEqual(status, 0, f"{chosen} passes")
        self.assertRegex(output, words)

    # ---- softplus: a line, a functor, a reference ------------------------------------------

    def test_elementwise_function_without_its_line(self):
        self.assert_does_not_compile("tests/kernels/cases_elementwise.cpp", "kernels/elementwise.h",
                                     r" *\\\n *F\(softplus, Softplus\)", "softplus")

    def test_elementwise_function_without_its_functor(self):
        self.assert_does_not_compile("kernels/cpu/isa/elementwise.cpp", "kernels/functional.h",
                                     r"^struct Softplus \{\n(?:.+\n)*?\};\n", "Softplus")

    def test_elementwise_function_without_its_reference(self):
        self.assert_does_not_compile("tests/kernels/cases_elementwise.cpp", "tests/kernels/naive.h",
                                     r" *case Unary::softplus:\n *return std::log1p.*\n", "softplus")

    def test_elementwise_function_without_its_derivative(self):
        self.assert_does_not_compile("tests/kernels/cases_elementwise.cpp", "tests/kernels/naive.h",
                                     r" *case Unary::softplus:\n *return sigmoid;\n", "softplus")

    # ---- conv1d: header, cpu file, cuda file, op, case files -------------------------------

    def test_row_without_its_demands(self):
        self.assert_does_not_compile("autograd/ops/conv1d.cpp", "kernels/conv1d.h",
                                     r"^inline void check\(const Conv1dForward& a\) \{\n(?:.+\n)*?\}\n",
                                     "a row needs check(const Args&)")

    def test_row_without_its_work(self):
        self.assert_does_not_compile("autograd/ops/conv1d.cpp", "kernels/conv1d.h",
                                     r"^inline profile::Work work\(const Conv1dBackward& a\) \{\n(?:.+\n)*?\}\n",
                                     "a row needs work(const Args&)")

    def test_row_that_is_not_declared(self):
        self.assert_does_not_compile("autograd/ops/conv1d.cpp", "kernels/conv1d.h",
                                     r"^inline constinit Kernel<Conv1dForward>.*\n", "conv1d_forward")

    def test_row_without_its_cpu_file(self):
        self.link_without("kernels/libreverie_kernels.so", "conv1d.cpp")
        self.assert_fails(BUILD / "tests/test_kernels", "Coverage.EveryDeclaredRowIsFilled:Coverage.EveryRowHasACase*",
                          "conv1d_forward")

    def test_row_without_its_cuda_file(self):
        if "cuda/conv1d.cu.o" not in (BUILD / "build.ninja").read_text():
            self.skipTest("this build has no cuda kernels")
        self.link_without("kernels/libreverie_kernels.so", "conv1d.cu")
        self.assert_fails(BUILD / "tests/test_kernels", "Coverage.EveryRowHasACudaKernel",
                          "no cuda kernel: conv1d_backward, conv1d_forward")

    def test_row_without_its_case_file(self):
        binary = self.link_without("tests/test_kernels", "kernels/cases_conv1d.cpp")
        self.assert_fails(binary, "Coverage.EveryRowHasACase*", "conv1d_forward")
        self.assert_fails(binary, "Refusals.*", "rows without a refusal")

    def test_op_without_its_file(self):
        self.link_without("autograd/libreverie_autograd.so", "ops/conv1d.cpp")
        self.assert_fails(BUILD / "tests/test_autograd", "Conv1d.*", "undefined symbol: .*conv1d")

    def test_op_without_its_case_file(self):
        binary = self.link_without("tests/test_autograd", "autograd/cases_conv1d.cpp")
        self.assert_fails(binary, "GradcheckCoverage.*", 'Actual: { "conv1d" }')
        self.assert_fails(binary, "OpDemands.*", "ops without a refusal")

    # ---- nothing left out: all of it compiles and passes -----------------------------------

    def test_nothing_left_out(self):
        for source in ("tests/kernels/cases_elementwise.cpp", "autograd/ops/conv1d.cpp"):
            status, errors = self.compile(source)
            self.assertEqual(status, 0, errors)
        for binary, chosen in (("tests/test_kernels", "Coverage.EveryDeclaredRowIsFilled:Refusals.*"),
                               ("tests/test_autograd", "GradcheckCoverage.*:OpDemands.*")):
            status, output = self.run_tests(BUILD / binary, chosen)
            self.assertEqual(status, 0, output)


if __name__ == "__main__":
    unittest.main()
