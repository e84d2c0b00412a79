"""check_ptx.py beside its self-test: how it asks nvcc, what it says when it cannot, and whether its table can be read."""

import contextlib
import io
import json
import re
import sys
import unittest
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import check_ptx  # noqa: E402


class CommandsTest(unittest.TestCase):
    def test_ptx_is_made_as_the_object_was_but_of_the_newest_architecture(self) -> None:
        command = ("/usr/bin/nvcc -DX=\"\" -I/src --generate-code=arch=compute_80,code=[sm_80] --generate-code=arch=compute_90,code=[compute_90,sm_90] "
                   "-Xptxas=-v -O3 -std=c++20 -x cu -c /src/a.cu -o a.o")
        found = check_ptx.ptx_commands([{"directory": "/build", "command": command, "file": "/src/a.cu"},
                                        {"directory": "/build", "command": "c++ -c /src/b.cpp", "file": "/src/b.cpp"}])
        self.assertEqual(found, [("/build", ["/usr/bin/nvcc", "-DX=", "-I/src", "-O3", "-std=c++20", "-x", "cu", "-arch=compute_90", "-ptx", "/src/a.cu"],
                                  "/src/a.cu")])

    def fail(self, *arguments: str) -> str:
        with mock.patch.object(sys, "argv", ["check_ptx.py", *arguments]), contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(check_ptx.main(), 1)
        return said.getvalue()

    def test_what_cannot_be_read_is_told(self) -> None:
        self.assertIn("/nowhere is no folder of a build", self.fail("--build", "/nowhere"))
        self.assertIn("/nowhere/cuobjdump does not start", self.fail("lib.so", "--cuobjdump", "/nowhere/cuobjdump"))
        with mock.patch.object(check_ptx.shutil, "which", lambda *_, **__: None):
            self.assertIn("there is no cuobjdump to read it with", self.fail("lib.so"))


class TableTest(unittest.TestCase):
    def test_rules_can_be_read_and_name_kernels_of_the_sources(self) -> None:
        sources = "".join(file.read_text() for file in (SCRIPTS.parent / "kernels" / "cuda").rglob("*.cu*"))
        kernels = set(re.findall(r"__global__ void\s+(?:REVERIE_\w+\s+)?(\w+)\(", sources))
        for rule in json.loads(check_ptx.TABLE.read_text()):
            re.compile(rule["kernels"])
            self.assertTrue(set(rule) & set(check_ptx.FOUND), rule)
            if "expected_from" not in rule:
                name = rule["kernels"].partition("<")[0]
                self.assertTrue([kernel for kernel in kernels if re.fullmatch(name, kernel)], f"{rule} of {sorted(kernels)}")


if __name__ == "__main__":
    unittest.main()
