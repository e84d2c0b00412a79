"""The stages of a GPU node with stand-ins for their commands: what is kept, cut, repeated and left out; and what a bundle holds."""

import contextlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gpu_run  # noqa: E402
import run_tests  # noqa: E402
from gpu_node import contents, node, report, stages  # noqa: E402
from gpu_node.runner import CUT, FAILED, LEFT_OUT, PASSED, Outcome, Records, Runner, Stage, Stopped, Unit  # noqa: E402

KEY = {"commit": "abc"}


def python(body: str) -> list[str]:
    return [sys.executable, "-c", body]


class FolderTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name).resolve()
        self.results = self.folder / "results"

    def count(self, name: str) -> list[str]:
        """A command that leaves a mark each time it runs."""
        return python(f"open({str(self.folder / name)!r}, 'a').write('x')")

    def times(self, name: str) -> int:
        file = self.folder / name
        return len(file.read_text()) if file.exists() else 0


class RunnerTest(FolderTest):
    def run_stages(self, *chosen: Stage, seconds: float = 60, key: dict = KEY, name: str = "node one", host: str = "host one",
                   after=lambda: None) -> list[str]:
        said: list[str] = []
        self.runner = Runner(list(chosen), self.results, seconds=seconds, key=key, node=name, host=host, root=self.folder, environment=dict(os.environ), say=said.append,
                             after=after)
        self.runner.run()
        return said

    def status(self, stage: str, unit: str, key: dict = KEY) -> str | None:
        record = Records(self.results, key).read(stage, unit)
        return record and record["status"]

    def test_what_passed_is_not_done_again(self) -> None:
        stage = Stage("a", "A", [Unit("one", [self.count("one")]), Unit("two", [self.count("two")])])
        self.run_stages(stage)
        said = self.run_stages(stage, name="node two")
        self.assertEqual((self.times("one"), self.times("two")), (1, 1))
        self.assertIn("one: passed before, on node one", said)

    def test_another_bundle_or_other_settings_do_everything(self) -> None:
        stage = Stage("a", "A", [Unit("one", [self.count("one")])])
        self.run_stages(stage)
        self.run_stages(stage, key={"commit": "def"})
        self.assertEqual(self.times("one"), 2)

    def test_a_failing_unit_stops_no_other(self) -> None:
        bad = Unit("bad", [python("print('the reason'); raise SystemExit(7)"), self.count("after")])
        self.run_stages(Stage("a", "A", [bad, Unit("good", [self.count("good")])]), Stage("b", "B", [Unit("next", [self.count("next")])]))
        self.assertEqual([self.times(n) for n in ("after", "good", "next")], [0, 1, 1])
        record = Records(self.results, KEY).read("a", "bad")
        self.assertEqual(record["status"], FAILED)
        self.assertIn("the reason", record["why"])
        self.assertIn("status 7", record["why"])

    def test_a_failure_is_tried_again_on_another_node_after_everything_else(self) -> None:
        order = self.folder / "order"
        note = f"open({str(order)!r}, 'a').write"
        stage_a = Stage("a", "A", [Unit("bad", [python(f"{note}('bad '); raise SystemExit(1)")])])
        stage_b = Stage("b", "B", [Unit("good", [python(f"{note}('good ')")])])
        self.run_stages(stage_a)
        self.run_stages(stage_a, stage_b)  # the same node: it would fail again
        self.run_stages(stage_a, stage_b, Stage("c", "C", [Unit("new", [python(f"{note}('new ')")])]), name="node two")
        self.assertEqual(order.read_text(), "bad good new bad ")

    def test_another_node_with_the_same_gpu_is_another_node(self) -> None:
        bad = Stage("a", "A", [Unit("bad", [self.count("bad"), python("raise SystemExit(1)")])])
        for host, times in (("host one", 1), ("host one", 1), ("host two", 2)):
            self.run_stages(bad, name="NVIDIA H100", host=host)
            self.assertEqual(self.times("bad"), times, host)
        file = self.results / "units" / "a.bad.json"
        record = json.loads(file.read_text())
        self.assertEqual((record["node"], record["host"]), ("NVIDIA H100", "host two"))
        del record["host"]  # of an earlier bundle's scripts: nobody knows where that was
        file.write_text(json.dumps(record))
        self.run_stages(bad, name="NVIDIA H100", host="host two")
        self.assertEqual(self.times("bad"), 3)

    def test_some_failures_end_all(self) -> None:
        self.run_stages(Stage("a", "A", [Unit("doctor", [["/nowhere/at/all"]], failure_ends_all=True)]), Stage("b", "B", [Unit("next", [self.count("next")])]))
        self.assertEqual((self.status("a", "doctor"), self.status("b", "next"), self.times("next")), (FAILED, None, 0))

    def test_the_time_cuts_and_a_later_run_goes_on(self) -> None:
        # The command goes on where its file says that it was stopped, as `reverie repro` does.
        done, begun = self.folder / "done", self.folder / "begun"
        body = (f"import pathlib, signal, sys, time\nbegun, done = pathlib.Path({str(begun)!r}), pathlib.Path({str(done)!r})\n"
                "if begun.exists(): done.write_text(begun.read_text()); raise SystemExit(0)\n"
                "def stop(number, frame):\n begun.write_text('half'); sys.exit(143)\n"
                "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\ntime.sleep(600)")
        long = Stage("a", "A", [Unit("first", [self.count("first")], least=0), Unit("long", [python(body)], least=0)])
        late = Stage("b", "B", [Unit("late", [self.count("late")], least=0)])
        said = self.run_stages(long, late, seconds=4)
        self.assertEqual((self.status("a", "first"), self.status("a", "long"), self.status("b", "late")), (PASSED, CUT, None))
        self.assertTrue(any(line.startswith("late: not begun") for line in said), said)
        self.assertEqual(begun.read_text(), "half")
        moved = self.folder / "elsewhere"
        self.results.rename(moved)
        self.results = moved
        self.run_stages(long, late, name="node two")
        self.assertEqual((self.status("a", "long"), self.status("b", "late"), done.read_text()), (PASSED, PASSED, "half"))
        self.assertEqual(self.times("first"), 1)

    def test_a_stage_has_its_share_and_what_is_left_comes_last(self) -> None:
        marks = self.folder / "marks"
        note = f"open({str(marks)!r}, 'a').write"
        # Waits for the other stage, which a stage without a share would keep from beginning.
        waits = python(f"import pathlib, time\nwhile 'b' not in (pathlib.Path({str(marks)!r}).read_text() if pathlib.Path({str(marks)!r}).exists() else ''): time.sleep(0.01)\n"
                       f"{note}('a')")
        self.run_stages(Stage("a", "A", [Unit("waits", [waits], least=0)], share=0.05), Stage("b", "B", [Unit("other", [python(f"{note}('b')")], least=0)]), seconds=40)
        self.assertEqual(marks.read_text(), "ba")
        self.assertEqual(self.status("a", "waits"), PASSED)

    def test_one_that_does_not_end_upon_sigterm_is_killed_with_its_children(self) -> None:
        child = self.folder / "child"
        body = ("import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nopen({str(child)!r}, 'w').write(str(p.pid))\ntime.sleep(600)")
        self.run_stages(Stage("a", "A", [Unit("stubborn", [python(body)], least=0)]), seconds=4)
        self.assertEqual(self.status("a", "stubborn"), CUT)
        pid = int(child.read_text())
        for _ in range(500):
            try:
                if " Z " in Path(f"/proc/{pid}/stat").read_text():
                    return
            except OSError:
                return
            time.sleep(0.01)
        self.fail("the child lives")

    def test_what_is_missing_is_left_out_and_says_why(self) -> None:
        self.run_stages(Stage("a", "A", [Unit("gpu", [self.count("gpu")], missing="no GPU: no driver")]))
        self.assertEqual((self.status("a", "gpu"), self.times("gpu")), (LEFT_OUT, 0))

    def test_left_out_units_are_run_where_nothing_is_missing(self) -> None:
        self.run_stages(Stage("a", "A", [Unit("gpu", [self.count("gpu")], missing="no GPU")]))
        self.run_stages(Stage("a", "A", [Unit("gpu", [self.count("gpu")])]))
        self.assertEqual((self.status("a", "gpu"), self.times("gpu")), (PASSED, 1))

    def test_results_are_complete_after_each_unit(self) -> None:
        seen = []

        def after() -> None:
            seen.append([self.status("a", name) for name in ("one", "two")])

        self.run_stages(Stage("a", "A", [Unit("one", [self.count("one")]), Unit("two", [self.count("two")])]), after=after)
        self.assertEqual(seen, [[PASSED, None], [PASSED, PASSED]])

    def test_a_signal_leaves_a_record_and_no_process(self) -> None:
        before = signal.signal(signal.SIGUSR1, gpu_run.stop_on)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        started = self.folder / "started"
        body = f"import os, time\nopen({str(started)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"

        def send() -> None:
            while not (started.exists() and started.read_text()):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=send)
        thread.start()
        with self.assertRaises(Stopped):
            self.run_stages(Stage("a", "A", [Unit("long", [python(body)])]))
        thread.join()
        self.assertEqual(self.status("a", "long"), CUT)
        self.assertFalse(Path(f"/proc/{started.read_text()}").exists())

    def test_a_reader_has_the_last_word(self) -> None:
        unit = Unit("a", [python("pass")], read=lambda o: Outcome(FAILED, "a figure is missing", {"seen": o.status}))
        self.run_stages(Stage("a", "A", [unit]))
        self.assertEqual(Records(self.results, KEY).read("a", "a")["figures"], {"seen": PASSED})

    def test_a_command_can_be_told_its_seconds(self) -> None:
        file = self.folder / "seconds"
        unit = Unit("a", [[*python(f"import sys; open({str(file)!r}, 'w').write(' '.join(sys.argv[1:]))")]], seconds_option="--seconds", most=30)
        self.run_stages(Stage("a", "A", [unit]))
        option, value = file.read_text().split()
        self.assertEqual(option, "--seconds")
        self.assertTrue(1 <= float(value) <= 27)


class BundleStandIn(FolderTest):
    """A folder that looks like a bundle, with a program of Python's."""

    REVERIE = """
import json, pathlib, sys
arguments = sys.argv[1:]
if arguments == ["doctor"]:
    print("cpu kernels  avx2\\ncuda         36 of 36 kernels in this build; {words}")
elif arguments[0] == "train":
    folder = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
    folder.mkdir()
    config = json.loads(pathlib.Path(arguments[1]).read_text())
    (folder / "summary.json").write_text(json.dumps({{"train_loss": 4.0}}))
    sys.exit(5 if config["allow_future_leak"] else 0)
elif arguments[0] == "repro":
    run_dir = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
    if "--report-only" in arguments:
        (run_dir / "table.md").write_text("a table")
    else:
        run = run_dir / "runs" / arguments[arguments.index("--only") + 1]
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "summary.json").write_text("{{}}")
"""

    def make(self, words: str, flavour: str = "on") -> node.Bundle:
        root = self.folder / "bundle"
        (root / "program").mkdir(parents=True)
        (root / "program" / "reverie").write_text(f"#!{sys.executable}\n{self.REVERIE.format(words=words)}")
        (root / "program" / "reverie").chmod(0o755)
        (root / "bundle.json").write_text(json.dumps({"commit": "0123abc", "flavour": flavour, "arch": "90", "needs": "wants driver 580"}))
        return node.Bundle.at(root)

    def start(self, *arguments: str) -> tuple[int, str]:
        with mock.patch.object(gpu_run, "ROOT", self.folder / "bundle"), mock.patch.object(gpu_run.signal, "signal"), \
                mock.patch.object(node, "ask_python", lambda p: {"torch": None, "cuda": "no module named torch", "nvidia": []}), \
                contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            status = gpu_run.main(["--results", str(self.results), *arguments])
        return status, out.getvalue()

    def summary(self) -> dict:
        return {(u["stage"], u["unit"]): u for u in json.loads((self.results / "summary.json").read_text())["units"]}


class NodeTest(BundleStandIn):
    NO_DRIVER = "CUDA 13.0 is built in, but no GPU is usable here: CUDA driver version is insufficient for CUDA runtime version"

    def test_without_a_driver_the_first_stage_runs_on_the_cpu(self) -> None:
        self.make(self.NO_DRIVER)
        status, said = self.start()
        self.assertEqual(status, 1, said)
        self.assertIn("no driver", said)
        self.assertIn("wants driver 580; nvidia-smi shows the driver that is here", said)
        self.assertEqual({unit["host"] for unit in self.summary().values()}, {platform.node()})
        self.assertNotIn(platform.node(), (self.results / "summary.md").read_text().split())
        units = self.summary()
        for (stage, unit), record in units.items():
            self.assertEqual(record["status"], PASSED if stage == "start" else LEFT_OUT, (stage, unit, record["why"]))
        self.assertIn("no GPU", units["shakespeare", "gpt_256_seed1337"]["why"])
        page = (self.results / "summary.md").read_text()
        self.assertIn("**No GPU: CUDA 13.0 is built in", page)
        self.assertEqual(json.loads((self.results / "start" / "gpt2_f32.json").read_text())["device"], "cpu")
        self.assertFalse(list(self.results.glob("gpu_*.json")))

    def test_the_emulated_flavour_is_a_trial(self) -> None:
        self.make("emulated: kernels run on the CPU, a fiber for each of their threads", "emulated")
        status, said = self.start("--stage", "shakespeare", "--stage", "coprocessor", "--pack", str(self.folder / "packed.tar.gz"))
        self.assertEqual(status, 0, said)
        self.assertTrue(json.loads((self.results / "summary.json").read_text())["trial"])
        self.assertIn("no figure here tells of a GPU", (self.results / "summary.md").read_text())
        self.assertEqual((self.results / "shakespeare" / "table.md").read_text(), "a table")
        # Weights are kept where the table's figures are measured by them.
        self.assertFalse((self.results / "shakespeare" / "runs" / "gpt" / "checkpoints").exists())
        self.assertTrue((self.results / "coprocessor" / "runs" / "pause" / "checkpoints").exists())
        with tarfile.open(self.folder / "packed.tar.gz") as archive:
            names = archive.getnames()
        self.assertIn("results/shakespeare/table.md", names)
        self.assertFalse([name for name in names if "checkpoints" in name])

    def test_a_folder_that_is_no_bundle_is_refused(self) -> None:
        (self.folder / "bundle").mkdir()
        status, said = self.start()
        self.assertEqual(status, 2)
        self.assertIn("this is no bundle", said)

    def test_a_program_that_does_not_start_is_told(self) -> None:
        bundle = self.make("x")
        bundle.program.write_text("#!/bin/sh\necho 'libfmt.so.9: cannot open shared object file' >&2\nexit 127\n")
        status, said = self.start()
        self.assertEqual(status, 2)
        self.assertIn("libfmt.so.9: cannot open", said)

    def test_an_unknown_stage_is_refused(self) -> None:
        self.make(self.NO_DRIVER)
        self.assertIn("wanted one of start, tests, speed", self.start("--stage", "all")[1])

    def test_cublas_is_found_beside_pytorch_first(self) -> None:
        nvidia, toolkit = self.folder / "site" / "nvidia", self.folder / "toolkit"
        for library in (nvidia / "cu13" / "lib" / "libcublasLt.so.13", nvidia / "cublas" / "lib" / "libcublasLt.so.12", toolkit / "lib64" / "libcublasLt.so.12"):
            library.parent.mkdir(parents=True)
            library.write_text("")
        with mock.patch.dict(os.environ, {"CUDA_HOME": str(toolkit), "LD_LIBRARY_PATH": "/drivers"}):
            found = node.folders_of_cublas({"nvidia": [str(nvidia)]})
            self.assertEqual(found[:3], [str(nvidia / "cu13" / "lib"), str(nvidia / "cublas" / "lib"), str(toolkit / "lib64")])
            bundle = self.make("x")
            self.assertEqual(node.environment_of(bundle, {"nvidia": [str(nvidia)]})["LD_LIBRARY_PATH"], f"/drivers:{nvidia / 'cu13' / 'lib'}")
        with mock.patch.dict(os.environ, {"LD_LIBRARY_PATH": str(toolkit / "lib64")}):  # chosen by the user
            self.assertEqual(node.environment_of(bundle, {"nvidia": [str(nvidia)]})["LD_LIBRARY_PATH"], str(toolkit / "lib64"))


class StagesTest(BundleStandIn):
    def plan(self, **more: object) -> list[Stage]:
        there = node.Node("cuda", True, False, "NVIDIA H100", {"gpu": "NVIDIA H100", "driver": "580"}, "", "no torch", "", {})
        return stages.all_stages(stages.Plan(self.make("x"), there, self.results, False, **more))

    def test_the_order_and_what_a_bundle_without_gemma_leaves_out(self) -> None:
        found = {stage.name: stage for stage in self.plan()}
        self.assertEqual(list(found), ["start", "tests", "speed", "ceilings", "shakespeare", "coprocessor"])
        rows = [unit.name for unit in found["shakespeare"].units]
        self.assertEqual(rows[:4], ["gpt_256_seed1337", "imm_as_published_256_seed1337", "imm_causal_mean_256_seed1337", "gpt_128_seed1337"])
        self.assertEqual((len(rows), rows[9]), (27, "gpt_256_seed1338"))
        self.assertTrue(all("--with gemma3" in unit.missing for unit in found["coprocessor"].units))
        self.assertIn("--expect-gpu", found["tests"].units[0].commands[0])
        self.assertIn("--no-pytorch", found["speed"].units[0].commands[0])
        self.assertIn("compute-sanitizer is not installed", found["tests"].units[-1].missing)

    def test_the_first_stage_has_every_component_of_the_sources(self) -> None:
        """One that is added is run on a GPU, too, or this fails."""
        start = self.plan()[0]
        built = "".join(file.read_text() for file in (self.results / "start").rglob("*.json"))
        root, registered = SCRIPTS.parent, set()
        for file in (*root.glob("layers/**/*.cpp"), root / "trainers/runs/explained_model.cpp"):
            for pattern in (r'Registry::instance\(\)\.add<[^>]*>\(\s*"(\w+)"', r'REVERIE_REGISTER_MEMORY\(\s*"(\w+)"', r'Family\(\{"(\w+)"'):
                registered.update(re.findall(pattern, file.read_text()))
        self.assertLessEqual({"gpt2", "gemma3", "imm", "recurrent_tokens", "icae", "augmented", "coconut", "explained"}, registered)
        self.assertEqual([name for name in sorted(registered) if f'"type": "{name}"' not in built], [])
        modes = re.search(r'f\.text\("mode", mode, \{([^}]*)\}', (root / "layers/memory/imm.cpp").read_text())[1]
        for mode in re.findall(r'"(\w+)"', modes):
            self.assertIn(f'"mode": "{mode}"', built)
        names = [unit.name for unit in start.units]
        self.assertEqual(sum(name.endswith("_bf16") for name in names), len(stages.KINDS))
        self.assertEqual({name.removesuffix("_f32") for name in names if name.endswith("_f32")}, set(stages.IN_F32))

    def test_the_tables_have_what_the_stages_name(self) -> None:
        root = SCRIPTS.parent
        paper = json.loads((root / stages.SHAKESPEARE).read_text())["presets"]["paper"]
        self.assertLessEqual(set(stages.ROWS), set(paper["models"]))
        self.assertEqual((set(paper["block_sizes"]), set(paper["seeds"])), (set(stages.BLOCK_SIZES), set(stages.SEEDS)))
        table = json.loads((root / stages.AUGMENTATION).read_text())
        self.assertEqual(set(stages.SOURCES), set(table["presets"][stages.PRESET]["cells"]))
        self.assertEqual(table["shuffled"], ["coprocessor"])

    def test_speed_keeps_the_longer_measurement(self) -> None:
        unit = next(stage for stage in self.plan() if stage.name == "ceilings").units[0]
        kept, now = self.results / "speed" / "kernels.json", self.results / "speed" / "kernels.now.json"
        now.write_text(json.dumps({"round_count": 3}))
        self.assertEqual(unit.read(Outcome(PASSED)).status, CUT)
        self.assertEqual((json.loads(kept.read_text())["round_count"], now.exists()), (3, False))
        now.write_text(json.dumps({"round_count": 1}))
        unit.read(Outcome(CUT))
        self.assertEqual(json.loads(kept.read_text())["round_count"], 3)
        now.write_text(json.dumps({"round_count": 5}))
        self.assertEqual(unit.read(Outcome(PASSED)).status, PASSED)


class BuiltTest(BundleStandIn):
    """The commands of the stages with the build's program: configs and tables still have the keys that they set."""

    maxDiff = None

    def test_a_trial_on_the_cpu(self) -> None:
        build = os.environ.get("REVERIE_BUILD_DIR")
        if not build or not (Path(build) / "reverie").is_file():
            self.skipTest("REVERIE_BUILD_DIR names no build with the program")
        text = Path(os.environ.get("REVERIE_DATA", "/nowhere")) / "tinyshakespeare" / "input.txt"
        if not text.is_file():
            self.skipTest("REVERIE_DATA names no folder with tinyshakespeare/input.txt")
        bundle = self.make("x")
        bundle.program.unlink()
        bundle.program.symlink_to((Path(build) / "reverie").resolve())
        (bundle.root / "configs").symlink_to(SCRIPTS.parent / "configs")
        (bundle.root / "data").mkdir()
        (bundle.root / "data" / "tinyshakespeare").symlink_to(text.parent.resolve())
        status, said = self.start("--trial", "--minutes", "30", "--stage", "start", "--stage", "shakespeare", "--stage", "coprocessor")
        units = [unit for (stage, _), unit in self.summary().items() if stage in ("start", "shakespeare", "coprocessor")]
        self.assertEqual({unit["unit"]: unit["why"] for unit in units if unit["status"] != PASSED}, {})
        self.assertEqual(status, 0, said)
        self.assertIn("imm_as_published", {unit["unit"].removesuffix("_bf16") for unit in units})
        table = json.loads((self.results / "shakespeare" / "table.json").read_text())
        self.assertEqual({row["model"]: row["causal"] for row in table["rows"]}, {"gpt": True, "imm_as_published": False, "imm_causal_mean": True})


class ReportTest(unittest.TestCase):
    def test_the_name_and_what_the_build_reads(self) -> None:
        self.assertEqual(report.name_of_file("NVIDIA H100 80GB HBM3"), "gpu_nvidia_h100_80gb_hbm3")
        with tempfile.TemporaryDirectory() as folder:
            there = node.Node("cuda", True, False, "", {"gpu": "NVIDIA H100", "driver": "580"}, "", "", "", {})
            rows = [{"stage": "tests", "unit": room, "status": FAILED, "seconds": 1.0, "node": "NVIDIA H100", "why": "", "figures": {"passed": 5, "failed": 1, "skipped": 2}}
                    for room in ("kernels", "core")]
            found = report.record_for_docs(node.Bundle(Path(folder), {"commit": "0123abc"}), there, rows, Path(folder))
        self.assertEqual([found[key] for key in ("commit", "gpu", "driver", "passed", "failed", "skipped")], ["0123abc", "NVIDIA H100", "580", 10, 2, 4])


class ExpectGpuTest(unittest.TestCase):
    def test_a_skip_for_want_of_a_gpu_fails(self) -> None:
        suite = run_tests.Suite("kernels", passed=3, skipped=[["Parity.cuda", "device cuda: no GPU is usable here: no driver"], ["Cuda.Absent", "device cuda is usable here"],
                                                              ["Ranks.two", "wants two GPUs"], ["Data.x", "REVERIE_DATA is not set"],
                                                              ["Attention.bf16", "device cuda: CUDA 13.0 is built in, but no GPU was found"]])
        run_tests.expect_gpu(suite)
        self.assertEqual([test for test, _ in suite.failed], ["Parity.cuda", "Attention.bf16"])
        self.assertEqual([test for test, _ in suite.skipped], ["Cuda.Absent", "Ranks.two", "Data.x"])


@unittest.skipUnless(all(shutil.which(tool) for tool in ("c++", "strip", "readelf", "ldd")), "wants c++, strip, readelf and ldd")
class ContentsTest(FolderTest):
    """A bundle of a small build: a program with a library of its own."""

    def build(self, *link: str) -> Path:
        build = self.folder / "build"
        for folder in ("lib", "tests/benchmarks", "tests/core_plugins"):
            (build / folder).mkdir(parents=True, exist_ok=True)
        source, library = self.folder / "program.cpp", self.folder / "library.cpp"
        library.write_text('const char* version() { return "reverie 0.1.0 (0123abc)"; }\n')
        source.write_text('#include <iostream>\nconst char* version();\nint main() { std::cout << version() << std::endl; }\n')
        lib = build / "lib" / "libreverie_core.so.0.1"
        subprocess.run(["c++", "-g", "-shared", "-fPIC", "-Wl,-soname,libreverie_core.so.0.1", library, "-o", lib], check=True)
        shutil.copy(lib, build / "tests" / "core_plugins" / "gadget.so")
        for name in ("reverie", "tests/test_core", "tests/benchmarks/bench_kernels"):
            subprocess.run(["c++", "-g", source, lib, *link, "-o", build / name], check=True)
        compiler = build / "CMakeFiles" / "3.25.1" / "CMakeCUDACompiler.cmake"
        compiler.parent.mkdir(parents=True, exist_ok=True)
        compiler.write_text('set(CMAKE_CUDA_COMPILER_ID "NVIDIA")\nset(CMAKE_CUDA_COMPILER_VERSION "13.0.88")\n')
        return build

    PATHS = ("-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN:$ORIGIN/lib:$ORIGIN/../lib:$ORIGIN/../../lib")

    def make(self, build: Path, limit: int = 55_000_000) -> tuple[int, str]:
        text = self.folder / "tinyshakespeare" / "input.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text("To be.\n")
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            status = contents.main(["--build", str(build), "--out", str(self.folder / "out"), "--text", str(text), "--flavour", "on", "--arch", "90", "--limit", str(limit)])
        return status, out.getvalue()

    def test_it_runs_where_the_build_is_gone(self) -> None:
        build = self.build(*self.PATHS)
        status, said = self.make(build)
        self.assertEqual(status, 0, said)
        out = self.folder / "out"
        about = json.loads((out / "bundle.json").read_text())
        self.assertEqual((about["commit"], about["flavour"], about["arch"]), ("0123abc", "on", "90"))
        self.assertIn("libstdc++.so.6", about["libraries"])
        self.assertNotIn("libc.so.6", about["libraries"])
        self.assertEqual(sum(f.stat().st_size for f in out.rglob("*") if f.is_file() and f not in (out / "README.md", out / "bundle.json")), about["bytes"])
        self.assertLess((out / "program" / "reverie").stat().st_size, (build / "reverie").stat().st_size)
        shutil.rmtree(build)
        for name in ("reverie", "tests/test_core"):
            done = subprocess.run([out / "program" / name], capture_output=True, text=True, check=False, env={})
            self.assertEqual(done.stdout, "reverie 0.1.0 (0123abc)\n", done.stderr)
        for file in ("run", "scripts/gpu_run.py", "scripts/run_tests.py", "scripts/benchmarking/cuda/pytorch_worker.py", "scripts/reference_gpt.py",
                     "tests/golden/muon.safetensors", "kernels/attention.h", "configs/tables/imm_shakespeare.json", "data/tinyshakespeare/input.txt"):
            self.assertTrue((out / file).is_file(), file)
        self.assertFalse(list(out.rglob("__pycache__")))
        page = (out / "README.md").read_text()
        self.assertIn("oneDNN (40 MB", page)
        for told in (page, (out / "run").read_text()):
            self.assertIn("A GPU needs an NVIDIA driver of version 580 or newer: the CUDA runtime of 13.0 is built in", told)
        with mock.patch.object(run_tests, "ROOT", out):
            self.assertEqual(run_tests.find_suites(["core"], ["gtest"], out / "program"), [("gtest", "core", Path("tests/test_core"))])
            self.assertEqual(run_tests.find_suites(["kernels"], ["gtest"], out / "program"), [])
        started = subprocess.run([out / "run", "--help"], capture_output=True, text=True, check=False)
        self.assertIn("--minutes", started.stdout, started.stderr)
        self.assertIn("driver of version 580 or newer", started.stdout)

    def test_paths_of_the_build_machine_are_refused(self) -> None:
        status, said = self.make(self.build(f"-Wl,-rpath,{self.folder}/build/lib"))
        self.assertEqual(status, 1)
        self.assertIn("wanted paths that begin with $ORIGIN", said)

    def test_a_bundle_over_the_limit_is_refused(self) -> None:
        status, said = self.make(self.build(*self.PATHS), limit=1000)
        self.assertEqual(status, 1)
        self.assertIn("wanted at most 1000", said)

    def test_a_build_that_lacks_tests_is_refused(self) -> None:
        build = self.build(*self.PATHS)
        (build / "tests" / "test_core").unlink()
        self.assertIn("has no tests/test_*: build all of it", self.make(build)[1])


class ScriptTest(unittest.TestCase):
    def test_wrong_usage_is_refused_before_anything_is_built(self) -> None:
        for arguments, told in ((["--arch", "70"], "kernels want 80 or more"), (["--arch", "sm_90"], "wanted compute capabilities"), (["--flavour", "off"], "wanted on or emulated"),
                                (["--with", "gpt4"], "known is gemma3"), (["--out", str(SCRIPTS)], "holds something that is no bundle"), (["--jobs", "0"], "positive number")):
            done = subprocess.run([SCRIPTS / "gpu_bundle.sh", *arguments], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(told, done.stderr)


if __name__ == "__main__":
    unittest.main()
