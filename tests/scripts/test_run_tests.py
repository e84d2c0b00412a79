"""run_tests.py must notice everything that can go wrong in a suite, so its own suites here go wrong."""

import json
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import run_tests  # noqa: E402

REPORT = """<testsuites><testsuite name="A">
  <testcase name="ok" status="run" result="completed" classname="A"/>
  <testcase name="left_out" status="run" result="skipped" classname="A">
    <skipped message="t.cpp:2&#x0A;REVERIE_DATA is not set"/></testcase>
  <testcase name="DISABLED_x" status="notrun" result="suppressed" classname="A"/>
  {failure}
</testsuite></testsuites>"""
FAILURE = '<testcase name="bad" status="run" classname="A"><failure message="1 is not 2"/></testcase>'


class SuiteTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def binary(self, body: str) -> Path:
        """A stand-in for a GoogleTest binary; `report` is where it must write its XML."""
        file = self.folder / "test_fake"
        file.write_text(f"#!{sys.executable}\nimport os, sys\nreport = sys.argv[1].split(':', 1)[1]\n{body}\n")
        file.chmod(0o755)
        return file

    def gtest(self, body: str) -> run_tests.Suite:
        return run_tests.gtest_suite("fake", self.binary(body), self.folder, {})

    def python(self, body: str) -> run_tests.Suite:
        file = self.folder / "test_written.py"
        file.write_text("import os, unittest\nclass T(unittest.TestCase):\n" + textwrap.indent(textwrap.dedent(body), "  "))
        return run_tests.python_suite("here/test_written", file, self.folder, {})

    def test_counts_and_reasons_of_a_report(self) -> None:
        suite = self.gtest(f"open(report, 'w').write({REPORT.format(failure=FAILURE)!r}); sys.exit(1)")
        self.assertEqual(suite.counts(), "1 passed, 1 failed, 2 skipped")
        self.assertEqual(suite.failed, [["A.bad", "1 is not 2"]])
        self.assertEqual(suite.skipped, [["A.left_out", "REVERIE_DATA is not set"], ["A.DISABLED_x", "disabled"]])

    def test_a_check_without_its_tool_is_skipped_and_says_why(self) -> None:
        script = self.folder / "check_format.py"
        for status, counts in ((77, "0 passed, 0 failed, 1 skipped"), (0, "1 passed, 0 failed, 0 skipped"), (1, "0 passed, 1 failed, 0 skipped")):
            script.write_text(f"print('no clang-format'); raise SystemExit({status})")
            suite = run_tests.check_suite("check", script, self.folder, {"REVERIE_BUILD_DIR": ""})
            self.assertEqual(suite.counts(), counts)
            for _, why in suite.skipped + suite.failed:
                self.assertEqual(why, "no clang-format")

    def test_an_error_after_the_tests_counts(self) -> None:
        suite = self.gtest(f"open(report, 'w').write({REPORT.format(failure='')!r}); sys.exit(23)")
        self.assertEqual(suite.passed, 1)
        self.assertIn("exit status 23", suite.failed[0][1])

    def test_a_crash_names_the_test_it_came_in(self) -> None:
        suite = self.gtest("print('[ RUN      ] A.one\\n[       OK ] A.one (0 ms)\\n[ RUN      ] A.two', flush=True)\nos.abort()")
        self.assertEqual(suite.passed, 1)
        self.assertEqual(suite.failed[0][0], "A.two")
        self.assertIn("SIGABRT", suite.failed[0][1])

    def test_a_binary_that_was_not_built_counts(self) -> None:
        suite = run_tests.gtest_suite("gone", self.folder / "gone", self.folder, {})
        self.assertEqual(len(suite.failed), 1)

    def test_a_stale_report_is_not_read(self) -> None:
        (self.folder / "fake.xml").write_text(REPORT.format(failure=""))
        suite = self.gtest("sys.exit(3)")
        self.assertEqual((suite.passed, len(suite.failed)), (0, 1))

    def test_python_counts(self) -> None:
        suite = self.python("""
            def test_good(self): pass
            def test_bad(self): self.fail('as it must')
            def test_error(self): raise OSError
            @unittest.skip('no data')
            def test_left_out(self): pass
            @unittest.expectedFailure
            def test_expected(self): self.fail()
            @unittest.expectedFailure
            def test_surprise(self): pass
        """)
        self.assertEqual(suite.counts(), "2 passed, 3 failed, 1 skipped")
        self.assertEqual(suite.skipped[0][1], "no data")

    def test_python_crash_and_import_error_count(self) -> None:
        self.assertIn("exit status 7", self.python("def test_exit(self): os._exit(7)").failed[0][1])
        self.assertEqual(len(self.python("import no_such_module").failed), 1)

    def test_a_suite_without_tests_is_a_failure(self) -> None:
        empty = self.binary("open(report, 'w').write('<testsuites/>')")
        suite = run_tests.run_suite("gtest", "fake", empty, self.folder, self.folder)
        self.assertEqual(suite.failed, [["(the suite)", "has no tests"]])

    def test_totals_and_the_last_line(self) -> None:
        for name, failed in (("a", []), ("b", [["t", "why"]])):
            record = {"name": name, "passed": 3, "failed": failed, "skipped": [["s", "no data"]], "seconds": 1.0}
            (self.folder / f"{name}.json").write_text(json.dumps([record]))
        script = SCRIPTS / "run_tests.py"

        def total(*names: str) -> subprocess.CompletedProcess:
            files = [str(self.folder / f"{n}.json") for n in names]
            return subprocess.run([sys.executable, str(script), "--total", *files],
                                  capture_output=True, text=True, check=False)

        both, good = total("a", "b"), total("a")
        self.assertEqual(both.stdout.splitlines()[-1], "6 passed, 1 failed, 2 skipped")
        self.assertIn("skipped (2): no data", both.stdout)
        self.assertEqual((both.returncode, good.returncode), (1, 0))


if __name__ == "__main__":
    unittest.main()
