"""The GPU's part of bench.py without a GPU: what is counted, how rounds become rows, aims and pages, what is refused, and a trial of the whole."""

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from array import array
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench  # noqa: E402
from benchmarking.programs import ProgramError  # noqa: E402
from benchmarking.pytorch import Worker  # noqa: E402
from benchmarking.cuda import driver, kernels, machine, report, works  # noqa: E402


def folder_of(test: unittest.TestCase) -> Path:
    temporary = tempfile.TemporaryDirectory()
    test.addCleanup(temporary.cleanup)
    return Path(temporary.name)


class WorksTest(unittest.TestCase):
    def test_operations_of_a_token(self) -> None:
        # By hand: 124,337,664 parameters, of which 1024 x 768 are positions.
        self.assertEqual(works.GPT2.parameters, 124_337_664)
        self.assertEqual(works.flops_per_token(works.GPT2), 6 * 123_551_232 + 12 * 12 * 1024 * 768)
        self.assertEqual(set(works.TINY), set(works.WORKS))
        self.assertEqual(set(driver.EFFORTS), set(works.WORKS))

    def test_tokens_are_those_of_a_language(self) -> None:
        folder = folder_of(self)
        work = works.TINY["gpt2"]
        data = works.write_tokens(folder / "a", work, 20_000)
        works.write_tokens(folder / "b", work, 20_000)
        self.assertEqual(data, {"path": str(folder / "a"), "vocabulary_size": work.vocabulary})
        self.assertEqual((folder / "a" / "train.bin").read_bytes(), (folder / "b" / "train.bin").read_bytes())
        tokens = array("H")
        tokens.frombytes((folder / "a" / "train.bin").read_bytes())
        self.assertEqual(len(tokens), 20_000)
        self.assertLess(max(tokens), work.vocabulary)
        self.assertEqual((folder / "a" / "val.bin").stat().st_size, 2 * 2_000)
        counts = Counter(tokens)
        self.assertGreater(counts[0], 3 * counts[20])
        self.assertGreater(len(counts), 200)


class MachineTest(unittest.TestCase):
    def test_peaks_by_name(self) -> None:
        peaks = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H100 PCIe": 756.0, "NVIDIA H100 NVL": 835.0, "NVIDIA H200": 989.0, "NVIDIA A100-SXM4-40GB": 312.0,
                 "NVIDIA Something New": None}
        self.assertEqual({name: machine.peak_tflops(name, "bf16") for name in peaks}, peaks)
        self.assertEqual(machine.peak_tflops("NVIDIA A100 80GB PCIe", "f32"), 19.5)

    def test_reads_nvidia_smi(self) -> None:
        found = machine.read_query("NVIDIA H100 80GB HBM3, 580.65, 81559, 700.00, 1980, 0, 31")
        self.assertEqual(found, {"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.65", "memory_mib": 81559.0, "power_limit_watts": 700.0, "most_mhz": 1980.0,
                                 "busy_percent": 0.0, "celsius": 31.0})
        self.assertIsNone(machine.read_query("GPU, 1, [N/A], 2, 3, 4, 5")["memory_mib"])

    def smi(self, body: str) -> dict:
        folder = folder_of(self)
        file = folder / "nvidia-smi"
        file.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        file.chmod(0o755)
        with mock.patch.dict(os.environ, {"PATH": str(folder), "CUDA_VISIBLE_DEVICES": "3,1"}):
            return machine.query_gpu()

    def test_the_gpu_that_programs_see_is_asked_for(self) -> None:
        self.assertEqual(self.smi("print(f'GPU {sys.argv[-1]}, 1, 2, 3, 4, 5, 6')")["gpu"], "GPU 3")
        with self.assertRaisesRegex(ProgramError, r"(?s)finds no GPU \(no devices\).*--tiny --device cpu"):
            self.smi("sys.exit('no devices')")
        with mock.patch.dict(os.environ, {"PATH": "/nowhere"}), self.assertRaisesRegex(ProgramError, "no GPU here"):
            machine.query_gpu()


def kernel_round(copy: float, gb: float, tflops: float) -> dict:
    return {"ceilings": {"copy_gb_per_second": copy, "gemm_f32_tflops": 50.0, "gemm_bf16_tflops": 800.0},
            "memory": [{"kernel": "adamw", "case": "f32[8]", "bytes": 100.0, "ms": 1.0, "gb_per_second": gb}],
            "products": [{"product": "up forward", "size": "1x2x3", "precision": "f32", "ms": 1.0, "tflops": 25.0}],
            "attention": [{"pass": p, "context": t, "head_size": 64, "heads": 12, "batch": 1, "precision": "bf16", "ms": 1.0, "tflops": tflops}
                          for p in ("forward", "backward") for t in (512, 1024)]}


class KernelsTest(unittest.TestCase):
    def test_shares_are_of_the_same_round(self) -> None:
        found = kernels.merged([kernel_round(2000, 1800, 400), kernel_round(4000, 1800, 480), kernel_round(3000, 2400, 600)])
        self.assertEqual(found["ceilings"]["copy_gb_per_second"], 3000)
        self.assertEqual(found["memory"][0]["shares"], [0.9, 0.45, 0.8])
        self.assertEqual((found["memory"][0]["share"], found["memory"][0]["gb_per_second"]), (0.8, 1800))
        self.assertEqual(found["products"][0]["share"], 0.5)
        self.assertEqual(found["attention"][1]["share"], 0.6)

    def test_the_faster_product_is_the_ceiling(self) -> None:
        ours = {"gemm_bf16_tflops": 400.0, "gemm_f32_tflops": 50.0}
        self.assertEqual(kernels.gemm_rate(ours, "bf16"), 400.0)
        self.assertEqual(kernels.gemm_rate(ours | {"pytorch_gemm_bf16_tflops": 700.0}, "bf16"), 700.0)
        self.assertEqual(kernels.gemm_rate(ours | {"pytorch_gemm_f32_tflops": 45.0}, "f32"), 50.0)
        rounds = [kernel_round(1000, 900, 300), kernel_round(1000, 900, 300)]
        for r in rounds:
            r["ceilings"]["pytorch_gemm_bf16_tflops"] = 1000.0
        found = kernels.merged(rounds)
        self.assertEqual((found["attention"][0]["share"], found["products"][0]["share"]), (0.3, 0.5))

    def test_rounds_of_different_things_are_refused(self) -> None:
        other = kernel_round(1, 1, 1)
        other["memory"][0]["case"] = "f32[9]"
        with self.assertRaisesRegex(ValueError, "different things"):
            kernels.merged([kernel_round(1, 1, 1), other])

    def test_a_missing_program_says_how_to_build_it(self) -> None:
        with self.assertRaisesRegex(ProgramError, "--preset cuda --target bench_kernels"):
            kernels.Kernels(Path("/nowhere"), "cuda", False, 1, "cuda")


def rounds_of(*ms: float) -> list[dict]:
    return [{"ms": value} for value in ms]


class RowsTest(unittest.TestCase):
    def row(self, ours: list[dict], theirs: list[dict], peak: float | None = 989.0) -> dict:
        return report.build_row(works.GPT2, "bf16", {"reverie": ours, "pytorch": theirs}, 800.0, peak)

    def test_medians_and_utilisation(self) -> None:
        row = self.row(rounds_of(20.0, 40.0, 25.0), rounds_of(30.0, 36.0, 35.0))
        self.assertEqual((row["reverie"]["ms"], row["pytorch"]["ms"]), (25.0, 35.0))
        self.assertAlmostEqual(row["ratio"], 1.4)  # of 1.5, 0.9 and 1.4
        self.assertAlmostEqual(row["reverie"]["tokens_per_second"], 16 * 1024 / 0.025)
        tflops = 854_553_600 * 16 * 1024 / 0.025 * 1e-12
        self.assertAlmostEqual(row["reverie"]["utilisation"], tflops / 989)
        self.assertAlmostEqual(row["reverie"]["share_of_gemm_rate"], tflops / 800)

    def test_what_is_not_known_is_not_told(self) -> None:
        row = self.row(rounds_of(20.0), [], None)
        self.assertNotIn("pytorch", row)
        self.assertIsNone(row["ratio"])
        self.assertIsNone(row["reverie"]["utilisation"])

    def result(self, ours: float, theirs: float, copy_share: float, attention_tflops: float) -> dict:
        merged = kernels.merged([kernel_round(1000.0, 1000.0 * copy_share, attention_tflops)])
        return merged | {"rows": [self.row(rounds_of(ours), rounds_of(theirs))]}

    def met(self, *figures: float) -> list:
        return [a["met"] for a in report.aims(self.result(*figures))]

    def test_aims(self) -> None:
        # ratio, utilisation (at 28.3 ms a step 50 %), memory, attention in bf16; none is measured in f32.
        self.assertEqual(self.met(20.0, 24.0, 0.9, 500.0), [True, True, True, True, None])
        self.assertEqual(self.met(20.0, 19.0, 0.9, 500.0), [False, True, True, True, None])
        self.assertEqual(self.met(29.0, 40.0, 0.84, 470.0), [True, False, False, False, None])
        told = [a["told"] for a in report.aims(self.result(20.0, 24.0, 0.84, 500.0))]
        self.assertEqual(told[0], "1.20, the second too")
        self.assertEqual(told[2], "0 of 1; lowest 84 % (adamw, f32[8])")
        self.assertEqual(told[3], "2 of 2; lowest 62 % (forward, T 1024, heads of 64)")  # shorter contexts do not count
        without = report.aims({"rows": [self.row(rounds_of(20.0), [], None)]})
        self.assertEqual([a["met"] for a in without], [None, None])

    def page(self, **more: object) -> str:
        result = self.result(20.0, 24.0, 0.9, 500.0) | {
            "trial": False, "flavour": "gpu", "commit": "abc", "gpu": "NVIDIA H100 80GB HBM3", "driver": "580.65", "cuda": "13.0", "threads": 16,
            "gpu_info": machine.read_query("NVIDIA H100 80GB HBM3, 580.65, 81559, 700.00, 1980, 0, 31"), "command": "scripts/bench.py --device cuda --json x",
            "round_count": 5, "left_out": [{"what": "PyTorch on gpt2 in f32", "why": "no memory"}],
            "pytorch": {"version": "2.15", "cuda": "13.2", "device": "NVIDIA H100 80GB HBM3"},
            "machine": {"cpu": "Some CPU", "cores": 16, "memory_bytes": 128 << 30, "system": "Linux", "others_cpu_share_median": 0.0, "reverie": {"cuda": "32 of 32"}},
        } | more
        result["aims"] = report.aims(result)
        return report.markdown(result)

    def test_a_page_says_what_and_where(self) -> None:
        text = self.page()
        for words in ("NVIDIA H100 80GB HBM3, 81,559 MiB, driver 580.65, CUDA 13.0", "commit `abc`", "PyTorch 2.15 (CUDA 13.2)", "`scripts/bench.py --device cuda --json x`",
                      "**819,200**", "**1.20**", "**90.0 %**", "PyTorch on gpt2 in f32 is left out: no memory", "bf16: 989.0 TFLOP/s", "copied at 1,000 GB/s"):
            self.assertIn(words, text)
        self.assertNotIn("trial", text)
        for block in text.split("\n\n"):
            if block.startswith("|"):
                self.assertEqual(len({line.count("|") for line in block.splitlines()}), 1, block)

    def test_a_trial_says_so_first(self) -> None:
        text = self.page(trial=True, flavour="cpu", gpu_info={}, pytorch=None)
        self.assertIn("**A trial of the script at tiny sizes on `cpu`", text.split("\n\n")[1])
        self.assertNotIn("driver", text)


class CommandLineTest(unittest.TestCase):
    def refuse(self, *arguments: str) -> str:
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as end:
            bench.parse(["--device", "cuda", *arguments])
        self.assertEqual(end.exception.code, 2)
        return said.getvalue()

    def test_wrong_usage(self) -> None:
        self.assertIn("invalid choice: 'small' (of device cuda", self.refuse("--json", "x", "--work", "small"))
        self.assertIn("--threads is for measurements on the CPU", self.refuse("--json", "x", "--threads", "2"))
        self.assertIn("--rounds is 0", self.refuse("--json", "x", "--rounds", "0"))
        self.assertIn("got both --pytorch and --no-pytorch", self.refuse("--json", "x", "--pytorch", "p", "--no-pytorch"))
        self.assertIn("there is no folder", self.refuse("--json", "/nowhere/x"))
        self.assertIn("--json", self.refuse())

    def test_a_trial_is_no_result(self) -> None:
        inside = SCRIPTS.parent / "docs" / "results" / "gpu_trial.json"
        self.assertIn("does not go to docs/results", self.refuse("--tiny", "--json", str(inside)))
        self.assertIn("does not go to docs/results", self.refuse("--tiny", "--json", "x", "--markdown", str(inside.with_suffix(".md"))))
        self.assertEqual(bench.parse(["--device", "cuda", "--json", str(inside)]).rounds, 5)

    def test_works_by_name(self) -> None:
        options = bench.parse(["--device", "cuda", "--json", "x", "--work", "gpt2", "kernels", "--batch", "3"])
        self.assertEqual(driver.works_of(options), [replace(works.GPT2, batch=3)])
        self.assertEqual([w.name for w in driver.works_of(bench.parse(["--device", "cuda", "--json", "x", "--tiny"]))], ["gpt2", "shakespeare"])

    def test_without_a_gpu_nothing_is_measured(self) -> None:
        file = folder_of(self) / "x.json"
        with mock.patch.dict(os.environ, {"PATH": "/nowhere"}), contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(bench.main(["--device", "cuda", "--json", str(file)]), 1)
        self.assertIn("no GPU here", said.getvalue())
        self.assertFalse(file.exists())

    def test_emulated_kernels_are_measured_in_a_trial_alone(self) -> None:
        about = {"cuda": "32 of 32 kernels in this build; emulated: kernels run on the CPU"}
        with self.assertRaisesRegex(ProgramError, "wanted a build of the preset cuda"):
            driver.flavour_of(bench.parse(["--device", "cuda", "--json", "x"]), about)
        self.assertEqual(driver.flavour_of(bench.parse(["--device", "cuda", "--json", "x", "--tiny"]), about), "emulated")
        self.assertEqual(driver.flavour_of(bench.parse(["--device", "cuda", "--json", "x"]), {"cuda": "32 of 32 kernels in this build; NVIDIA H100"}), "gpu")


class StandInsTest(unittest.TestCase):
    """A whole run that believes it has a GPU: the programs are stand-ins that say what they were asked."""

    REVERIE = """
import json, pathlib, sys
arguments = sys.argv[1:]
if arguments == ["doctor"]:
    print("cpu kernels  avx2\\ncuda         32 of 32 kernels in this build; NVIDIA H100 80GB HBM3, 79.2 GiB")
elif arguments == ["--version"]:
    print("reverie 0.1.0 (0123abc)")
elif arguments[0] == "plan":
    print(json.dumps({"peak_bytes": 1}))
else:
    config = json.loads(pathlib.Path(arguments[1]).read_text())
    assert ["--set", "device=cuda", "--set", "train.precision=bf16"] == arguments[-4:], arguments
    assert config["data"]["vocabulary_size"] == 50257 and config["model"]["block_size"] == 1024 and config["train"]["batch_size"] == 4, config
    assert len((pathlib.Path(config["data"]["path"]) / "train.bin").read_bytes()) == 2 << 20
    folder = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
    folder.mkdir()
    count = int(arguments[arguments.index("--stop-after") + 1])
    lines = [{"event": "train", "step": i, "loss": 4.0, "seconds": 1 + i * 0.02} for i in range(1, count + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
"""

    def stand_in(self, file: Path, body: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!{sys.executable}\n{body}\n")
        file.chmod(0o755)

    def test_a_run_with_a_gpu(self) -> None:
        folder = folder_of(self)
        self.stand_in(folder / "bin" / "nvidia-smi", "print('NVIDIA H100 80GB HBM3, 580.65, 81559, 700.00, 1980, 0, 31')")
        self.stand_in(folder / "reverie", self.REVERIE)
        self.stand_in(folder / "tests" / "benchmarks" / "bench_kernels",
                      f"import sys\nassert sys.argv[1:] == ['--device', 'cuda', '--seconds', '0.1'], sys.argv\nprint({json.dumps(kernel_round(3000, 2700, 500))!r})")
        arguments = ["--work", "gpt2", "kernels", "--no-pytorch", "--batch", "4", "--rounds", "2", "--reverie", str(folder / "reverie"), "--json", str(folder / "x.json"),
                     "--markdown", str(folder / "x.md")]
        with mock.patch.dict(os.environ, {"PATH": str(folder / "bin")}), mock.patch.object(driver, "SETTLE_SECONDS", 0), \
                contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(bench.main(["--device", "cuda", *arguments]), 0, said.getvalue())
        result = json.loads((folder / "x.json").read_text())
        self.assertEqual((result["gpu"], result["driver"], result["commit"], result["trial"], result["flavour"]), ("NVIDIA H100 80GB HBM3", "580.65", "0123abc", False, "gpu"))
        row = result["rows"][0]
        self.assertAlmostEqual(row["reverie"]["tokens_per_second"], 4 * 1024 / 0.02, places=3)
        self.assertAlmostEqual(row["reverie"]["utilisation"], 854_553_600 * 4 * 1024 / 0.02 / 989e12)
        self.assertAlmostEqual(row["reverie"]["share_of_gemm_rate"], 854_553_600 * 4 * 1024 / 0.02 / 800e12)
        self.assertEqual([a["met"] for a in result["aims"]], [None, False, True, True, None])
        page = (folder / "x.md").read_text()
        self.assertIn("| gpt2 bf16: model-FLOP utilisation (the aim is for an H100) | above 50 % | 17.7 % | **no** |", page)
        self.assertNotIn("trial", page)

    def kernels_alone(self, folder: Path, body: str, *more: str) -> tuple[int, dict]:
        self.stand_in(folder / "bin" / "nvidia-smi", "print('NVIDIA H100 80GB HBM3, 580.65, 81559, 700.00, 1980, 0, 31')")
        self.stand_in(folder / "reverie", self.REVERIE)
        self.stand_in(folder / "tests" / "benchmarks" / "bench_kernels", f"{body}\nprint({json.dumps(kernel_round(3000, 2700, 500))!r})")
        arguments = ["--device", "cuda", "--work", "kernels", "--no-pytorch", "--rounds", "3", "--reverie", str(folder / "reverie"), "--json", str(folder / "x.json"), *more]
        with mock.patch.dict(os.environ, {"PATH": str(folder / "bin")}), mock.patch.object(driver, "SETTLE_SECONDS", 0), \
                contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = bench.main(arguments)
        return status, json.loads((folder / "x.json").read_text())

    def test_no_round_begins_that_has_no_time(self) -> None:
        status, result = self.kernels_alone(folder_of(self), "", "--seconds", "0.001")
        self.assertEqual((status, result["round_count"], len(result["ceiling_rounds"])), (0, 1, 1))
        self.assertEqual(self.kernels_alone(folder_of(self), "", "--seconds", "1000")[1]["round_count"], 3)

    def test_each_round_is_saved(self) -> None:
        folder = folder_of(self)
        mark = folder / "mark"
        status, result = self.kernels_alone(folder, f"import os, sys\nif os.path.exists({str(mark)!r}): sys.exit('the second round fails')\nopen({str(mark)!r}, 'w')")
        self.assertEqual((status, result["round_count"], result["memory"][0]["share"]), (1, 1, 0.9))


class BuiltTest(unittest.TestCase):
    """What runs the build's programs."""

    def setUp(self) -> None:
        build = os.environ.get("REVERIE_BUILD_DIR")
        if not build:
            self.skipTest("REVERIE_BUILD_DIR is not set")
        self.build = Path(build).resolve()
        self.program = self.build / "tests" / "benchmarks" / "bench_kernels"
        if not self.program.is_file():
            self.skipTest("bench_kernels was not built")

    def kernels(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.program, "--seconds", "0.001", *arguments], capture_output=True, text=True, check=False)

    def check_round(self, done: subprocess.CompletedProcess) -> dict:
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        merged = kernels.merged([found, found])
        self.assertEqual({row["kernel"] for row in merged["memory"]},
                         {"norm_forward", "norm_backward", "softmax_forward", "softmax_backward", "cross_entropy_forward", "cross_entropy_backward", "unary_forward",
                          "unary_backward", "binary_forward", "bias_activation_forward", "bias_activation_backward", "gated_forward", "gated_backward", "dropout", "cast",
                          "sum_forward", "embedding_forward", "embedding_backward", "adamw", "sum_squares", "accumulate", "widen_rows", "matmul"})
        self.assertEqual({(row["pass"], row["precision"]) for row in merged["attention"]}, {(p, x) for p in ("forward", "backward") for x in ("f32", "bf16")})
        for part in kernels.PARTS:
            for row in merged[part]:
                self.assertGreater(row["share"], 0, row)
        return found

    def test_kernels_on_the_cpu(self) -> None:
        found = self.check_round(self.kernels("--tiny", "--device", "cpu"))
        self.assertEqual(found["flavour"], "cpu")
        adamw = next(row for row in found["memory"] if row["kernel"] == "adamw")
        self.assertEqual(adamw["bytes"], 7 * 4 * 1000)  # four are read, three written
        large = self.kernels("--device", "cpu")
        self.assertEqual(large.returncode, 2)
        self.assertIn("--tiny has some for the CPU", large.stderr)

    def test_kernels_on_device_cuda(self) -> None:
        doctor = subprocess.run([self.build / "reverie", "doctor"], capture_output=True, text=True, check=True).stdout
        done = self.kernels("--tiny")
        if "this build has no CUDA" in doctor or "no GPU is usable here" in doctor:
            self.assertEqual(done.returncode, 2)
            self.assertIn("use --device cpu", done.stderr)
            return
        flavour = "emulated" if "emulated: kernels run on the CPU" in doctor else "gpu"
        self.assertEqual(self.check_round(done)["flavour"], flavour)
        if flavour == "emulated":
            self.assertIn("--tiny has some for the emulation", self.kernels().stderr)

    def test_a_trial_of_the_whole_script(self) -> None:
        folder = folder_of(self)
        done = subprocess.run([sys.executable, SCRIPTS / "bench.py", "--tiny", "--device", "cpu", "--no-pytorch", "--precision", "bf16", "f32", "--reverie",
                               self.build / "reverie", "--json", folder / "x.json", "--markdown", folder / "x.md"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads((folder / "x.json").read_text())
        self.assertTrue(result["trial"])
        self.assertEqual([(r["work"], r["precision"]) for r in result["rows"]], [(w, p) for w in works.TINY for p in ("bf16", "f32")])
        self.assertEqual([len(r["detail"]["reverie"][0]["steps_ms"]) for r in result["rows"]], [driver.TINY_EFFORT.steps] * 4)
        self.assertEqual({a["met"] for a in result["aims"]}, {None})
        self.assertIn("**A trial of the script", (folder / "x.md").read_text())


class TwinTest(unittest.TestCase):
    def test_the_twin_trains(self) -> None:
        if not importlib.util.find_spec("torch"):
            self.skipTest("this Python has no torch")
        folder, work = folder_of(self), works.TINY["shakespeare"]
        works.write_tokens(folder / "tokens", work)
        start = {"work": asdict(work), "mode": "compiled", "tokens": str(folder / "tokens" / "train.bin"), "device": "cpu", "threads": 1}
        worker = Worker(Path(sys.executable), driver.WORKER, start, dict(os.environ), folder / "log")
        self.addCleanup(worker.close)
        self.assertEqual(worker.about["parameters"], work.parameters)
        answers = [worker.steps("bf16", 0, 20) for _ in range(2)]
        self.assertLess(answers[1]["loss"], answers[0]["loss"])
        self.assertGreater(answers[0]["ms"], 0)
        self.assertGreater(worker.ask({"product": {"precision": "bf16", "size": 16, "count": 2}})["tflops"], 0)


if __name__ == "__main__":
    unittest.main()
