"""The CPU's part of bench.py where nothing is measured: what is counted, how rounds become rows and pages, what is refused."""

import contextlib
import importlib.util
import io
import json
import os
import struct
import sys
import tempfile
import time
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench  # noqa: E402
from benchmarking import machine, programs, tables  # noqa: E402
from benchmarking.pytorch import PyTorchError, Worker  # noqa: E402
from benchmarking.cpu import benchmarks, decoding, driver, gate, latents, memories, pytorch, random_gpt2, report, shapes, stored, sweeps, tokenization  # noqa: E402


def rounds_of(*ms: float, **more: float) -> list[dict]:
    return [{"ms": value, **more} for value in ms]


def reverie_rounds(*ms: float) -> list[dict]:
    return rounds_of(*ms, start_to_first_step_ms=700.0, max_rss_bytes=100)


def bound_rounds(*ms: float) -> list[dict]:
    return rounds_of(*ms, bound_causal_ms=9.0, gflops=200.0)


class GateTest(unittest.TestCase):
    PROGRAM = """#!/bin/sh
work() { i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; }
[ "$1" = train ] || exit 9
echo "causality   causal, probed in 0.3 s"
echo "step 1/2  50 %  loss 4.2"
work
echo "step 1: train 4.1  val 4.2  val prefix-only 4.2"
echo "step 2/2  100 %  loss 4.1"
echo "step 2/2  100 %  loss 4.1  val 4.2"
work
"""

    def test_a_run_is_split_into_its_parts(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "reverie"
            program.write_text(self.PROGRAM)
            program.chmod(0o755)
            figures = gate.one_run(program, {"evaluation": {"interval": 1}}, 1, Path(folder))
            self.assertLessEqual(set(gate.FIGURES), set(figures))
            self.assertEqual(figures["gate_seconds_by_the_clock"], 0.3)
            self.assertLessEqual(figures["start"], figures["first_step"])
            self.assertGreater(figures["evaluation"], 0)
            self.assertGreater(figures["end"], 0)
            program.write_text("#!/bin/sh\necho no model >&2\nexit 3\n")
            with self.assertRaisesRegex(programs.ProgramError, "status 3.*\n.*no model"):
                gate.one_run(program, {}, 1, Path(folder))

    def test_a_table_shows_both_builds_and_their_quotient(self) -> None:
        after = {"start": 2.0, "first_step": 3.0, "evaluation": 1.0, "end": 0.5, "peak_bytes": 1 << 30}
        text = report.gate_table([{"model": "baby", "before": {k: 4 * v for k, v in after.items()}, "after": after}])
        self.assertIn("| baby | 8.00 → **2.00** (4.0) | 12.00 → **3.00** (4.0) |", text)
        self.assertIn("4.0 GiB → 1.0 GiB", text)
        self.assertIn("| small | **2.00** |", report.gate_table([{"model": "small", "after": after}]))


class ShapesTest(unittest.TestCase):
    def test_parameters_are_those_of_the_models(self) -> None:
        self.assertEqual(shapes.SMALL.parameters, 804_096)  # as `reverie plan` says
        self.assertEqual(shapes.BABY.parameters, 10_745_088)

    def test_products_count_six_operations_a_weight_and_token(self) -> None:
        for work in shapes.WORKS.values():
            weights = work.layers * 12 * work.width**2 + work.vocabulary * work.width
            counted = sum(g.count * g.gflop for g in shapes.step_gemms(work))
            self.assertAlmostEqual(counted, 6e-9 * weights * work.tokens, places=9)

    def test_every_product_has_its_shape_and_layout(self) -> None:
        found = {g.name: g for g in shapes.step_gemms(shapes.SMALL)}
        self.assertEqual(len(found), 15)
        self.assertEqual(found["qkv forward"].choices, ("nn:768x384x128",))
        self.assertEqual(found["qkv grad input"].choices, ("nt:768x128x384",))
        self.assertEqual(found["qkv grad weight"].choices, ("tn:128x384x768",))
        self.assertEqual(found["qkv forward"].count, 4)
        self.assertEqual(found["head forward"].choices, ("nt:768x65x128", "nt:768x80x128", "nt:768x128x128"))
        self.assertEqual(found["head grad input"].choices, ("nn:768x128x65", "nn:768x128x80", "nn:768x128x128"))
        self.assertEqual(found["head grad weight"].choices, ("tn:65x128x768", "tn:80x128x768", "tn:128x128x768"))
        self.assertEqual(found["head forward"].count, 1)

    def test_padding_repeats_nothing(self) -> None:
        self.assertEqual(shapes.padded(64), [64])
        self.assertEqual(shapes.padded(50257), [50257, 50272, 50304])

    def test_attention_counts_six_products(self) -> None:
        work = shapes.Work("w", batch=2, context=8, layers=3, heads=2, width=16)
        # By hand: 6 products of 2 T T D operations a head, layer and sequence.
        self.assertAlmostEqual(shapes.attention_gflop(work, causal=False), 6 * 2 * 8 * 8 * 8 * 2 * 3 * 2 * 1e-9)
        pairs = sum(row + 1 for row in range(8))
        self.assertAlmostEqual(shapes.attention_gflop(work, causal=True), 6 * 2 * pairs * 8 * 2 * 3 * 2 * 1e-9)

    def test_bound_takes_the_best_choice_and_its_rate(self) -> None:
        work = shapes.SMALL
        ms = dict.fromkeys(shapes.products_to_time(work), 0.25)
        ms["nt:768x65x128"], ms["nt:768x80x128"] = 9.0, 0.125  # padding pays
        bound = shapes.step_bound(work, ms)
        linear = 12 * 4 * 0.25 + 0.125 + 2 * 0.25
        self.assertAlmostEqual(bound["linear_ms"], linear)
        products = sum(g.count * g.gflop for g in shapes.step_gemms(work))
        attention = shapes.attention_gflop(work, causal=False)
        self.assertAlmostEqual(bound["bound_ms"], linear * (1 + attention / products))
        self.assertAlmostEqual(bound["gflops"], 1e3 * products / linear)
        self.assertLess(bound["bound_causal_ms"], bound["bound_ms"])
        self.assertGreater(bound["bound_causal_ms"], bound["linear_ms"])

    def test_least_bytes(self) -> None:
        work = shapes.Work("w", batch=1, context=2, layers=1, heads=1, width=4, vocabulary=3)
        parameters = (3 + 2) * 4 + (12 * 16 + 8) + 4
        self.assertEqual(work.parameters, parameters)
        self.assertEqual(shapes.least_bytes(work), 4 * (10 * parameters + 2 * 10 * 4 * 2))
        self.assertEqual(shapes.least_memory(work), 4 * (4 * parameters + 10 * 4 * 2))


class RowsTest(unittest.TestCase):
    def rounds(self) -> dict:
        return {"reverie": reverie_rounds(24.0, 20.0, 90.0), "bound": bound_rounds(10.0, 11.0, 10.0),
                "eager": rounds_of(41.0, 40.0, 39.0), "compiled": rounds_of(30.0, 50.0, 60.0)}

    def test_medians_and_the_better_mode(self) -> None:
        row = report.build_row("small", "f32", 768, self.rounds())
        self.assertEqual((row["reverie_ms"], row["bound_ms"]), (24.0, 10.0))
        # compiled has the best single round, eager the better median.
        self.assertEqual((row["pytorch_mode"], row["pytorch_ms"], row["compiled_ms"]), ("eager", 40.0, 50.0))
        self.assertAlmostEqual(row["ratio"], 40 / 24)
        self.assertAlmostEqual(row["reverie_over_bound"], 2.4)
        self.assertAlmostEqual(row["tokens_per_second"], 32_000)
        self.assertEqual(row["rounds"]["reverie"], [24.0, 20.0, 90.0])
        for key in ("work", "precision", "reverie_ms", "pytorch_ms", "pytorch_mode", "bound_ms", "ratio"):
            self.assertIn(key, row)

    def test_a_mode_that_failed_does_not_count(self) -> None:
        row = report.build_row("small", "f32", 768, self.rounds() | {"eager": []})
        self.assertEqual((row["pytorch_mode"], row["eager_ms"]), ("compiled", None))
        with self.assertRaisesRegex(ValueError, "small bf16: PyTorch ran in no mode"):
            report.build_row("small", "bf16", 768, {"reverie": reverie_rounds(1.0), "bound": bound_rounds(1.0), "eager": []})

    def test_median_of_nothing_is_refused(self) -> None:
        self.assertEqual(tables.median([4, 1, 2, 3]), 2.5)
        with self.assertRaises(ValueError):
            tables.median([])

    def test_durations(self) -> None:
        self.assertEqual([tables.duration(x) for x in (7.123, 38.71, 238.7, 5481, None)], ["7.12 ms", "38.7 ms", "239 ms", "5.48 s", "–"])


class PageTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def result(self) -> dict:
        rounds = {"reverie": reverie_rounds(20.0), "bound": bound_rounds(16.0), "eager": rounds_of(40.0), "compiled": rounds_of(42.0)}
        return {
            "rows": [report.build_row("small", "f32", 768, rounds)],
            "left_out": [{"work": "small", "precision": "bf16", "why": "this build of Reverie has no bf16"}],
            "machine": {"cpu": "Some CPU", "cores": 2, "memory_bytes": 24 << 30, "system": "Linux", "instructions": ["avx2"], "threads": 2,
                        "reverie": {"kernels": "avx2 in use", "matmul": "oneDNN 2.6.3"}, "others_cpu_share_median": 0.2,
                        "others_cpu_share_max": 0.3, "quiet": False,
                        "pytorch": {"version": "2.15", "matmul": "oneDNN 3", "cpu_capability": "AVX2", "environment": {"MALLOC_TOP_PAD_": "1"}}},
            "commit": "abc", "command": "scripts/bench.py --work small", "round_count": 5,
        }

    def test_tables_say_what_and_where(self) -> None:
        text = report.markdown(self.result())
        self.assertIn("| small | f32 | **20.0 ms** | 40.0 ms | eager | 16.0 ms | **2.00** | 1.25 | 38,400 |", text)
        for words in ("commit `abc`", "Some CPU, 2 cores, 24.0 GiB", "`scripts/bench.py --work small`", "PyTorch 2.15", "MALLOC_TOP_PAD_=1",
                      "20.0 %", "**not a quiet machine**", "small bf16 is left out: this build of Reverie has no bf16"):
            self.assertIn(words, text)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(len({line.count("|") for line in lines}), 1)

    def test_growth_compares_with_the_row_before_of_the_same_axis(self) -> None:
        point = {"parameters": 1000, "flop_bound_ms": 5.0, "byte_bound_ms": 8.0, "gflops": 100.0, "max_rss_bytes": 3 << 20, "least_memory_bytes": 1 << 20}
        points = [point | {"axis": axis, "value": value, "ms": ms, "gflop": ms, "planned_peak_bytes": size << 20}
                  for axis, value, ms, size in (("batch", 3, 10.0, 2), ("batch", 12, 30.0, 6), ("width", 64, 12.0, 4))]
        rows = report.growth_table(points).splitlines()[2:]
        self.assertTrue(rows[0].startswith("| batch | 3 | 1,000 | 10.0 ms | 5.00 ms | 8.00 ms | 1.25 | 100 | – | – | 2 MiB | 3 MiB |"), rows[0])
        self.assertIn("| 3.00 | 3.00 | 6 MiB |", rows[1])
        self.assertTrue(rows[1].endswith("| 3.00 |"))
        self.assertIn("| – | – | 4 MiB |", rows[2])

    def test_attention_rows(self) -> None:
        context = {"context": 64, "forward_ms": 1.0, "backward_ms": 2.0, "us_per_token": 0.75, "gflops": 50.0, "share_of_gemm_rate": 0.25,
                   "tensor_bytes_per_token": 12312.0, "scratch_bytes_per_token": 0.0, "max_rss_bytes": 57 << 20}
        self.assertIn("| 64 | 1.00 ms | 2.00 ms | 0.75 | 50 | 25 % | 12,312 | 0 | 57 MiB |", report.attention_table([context]))

    def test_prose_around_the_marks_stays(self) -> None:
        page = self.folder / "docs" / "cpu_speed.md"
        report.PAGE.write(page, report.markdown(self.result()))
        page.write_text(page.read_text().replace("# CPU speed", "# CPU speed\n\nProse before.") + "\nProse after.\n")
        self.assertEqual(report.PAGE.refusal(page), "")
        report.PAGE.write(page, report.markdown(self.result() | {"commit": "def"}))
        text = page.read_text()
        self.assertIn("Prose before.", text)
        self.assertTrue(text.endswith("\nProse after.\n"))
        self.assertIn("commit `def`", text)
        self.assertNotIn("commit `abc`", text)
        self.assertEqual(text.count(report.PAGE.begin), 1)

    def test_a_page_of_somebody_else_is_refused(self) -> None:
        page = self.folder / "page.md"
        page.write_text("# Mine\n")
        self.assertIn("does not hold", report.PAGE.refusal(page))
        page.write_text(f"{report.PAGE.end}\n{report.PAGE.begin}\n")
        self.assertIn("does not hold", report.PAGE.refusal(page))


class ProgramsTest(unittest.TestCase):
    def test_step_times_are_differences(self) -> None:
        lines = [{"event": "train", "step": 1, "loss": 4.0, "seconds": 0.5}, {"event": "eval", "step": 1}, {"event": "train", "step": 2, "loss": 3.0, "seconds": 0.75}]
        times, losses = programs.step_times("\n".join(json.dumps(line) for line in lines))
        self.assertEqual((times, losses), ([500.0, 250.0], [4.0, 3.0]))

    def test_experiment_computes_nothing_but_steps(self) -> None:
        base = json.loads((SCRIPTS.parent / "configs" / "shakespeare_gpt.json").read_text())
        config = programs.experiment(base, shapes.BABY, {"path": "/data"})
        self.assertEqual([config[part]["interval"] for part in ("evaluation", "sample", "checkpoint")], [0, 0, 0])
        self.assertEqual(config["train"]["batch_size"], 64)
        self.assertEqual({k: config["model"][k] for k in ("block_size", "n_layer", "n_head", "n_embd", "bias", "dropout")},
                         {"block_size": 256, "n_layer": 6, "n_head": 6, "n_embd": 384, "bias": False, "dropout": 0.0})
        self.assertEqual(base["model"]["n_layer"], 4)  # not changed in place

    def fake(self, body: str) -> programs.Reverie:
        """A stand-in for the program."""
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        file = folder / "reverie"
        file.write_text(f"#!{sys.executable}\nimport json, pathlib, sys\narguments = sys.argv[1:]\n{body}\n")
        file.chmod(0o755)
        reverie = programs.Reverie(file, 1, folder)
        reverie.data = {"path": str(folder)}
        return reverie

    TRAIN = """
folder = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
folder.mkdir()
count = int(arguments[arguments.index("--stop-after") + 1]) + {extra}
lines = [{{"event": "train", "step": i, "loss": 4 - i / 10, "seconds": i * i / 1000}} for i in range(1, count + 1)]
(folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
sys.exit({status})
"""

    def test_training_leaves_the_first_steps_out(self) -> None:
        run = self.fake(self.TRAIN.format(extra=0, status=0)).train(shapes.SMALL, "f32", 2, 3)
        self.assertEqual([round(t) for t in run["steps_ms"]], [5, 7, 9])  # n^2 - (n - 1)^2 ms
        self.assertAlmostEqual(run["ms"], 7)
        self.assertAlmostEqual(run["loss"], 3.5)
        self.assertGreater(run["max_rss_bytes"], 1 << 20)

    def test_a_run_that_ends_between_two_looks_is_seen(self) -> None:
        with mock.patch.object(programs.time, "sleep", lambda _, sleep=time.sleep: sleep(2)):
            run = self.fake(self.TRAIN.format(extra=0, status=0)).train(shapes.SMALL, "f32", 2, 3)
        self.assertAlmostEqual(run["ms"], 7)
        self.assertGreater(run["start_to_first_step_ms"], 1000)

    def test_failed_and_short_runs_are_errors(self) -> None:
        with self.assertRaisesRegex(programs.ProgramError, "status 4"):
            self.fake(self.TRAIN.format(extra=0, status=4)).train(shapes.SMALL, "f32", 2, 3)
        with self.assertRaisesRegex(programs.ProgramError, "has 4 steps; wanted 5"):
            self.fake(self.TRAIN.format(extra=-1, status=0)).train(shapes.SMALL, "f32", 2, 3)
        with self.assertRaisesRegex(programs.ProgramError, "build it"):
            programs.Reverie(Path("/nowhere/reverie"), 1, Path("/nowhere"))

    def test_the_program_is_asked_for_its_precisions(self) -> None:
        reverie = self.fake("""
if "--set" in arguments:
    sys.exit(f"error: {arguments[2]}: cannot set {arguments[-1]}")
print(json.dumps({"peak_bytes": 1}))
""")
        self.assertEqual(reverie.why_not(shapes.SMALL, "f32"), "")
        self.assertEqual(reverie.why_not(shapes.SMALL, "bf16"), "cannot set train.precision=bf16; cannot set precision=bf16")
        options = bench.parse(["--work", "small", "--json", str(reverie.scratch / "x")])
        left_out: list[dict] = []
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(driver.usable_precisions(options, shapes.SMALL, reverie, left_out), ["f32"])
        self.assertIn("small bf16 is left out: this build of Reverie has no bf16", said.getvalue())
        self.assertEqual([(x["work"], x["precision"]) for x in left_out], [("small", "bf16")])

    def test_a_precision_is_set_where_the_program_has_it(self) -> None:
        reverie = self.fake("""
if "train.precision=bf16" in arguments:
    sys.exit("error: no such key")
print(json.dumps({"peak_bytes": 1}))
""")
        self.assertEqual(reverie.why_not(shapes.SMALL, "bf16"), "")
        self.assertEqual(reverie.overrides("bf16"), ["--set", "precision=bf16"])
        self.assertEqual(reverie.overrides("f32"), [])

    def test_a_missing_benchmark_says_how_to_build_it(self) -> None:
        with self.assertRaisesRegex(programs.ProgramError, "--target bench_step_gemms"):
            benchmarks.Benchmarks(Path("/nowhere"), 1).program("bench_step_gemms")


class MachineTest(unittest.TestCase):
    def test_reads_the_kernels_counters(self) -> None:
        stat = "cpu  100 200 300 4000 50 6 7 8 9 10\ncpu0 1 1 1 1\n"
        self.assertAlmostEqual(machine.busy_seconds(stat), (100 + 200 + 300 + 6 + 7 + 8) / machine.TICKS)
        stat = "17 (a (strange) name) S " + " ".join(str(i) for i in range(4, 30))
        self.assertAlmostEqual(machine.process_seconds(stat), (14 + 15 + 16 + 17) / machine.TICKS)
        self.assertGreater(machine.cpu_seconds_of(os.getpid()), 0)
        self.assertEqual(machine.available_bytes("MemTotal: 5 kB\nMemAvailable:   12 kB\n"), 12 * 1024)

    def test_others_are_who_is_not_ours(self) -> None:
        cores = os.cpu_count() or 1
        neighbours = machine.Neighbours(lambda: [])
        totals = iter([(0.0, 100.0, 10.0), (10.0, 100.0 + 8 * cores, 10.0 + 5 * cores)])
        with mock.patch.object(neighbours, "totals", lambda: next(totals)):
            neighbours.start()
            self.assertAlmostEqual(neighbours.stop(), 0.3)
        self.assertFalse(neighbours.summary()["quiet"])
        neighbours.shares = [0.0, 0.01, 0.5]
        self.assertEqual(neighbours.summary(), {"others_cpu_share_median": 0.01, "others_cpu_share_max": 0.5, "quiet": True})


class CommandLineTest(unittest.TestCase):
    def refuse(self, *arguments: str) -> str:
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as end:
            bench.parse(list(arguments))
        self.assertEqual(end.exception.code, 2)
        return said.getvalue()

    def test_wrong_usage(self) -> None:
        self.assertIn("invalid choice: 'large'", self.refuse("--work", "large", "--json", "x"))
        self.assertIn("--json", self.refuse("--work", "small"))
        self.assertIn("--work is missing", self.refuse("--json", "x"))
        self.assertIn("invalid choice: 'gpt2' (of device cpu", self.refuse("--work", "gpt2", "--json", "x"))
        self.assertIn("--batch is for measurements on a GPU", self.refuse("--work", "small", "--json", "x", "--batch", "3"))
        self.assertIn("--rounds is 0; wanted at least 1", self.refuse("--work", "small", "--json", "x", "--rounds", "0"))
        self.assertIn("there is no folder", self.refuse("--work", "small", "--json", "/nowhere/x"))
        self.assertIn("--upgrade-pytorch is for our own", self.refuse("--work", "small", "--json", "x", "--pytorch", "p", "--upgrade-pytorch"))
        with tempfile.NamedTemporaryFile("w", suffix=".md") as page:
            self.assertIn("does not hold", self.refuse("--work", "small", "--json", "x", "--markdown", page.name))

    def test_precisions(self) -> None:
        chosen = lambda *given: bench.parse(["--work", "small", "--json", "x", *given]).precision  # noqa: E731
        self.assertEqual(chosen(), ["f32", "bf16"])
        self.assertEqual(chosen("--precision", "both"), ["f32", "bf16"])
        self.assertEqual(chosen("--precision", "bf16"), ["bf16"])

    def test_works_by_name(self) -> None:
        names = lambda *given: [w.name for w in driver.works_of(list(given))]  # noqa: E731
        self.assertEqual(names("all"), ["small", "baby"])
        self.assertEqual(names("baby", "growth"), ["baby"])
        self.assertEqual(names("attention"), [])
        self.assertEqual(set(driver.EFFORTS), set(shapes.WORKS))

    def test_everyone_begins_a_round_once(self) -> None:
        self.assertEqual([driver.turned([1, 2, 3], n)[0] for n in range(4)], [1, 2, 3, 1])
        self.assertEqual(driver.turned([1, 2, 3], 1), [2, 3, 1])
        self.assertEqual(driver.turned([], 3), [])

    def test_a_missing_program_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as said:
            status = bench.main(["--work", "small", "--json", f"{folder}/x.json", "--reverie", f"{folder}/none", "--rounds", "1"])
        self.assertEqual(status, 1)
        self.assertIn("is not there; build it", said.getvalue())
        self.assertIn("1 rounds are a look", said.getvalue())


class SweepsTest(unittest.TestCase):
    def test_each_axis_changes_one_number(self) -> None:
        for axis, value, work in sweeps.growth_works():
            self.assertEqual(getattr(work, axis), value)
            back = replace(work, name="small", **{axis: getattr(shapes.SMALL, axis)})
            self.assertEqual(replace(back, heads=4), shapes.SMALL)
            self.assertEqual(work.width // work.heads, 32)

    def test_attention_contexts_divide_the_tokens(self) -> None:
        self.assertEqual([sweeps.ATTENTION["tokens"] % t for t in sweeps.CONTEXTS], [0, 0, 0, 0])


class ImmTest(unittest.TestCase):
    def test_quotients_are_of_the_rounds_own_gpt(self) -> None:
        plan = {"step_flops": 4e9, "parameters": 800}
        gpt = [{"ms": ms, "others_cpu_share": 0.0} for ms in (10.0, 20.0, 10.0)]
        imm = [{"ms": ms, "others_cpu_share": 0.0} for ms in (15.0, 28.0, 13.0)]
        row = memories.row("IMM, causal_mean", plan | {"step_flops": 5e9}, plan, imm, gpt)
        self.assertAlmostEqual(row["time_over_gpt"], 1.4)  # the rounds': 1.5, 1.4 and 1.3
        self.assertAlmostEqual(row["flops_over_gpt"], 1.25)
        self.assertAlmostEqual(row["over_justified"], 1.12)
        self.assertEqual(row["ms"], 15.0)
        self.assertIn("| IMM, causal_mean | 800 | 5.00 | **15.0 ms** | 1.40 | 1.25 | **1.12** | 13.0 ms to 28.0 ms |", report.imm_table([row]))

    def test_all_modes_are_measured_and_those_that_leak_are_allowed(self) -> None:
        modes = [m.name.removeprefix("IMM, ") for m in memories.MODELS[2:]]
        header = (SCRIPTS.parent / "layers" / "memory" / "imm.h").read_text()
        for mode in modes:
            self.assertIn(mode, header)
        self.assertEqual(len(modes), 5)
        self.assertEqual({m.name for m in memories.MODELS if "allow_future_leak=true" in m.overrides}, {"IMM, as_published", "IMM, full_rank"})

    def test_each_model_is_measured_in_every_round(self) -> None:
        trained: list = []
        reverie = mock.Mock()
        reverie.plan = lambda work, more=(): {"step_flops": 1e9 * (1 + len(more)), "parameters": len(more)}

        def train(work: object, precision: str, warmup: int, steps: int, more: tuple = ()) -> dict:
            trained.append(more)
            return {"ms": 2.0 * (1 + len(more))}

        reverie.train = train
        twins = {name: mock.Mock(about={"parameters": 2 if imm else 0}) for name, imm in memories.TWINS.items()}
        for twin in twins.values():
            twin.steps = lambda precision, warmup, count: {"steps_ms": [4.0]}
        quiet = mock.Mock()
        quiet.stop = lambda: 0.0
        with mock.patch.object(memories, "SETTLE_SECONDS", 0):
            found = memories.measure(reverie, twins, quiet, 2, 65, lambda _: None)
            self.assertEqual([r["over_justified"] for r in found["rows"]], [1.0] * 8 + [1 / 3])
            self.assertEqual(len(trained), 1 + 2 * 7)
            self.assertNotEqual(trained[1], trained[8])  # the order turned
            twins["PyTorch, GPT"].about["parameters"] = 5
            with self.assertRaisesRegex(programs.ProgramError, "PyTorch, GPT has 5 parameters; Reverie's model 0"):
                memories.measure(reverie, twins, quiet, 1, 65, lambda _: None)


class WorkerTest(unittest.TestCase):
    def test_settings_reach_the_worker(self) -> None:
        env = pytorch.worker_environment(3)
        self.assertEqual((env["OMP_NUM_THREADS"], env["KMP_BLOCKTIME"], env["MALLOC_MMAP_MAX_"]), ("3", "1", "0"))

    def worker(self, body: str) -> Worker:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        file = Path(temporary.name) / "worker.py"
        file.write_text(f"import json, sys\nprint('chatter', file=sys.stderr)\n{body}\n")
        with mock.patch.object(pytorch, "WORKER", file):
            worker = pytorch.start_worker(Path(sys.executable), "eager", shapes.SMALL, Path("text"), 1, Path(temporary.name) / "log")
        self.addCleanup(worker.close)
        return worker

    def test_commands_and_answers(self) -> None:
        worker = self.worker("start = json.loads(sys.argv[1])\nprint(json.dumps(start['work']), flush=True)\n"
                             "for line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)")
        self.assertEqual(worker.about["width"], 128)
        self.assertEqual(worker.steps("bf16", 2, 7)["got"], {"precision": "bf16", "warmup": 2, "count": 7})
        worker.close()
        self.assertEqual(worker.process.returncode, 0)

    def test_errors_and_deaths_are_told(self) -> None:
        worker = self.worker("print('{}', flush=True)\nfor line in sys.stdin: print(json.dumps({'error': 'no compiler'}), flush=True)")
        with self.assertRaisesRegex(PyTorchError, "eager: no compiler"):
            worker.steps("f32", 0, 1)
        with self.assertRaisesRegex(PyTorchError, r"(?s)ended with status 3:.*chatter"):
            self.worker("sys.exit(3)")
        worker = self.worker("print('{}', flush=True)\nsys.stdin.readline()\nsys.exit(4)")
        for _ in range(2):  # a dead one goes on saying so
            with self.assertRaisesRegex(PyTorchError, "ended with status 4"):
                worker.steps("f32", 0, 1)
        self.assertEqual(machine.cpu_seconds_of(worker.pid), 0)

    def test_the_twin_has_the_model_s_parameters(self) -> None:
        if not importlib.util.find_spec("torch"):
            self.skipTest("this Python has no torch")
        import reference_gpt

        for work in shapes.WORKS.values():
            model = reference_gpt.Gpt(work.vocabulary, reference_gpt.Shape(work.layers, work.heads, work.width, work.context))
            self.assertEqual(sum(p.numel() for p in model.parameters()), work.parameters)


class DecodingTest(unittest.TestCase):
    def test_a_tokens_weights_are_all_but_the_other_positions(self) -> None:
        shape = random_gpt2.Shape()
        self.assertEqual(shape.bytes_a_token, 4 * (124_439_808 - 1023 * 768))  # GPT-2's parameters

    def test_the_share_is_of_the_rounds_own_bandwidth(self) -> None:
        rounds = [{"tokens_per_second": 20.0, "read_gb_per_second": 4.0}, {"tokens_per_second": 40.0, "read_gb_per_second": 8.0},
                  {"tokens_per_second": 10.0, "read_gb_per_second": 1.0}]
        row = decoding.row(2, 200_000_000, rounds)
        self.assertAlmostEqual(row["tokens_per_second"], 20)
        self.assertAlmostEqual(row["step_ms"], 100)
        self.assertAlmostEqual(row["weights_gb_per_second"], 2)
        self.assertAlmostEqual(row["share_of_bandwidth"], 0.5)  # the rounds': 0.5, 0.5 and 1
        one = row | {"batch": 1, "tokens_per_second": 16.0}
        self.assertIn("| 2 | **20.0** | 100 ms | 2.0 GB/s | 4.0 GB/s | **50 %** | 1.25 |", report.decoding_table([one, row]))

    def test_the_model_is_one_that_programs_can_read(self) -> None:
        shape = random_gpt2.Shape(layers=2, heads=2, width=4, vocabulary=300, positions=8)
        with tempfile.TemporaryDirectory() as folder:
            random_gpt2.write(Path(folder) / "m", shape)
            config, tokenizer = (json.loads((Path(folder) / "m" / name).read_text()) for name in ("config.json", "tokenizer.json"))
            weights = (Path(folder) / "m" / "model.safetensors").read_bytes()
        self.assertEqual((config["n_layer"], config["vocab_size"]), (2, 300))
        self.assertEqual(sorted(tokenizer["model"]["vocab"].values()), list(range(300)))
        size = int.from_bytes(weights[:8], "little")
        header = json.loads(weights[8:8 + size])
        self.assertEqual(header["transformer.h.1.mlp.c_fc.weight"]["shape"], [4, 16])
        ends = [0, *(t["data_offsets"][1] for t in header.values())]
        self.assertEqual([t["data_offsets"][0] for t in header.values()], ends[:-1])
        self.assertEqual(len(weights), 8 + size + ends[-1])


class StoredTest(unittest.TestCase):
    def rounds(self, *speeds: float) -> list[dict]:
        return [{q: 1.0 for q in stored.QUANTITIES} | {"tokens_per_cpu_second": s, "eval_max_rss_bytes": 1e9 * s} for s in speeds]

    def test_ratios_are_of_one_round(self) -> None:
        row = stored.row("m.gguf", {"before": self.rounds(1, 2, 4), "after": self.rounds(3, 4, 20)})
        self.assertEqual(row["ratio"]["tokens_per_cpu_second"], 3)  # 3, 2 and 5
        self.assertEqual(row["before"]["tokens_per_cpu_second"], 2)
        self.assertIn("| m.gguf | before | 2.0 | 1.00 s | 2.00 GB |", report.stored_table([row]))
        self.assertIn("|  | after / before | **3.00** | **1.00** | **3.00** |", report.stored_table([row]))

    def test_llama_cpp_stands_beside_in_the_same_rounds(self) -> None:
        without = [{q: r[q] for q in stored.COSTS} for r in self.rounds(2, 5, 5)]
        row = stored.row("m.gguf", {"before": self.rounds(1, 2, 4), "after": self.rounds(3, 4, 20), stored.LLAMA_CPP: without})
        self.assertEqual(row["ratio_llama_cpp"]["tokens_per_cpu_second"], 1.5)  # 1.5, 0.8 and 4
        text = report.stored_table([row])
        self.assertIn("|  | llama.cpp | 5.0 | 1.00 s | 5.00 GB | 0.00 GB |  |", text)
        self.assertIn("|  | after / llama.cpp | **1.50** |", text)
        self.assertEqual(report.llama_cpp_sentence({}), "")

    def test_llama_cpp_is_asked_for_the_same_lengths(self) -> None:
        writing, reading = stored.llama_cpp_commands(Path("python"), Path("m.gguf"), Path("t"), 1)
        self.assertEqual([c[c.index("--write") + 1] for c in writing], [str(n) for n in stored.TOKENS])
        self.assertEqual([c[c.index("--read") + 1] for c in reading], [str(n) for n in stored.WINDOWS])
        with self.assertRaisesRegex(programs.ProgramError, "llama_cpp"):
            stored.llama_cpp_contender(Path(sys.executable))

    def test_before_is_another_program_or_widens(self) -> None:
        with mock.patch.dict(os.environ, {"REVERIE_WEIGHTS": "f32"}):
            own, after = stored.contenders(Path("now"), None)
            self.assertEqual(own.environment(1)["REVERIE_WEIGHTS"], "f32")
            self.assertNotIn("REVERIE_WEIGHTS", after.environment(1))
            before, _ = stored.contenders(Path("now"), Path("then"))
        self.assertEqual((before.program, before.weights), (Path("then"), ""))

    def test_costs_are_of_the_process_and_failures_are_told(self) -> None:
        me = stored.Contender("after", Path(sys.executable), "")
        cost = stored.cost_of([sys.executable, "-c", "x = b'x' * (1 << 26); sum(range(3000000))"], me, 1)
        self.assertGreater(cost.cpu_seconds, 0)
        self.assertGreater(cost.max_rss_bytes, 1 << 26)
        with self.assertRaisesRegex(programs.ProgramError, "status 3"):
            stored.cost_of([sys.executable, "-c", "raise SystemExit(3)"], me, 1)

    def test_differences_leave_loading_out(self) -> None:
        seconds = {"1": 5.0, "129": 7.0, "3": 10.0, "5": 13.0}  # of tokens, and of windows

        def cost(command: list[str], _contender: stored.Contender, _threads: int) -> stored.Cost:
            if "--json" in command:
                Path(command[-1]).write_text('{"perplexity": 9.5}')
            return stored.Cost(seconds[command[command.index("--max-windows" if "eval" in command else "--max-tokens") + 1]], 1)

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(stored, "cost_of", cost):
            found = stored.measure_once(stored.Contender("after", Path("reverie"), ""), Path("m"), Path("t"), 1, Path(folder))
        self.assertEqual((found["tokens_per_cpu_second"], found["window_cpu_seconds"], found["perplexity"]), (64, 1.5, 9.5))


class LatentsTest(unittest.TestCase):
    STEP = {
        "base": {"layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "width": 32, "hidden": 40, "vocabulary": 50},
        "texts": 2, "length": 10, "groups": 3, "latents": 4, "ahead": 5,
        "base_rows": {"rows": 48, "context_pairs": 200, "own_pairs": 216},
        "wanted_rows": {"rows": 30, "context_pairs": 125, "own_pairs": 180},
        "coprocessor_rows": {"rows": 24, "context_pairs": 100, "own_pairs": 60},
    }

    def test_counts_what_a_step_needs(self):
        gemms = latents.step_gemms(self.STEP)
        keys, others = 2 * 32 * 16, 32 * 32 + 32 * 32 + 3 * 32 * 40  # weights of a layer
        rows = 20 * 1 + 48 * 2 + 24 * 3  # forward; and input; and weight
        others_of_last = 20 * 1 + 30 * 2 + 24 * 3
        head = 2 * 3 * 5 * 32 * 50 * 2
        self.assertAlmostEqual(sum(g.count * g.gflop for g in gemms), 2e-9 * ((2 * keys + others) * rows + others * others_of_last + head))
        self.assertTrue(any(g.choices == ("tn:40x32x24",) and g.count == 4 for g in gemms))  # gate and up, two layers
        pairs = 2 * (2 * 10 * 11 / 2) + 4 * 300 + 6 * 276
        pairs_of_last = 2 * (2 * 10 * 11 / 2) + 4 * 225 + 6 * 240
        self.assertAlmostEqual(latents.attention_gflop(self.STEP), 2e-9 * 32 * (pairs + pairs_of_last))

    def test_attention_is_counted_at_the_rate_of_the_other_products(self):
        gemms = latents.step_gemms(self.STEP)
        half = latents.bound(self.STEP, {g.choices[0]: 1e3 * g.gflop / 2 for g in gemms})  # 2 GFLOP a second
        self.assertAlmostEqual(half["gflops"], 2.0)
        self.assertAlmostEqual(half["bound_ms"], 1e3 * half["gflop"] / 2)
        self.assertGreater(half["attention_gflop"], 0)

    def test_rounds_become_medians_and_a_table(self):
        gemms = latents.step_gemms(self.STEP)
        times = iter([10.0, 30.0, 20.0])

        class Programs:
            def latents(self, base, seconds):
                ms = next(times)
                return dict(LatentsTest.STEP, packed_ms=ms, forward_ms=ms / 3, backward_ms=ms / 2, update_ms=ms / 6,
                            separate_ms=10 * ms, loss=7.0, separate_loss=7.0)

            def products(self, precision, what, seconds):
                return {"gemms": [{"gemm": g.choices[0], "ms": 1e3 * g.gflop} for g in gemms]}

        class Quiet:
            def start(self):
                pass

            def stop(self):
                return 0.0

        found, = latents.measure(Programs(), Quiet(), 3, [latents.Base("some.bin", Path("some.bin"))], lambda text: None)
        self.assertEqual(found["packed_ms"], 20.0)
        self.assertAlmostEqual(found["speedup"], 10.0)
        self.assertAlmostEqual(found["over_bound"], 20.0 / found["bound_ms"])
        self.assertIn("**20.0 ms**", report.latents_table(found))


    def test_a_base_may_be_a_shape(self):
        with tempfile.TemporaryDirectory() as folder:
            base = latents.find_base("llama:width=32,heads=4,kv_heads=2,hidden=40,layers=2,vocabulary=50,positions=16", Path(folder))
            size = base.path.stat().st_size
            header = struct.unpack("<7i", base.path.read_bytes()[:28])
        self.assertEqual(header, (32, 40, 2, 4, 2, 50, 16))
        layer = 2 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40
        self.assertEqual(size, 28 + 4 * (50 * 32 + 2 * layer + 32 + 16 * 8))
        self.assertIn("width 32, 4 heads of 8 on 2 key heads", base.name)

    def test_no_shape_is_refused(self):
        for text, why in (("llama:wide=3", "wanted NAME=SIZE"), ("llama:width=0", "wanted NAME=SIZE"), ("llama:width=30,heads=4", "heads of an even size")):
            with self.assertRaisesRegex(programs.ProgramError, why):
                latents.find_base(text, Path("nowhere"))


class TokenizationTest(unittest.TestCase):
    def test_a_short_text_is_repeated(self) -> None:
        self.assertEqual(tokenization.repeated(b"ab\n", 9), b"ab\n\nab\n\nab\n\n")
        self.assertEqual(tokenization.repeated(b"abcdefgh", 3), b"abcdefgh\n\n")

    def test_the_first_other_token_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "train.tok", Path(folder) / "ids"
            ours.write_bytes(bytes(128) + b"\1\0\2\0\3\0")
            theirs.write_bytes(b"\1\0\2\0\3\0")
            self.assertEqual(tokenization.ids_differ(ours, theirs), "")
            theirs.write_bytes(b"\1\0\2\1\3\0")
            self.assertEqual(tokenization.ids_differ(ours, theirs), "token 1 differs (of 3 of ours, 3 of tiktoken's)")
            theirs.write_bytes(b"\1\0")
            self.assertEqual(tokenization.ids_differ(ours, theirs), "token 1 differs (of 3 of ours, 1 of tiktoken's)")

    def test_the_table(self) -> None:
        text = report.tokenization_table({"mb_per_second": {"reverie_1": 60.0, "tiktoken": 15.0, "reverie_all": 110.0}, "ratio": 4.0, "scaling": 1.83,
                                          "threads": 2, "tiktoken": "0.14.0"})
        self.assertIn("| **60.0 MB/s** | 15.0 MB/s | **4.00** | 110.0 MB/s | 1.83 |", text)


if __name__ == "__main__":
    unittest.main()
