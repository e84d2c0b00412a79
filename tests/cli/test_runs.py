"""What ends a run, and how it goes on: signals, closed pipes, full disks, paths, named checkpoints.

Needs a finished build (REVERIE_BUILD_DIR, or build/release).
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "data": {"path": "text.txt"},
    "model": {"type": "gpt2", "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16},
    "train": {"steps": 8, "batch_size": 4},
    "optimizer": {"warmup_steps": 2},
    "evaluation": {"interval": 4, "windows": 4, "prefix_only_windows": 2, "final_windows": 4, "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 5},
    "checkpoint": {"interval": 4, "keep": 2},
}
LONG = {"train": {"steps": 1000000, "batch_size": 2}, "evaluation": {"interval": 0}, "checkpoint": {"interval": 0}}


class RunsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-runs-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(400))
        (cls.folder / "text.txt").write_text(text)

    def reverie(self, *arguments, cwd=None, **more):
        return subprocess.run([str(REVERIE), *map(str, arguments)], cwd=cwd or self.folder, capture_output=True, text=True, check=False, **more)

    def expect(self, status, *arguments, **more):
        got = self.reverie(*arguments, **more)
        self.assertEqual(got.returncode, status, f"{arguments}\n{got.stdout}\n{got.stderr}")
        return got

    def config(self, name, **changes):
        experiment = json.loads(json.dumps(EXPERIMENT))
        for key, value in changes.items():
            experiment.setdefault(key, {}).update(value)
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(experiment))
        return file

    def start(self, name, run, *more, **popen):
        return subprocess.Popen([str(REVERIE), "train", f"{name}.json", "--run-dir", run, *more], cwd=self.folder, **popen)

    @staticmethod
    def is_locked(file):
        """Without taking the lock: a file is there a moment before it is locked."""
        if not file.exists():
            return False
        inode = file.stat().st_ino
        return any(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())

    def test_a_second_process_is_refused_before_the_gate_of_the_first_has_ended(self):
        self.config("slow_gate", model={"block_size": 256, "n_layer": 4, "n_embd": 256}, train={"steps": 1, "batch_size": 32})
        run = self.folder / "contested"
        first = self.start("slow_gate", run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            while not self.is_locked(run / "run.lock"):
                self.assertIsNone(first.poll())
                time.sleep(0.002)
            first.send_signal(signal.SIGSTOP)  # where it is: the gate takes seconds
            self.assertEqual([file.name for file in run.iterdir()], ["run.lock"])
            refused = self.expect(1, "train", "slow_gate.json", "--run-dir", run)
            self.assertIn("both would write the same checkpoints", refused.stderr)
            self.assertNotIn("causality", refused.stdout)
            self.assertEqual([file.name for file in run.iterdir()], ["run.lock"])
        finally:
            first.kill()
            first.wait()
        # The lock file of a killed process does not refuse the next run.
        self.config("after", train={"steps": 1, "batch_size": 2}, evaluation={"interval": 0})
        self.expect(0, "train", "after.json", "--run-dir", run)

    def wait_for_steps(self, run, count):
        metrics = self.folder / run / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count('"train"') >= count):
            time.sleep(0.02)

    def checkpoints(self, run):
        return sorted(p.parent.name for p in (self.folder / run).glob("checkpoints/step_*/COMPLETE"))

    def steps(self, run):
        return [json.loads(line)["step"] for line in (self.folder / run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]

    def test_a_closed_terminal_saves_and_nohup_is_kept(self):
        self.config("hangup", **LONG)
        heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite itself may run under nohup
        process = self.start("hangup", "hangup", preexec_fn=heard, stderr=subprocess.PIPE, text=True)
        self.wait_for_steps("hangup", 5)
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=120)[1]
        self.assertEqual(process.returncode, 128 + signal.SIGHUP)
        self.assertEqual(self.checkpoints("hangup"), [f"step_{max(self.steps('hangup')):08}"])
        # The command that is printed works when it is pasted.
        command = said.strip().splitlines()[-1].split("go on with: ")[1].strip("`")
        self.assertEqual(command, f"{REVERIE} train --run-dir hangup --resume")
        more = str(max(self.steps("hangup")) + 2)
        subprocess.run(command + f" --stop-after {more} --quiet", shell=True, cwd=self.folder, check=True, capture_output=True)
        self.assertEqual(max(self.steps("hangup")), int(more))
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        process = self.start("hangup", "nohup", "--stop-after", "60", preexec_fn=ignore, stderr=subprocess.DEVNULL)
        self.wait_for_steps("nohup", 5)
        process.send_signal(signal.SIGHUP)
        self.assertEqual(process.wait(timeout=120), 0)
        self.assertEqual(self.checkpoints("nohup"), ["step_00000060"])

    def test_a_signal_in_the_final_evaluation_ends_it_and_it_is_done_again(self):
        final = {"model": {"block_size": 256, "n_layer": 4, "n_embd": 64}, "train": {"steps": 3},
                 "evaluation": {"interval": 0, "final_windows": 0, "final_prefix_only_windows": 1000, "batch_size": 1}}
        self.config("final", **final)
        process = self.start("final", "final", "--quiet", stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not self.checkpoints("final") and time.monotonic() < deadline:
            time.sleep(0.01)
        process.terminate()
        self.assertEqual(process.wait(timeout=120), 143)
        self.assertEqual(self.checkpoints("final"), ["step_00000003"])
        self.assertFalse((self.folder / "final/summary.json").exists())
        shorter = ("--set", "evaluation.final_prefix_only_windows=2", "--quiet")
        self.expect(0, "train", "--run-dir", "final", "--resume", *shorter)
        self.expect(0, "train", "final.json", "--run-dir", "in_one_go", *shorter)
        losses = [{k: v for k, v in json.loads((self.folder / run / "summary.json").read_text()).items() if "second" not in k} for run in ("final", "in_one_go")]
        self.assertEqual(*losses)

    def test_a_reader_that_leaves_ends_no_run(self):
        self.config("pipe")
        process = self.start("pipe", "pipe", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        process.stdout.close()
        self.assertIn(process.wait(timeout=120), (0, 141))
        self.assertTrue((self.folder / "pipe/summary.json").exists())

    def test_output_that_cannot_be_written_is_an_error(self):
        self.config("full")
        self.expect(0, "train", "full.json", "--run-dir", "full")
        commands = [["eval", "full", "--windows", "2", "--prefix-only-windows", "1"], ["sample", "full", "--max-tokens", "3"], ["modules"], ["inspect", "full"],
                    ["train", "full.json", "--print-config"], ["plan", "full.json"]]
        for command in commands:
            with open("/dev/full", "w") as full:
                got = subprocess.run([str(REVERIE), *command], cwd=self.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(got.returncode, 1, command)
            self.assertIn("No space left", got.stderr, command)
        # What cannot be written is known before the work.
        got = self.expect(1, "eval", "full", "--json", "no/such/folder.json")
        self.assertEqual(got.stdout, "")
        self.assertIn("no/such/folder.json", got.stderr)

    def test_a_file_that_may_not_grow_is_an_error_and_leaves_nothing(self):
        self.config("limit", model={"n_embd": 64})
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, resource.RLIM_INFINITY))
        got = self.expect(1, "train", "limit.json", "--run-dir", "limit", "--quiet", preexec_fn=limit)
        self.assertRegex(got.stderr, "cannot write .*checkpoint.*File too large")
        self.assertEqual(list((self.folder / "limit/checkpoints").iterdir()), [])
        self.expect(0, "train", "--run-dir", "limit", "--resume", "--quiet")

    def test_closed_streams_do_not_become_files(self):
        self.config("closed")
        command = f"exec {REVERIE} train closed.json --run-dir closed --stop-after 4 <&- >&- 2>&-"
        subprocess.run(["sh", "-c", command], cwd=self.folder, check=True)
        for line in (self.folder / "closed/metrics.jsonl").read_text().splitlines():
            self.assertIn("event", json.loads(line))
        self.expect(0, "train", "--run-dir", "closed", "--resume", "--quiet")

    def test_json_goes_through_links_pipes_and_devices(self):
        self.config("through")
        self.expect(0, "train", "through.json", "--run-dir", "through")
        evaluate = ("eval", "through", "--windows", 2, "--prefix-only-windows", 1, "--json")
        (self.folder / "link.json").symlink_to("real.json")
        self.expect(0, *evaluate, "link.json")
        self.assertTrue((self.folder / "link.json").is_symlink())
        self.assertIn("val_loss", json.loads((self.folder / "real.json").read_text()))
        os.mkfifo(self.folder / "fifo")
        reader = subprocess.Popen(["cat", "fifo"], cwd=self.folder, stdout=subprocess.PIPE)
        self.expect(0, *evaluate, "fifo")
        self.assertIn("val_loss", json.loads(reader.communicate(timeout=60)[0]))
        self.assertTrue((self.folder / "fifo").is_fifo())
        self.assertIn("val_loss", self.expect(0, *evaluate, "/dev/stdout").stdout)

    def test_a_directory_in_the_place_of_a_file_is_noticed_first(self):
        run = self.folder / "in_the_way"
        (run / "summary.json").mkdir(parents=True)
        (run / "summary.json" / "mine").write_text("keep")
        got = self.expect(1, "train", self.config("in_the_way"), "--run-dir", run)
        self.assertIn("summary.json is a directory", got.stderr)
        self.assertEqual((run / "summary.json" / "mine").read_text(), "keep")

    def test_beginning_anew_is_said(self):
        self.config("anew")
        self.assertIn("holds no checkpoint, nor any run", self.expect(0, "train", "anew.json", "--run-dir", "anew", "--resume", "--quiet").stderr)
        got = self.expect(2, "train", "--run-dir", "nowhere", "--resume")
        self.assertIn("nowhere holds no run", got.stderr)
        self.assertFalse((self.folder / "nowhere").exists())

    def test_a_run_gets_longer_and_its_best_checkpoint_opens_by_name(self):
        self.config("longer", optimizer={"decay_steps": 12})
        keep = ("--set", "checkpoint.keep_best=true", "--quiet")
        self.expect(0, "train", "longer.json", "--run-dir", "longer", *keep)
        self.expect(0, "train", "--run-dir", "longer", "--resume", "--set", "train.steps=12", "--quiet")
        self.expect(0, "train", "longer.json", "--run-dir", "at_once", "--set", "train.steps=12", *keep)
        weights = [(self.folder / run / "checkpoints/step_00000012/model.safetensors").read_bytes() for run in ("longer", "at_once")]
        self.assertEqual(*weights)
        best = self.expect(0, "eval", "longer@best", "--windows", 2, "--prefix-only-windows", 1).stdout
        self.assertIn("checkpoints/step_", best)
        self.assertIn("step_00000012", self.expect(0, "inspect", "longer@12").stdout)
        self.expect(0, "sample", "longer/checkpoints/step_00000012", "--max-tokens", 3)
        self.expect(0, "check", "causality", "longer@12")
        self.assertIn("it has: ", self.expect(1, "eval", "longer@11").stderr)
        self.assertTrue(self.expect(0, "check", "summary", "longer@12").stdout.endswith("the same\n"))
        self.assertTrue(self.expect(0, "check", "summary", "longer@last").stdout.endswith("the same\n"))
        self.assertIn("summary.json holds the figures of step 12", self.expect(1, "check", "summary", "longer@8").stderr)
        self.expect(0, "report", "longer@last", "--out", "longer.html")
        for page in ("longer@8", "longer/checkpoints/step_00000008"):
            self.assertIn("`reverie report longer`", self.expect(2, "report", page).stderr.replace(str(self.folder) + "/", ""))
        before = sorted(path.name for path in self.folder.iterdir())
        for more in (["--resume"], ["longer.json", "--resume"], ["longer.json"], []):
            self.assertIn("a run goes on from its newest", self.expect(2, "train", "--run-dir", "longer@8", *more).stderr)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), before)
        self.expect(0, "train", "--run-dir", "longer@last", "--resume", "--quiet")
        refused = self.expect(2, "train", "--run-dir", "longer", "--resume", "--set", "train.steps=9").stderr
        self.assertIn("$.train.steps: 12 -> 9", refused)

    def test_a_run_is_the_same_from_any_folder(self):
        for folder in ("at", "elsewhere"):
            (self.folder / folder).mkdir()
        (self.folder / "at/text.txt").write_text((self.folder / "text.txt").read_text())
        self.config("at/away")
        self.expect(0, "train", "at/away.json", "--run-dir", "at/run", "--quiet")
        resolved = json.loads((self.folder / "at/run/config.resolved.json").read_text())
        self.assertEqual(resolved["data"]["path"], str(self.folder / "at/text.txt"))
        evaluate = ("eval", "../at/run", "--windows", 2, "--prefix-only-windows", 1)
        self.expect(0, *evaluate, cwd=self.folder / "elsewhere")
        self.expect(0, "train", "--run-dir", "../at/run", "--resume", "--set", "train.steps=10", "--quiet", cwd=self.folder / "elsewhere")
        variable = {**os.environ, "REVERIE_TEST_TEXTS": str(self.folder / "at")}
        self.expect(0, "train", "at/away.json", "--run-dir", "by_variable", "--set", "data.path=$REVERIE_TEST_TEXTS/text.txt", "--quiet", env=variable)
        self.assertIn("REVERIE_TEST_TEXTS", self.expect(2, "train", "at/away.json", "--set", "data.path=$REVERIE_TEST_TEXTS/text.txt").stderr)

    def test_json_with_comments_is_refused_with_a_hint_or_read_leniently(self):
        file = self.config("comments")
        file.write_text("// an experiment\n" + file.read_text()[:-1] + ",}\n")
        self.assertIn("--lenient", self.expect(2, "train", file, "--print-config").stderr)
        got = self.expect(0, "train", file, "--lenient", "--print-config", "--set", "train.steps=1e3")
        self.assertEqual(json.loads(got.stdout)["train"]["steps"], 1000)

    def test_several_errors_come_before_the_data(self):
        self.config("wrong", data={"path": "nowhere.txt"}, model={"n_head": 3}, train={"batch_size": 5, "micro_batches": 2})
        higher = ("--set", "optimizer.schedule.minimum_learning_rate=0.5")
        said = self.expect(2, "train", "wrong.json", "--run-dir", "wrong", *higher).stderr
        self.assertIn("minimum_learning_rate 0.5 is above", said)
        self.assertIn("n_embd 16 is not a multiple of n_head 3", said)
        self.assertIn("micro_batches 2 does not divide batch_size 5", said)
        self.assertFalse((self.folder / "wrong").exists())

    def test_a_directory_in_use_is_refused_before_the_gate(self):
        self.config("plain")
        self.config("leaky", model={"memory": {"type": "imm", "mode": "as_published", "low_rank_dim": 4}})
        refused_by_the_gate = self.expect(2, "train", "leaky.json", "--run-dir", "leaky").stderr
        self.assertIn("allow_future_leak", refused_by_the_gate)
        self.assertFalse((self.folder / "leaky").exists())
        self.expect(0, "train", "plain.json", "--run-dir", "used")
        said = self.expect(2, "train", "leaky.json", "--run-dir", "used").stderr
        self.assertIn("holds a run of another config", said)
        self.assertIn("add --resume", self.expect(2, "train", "plain.json", "--run-dir", "used").stderr)
        self.config("busy", **LONG)
        process = self.start("busy", "busy", stderr=subprocess.DEVNULL)
        try:
            self.wait_for_steps("busy", 1)
            got = self.reverie("train", "leaky.json", "--run-dir", "busy")
            self.assertEqual(got.returncode, 1, got.stderr)
            self.assertIn("both would write the same checkpoints", got.stderr)
        finally:
            process.kill()
            process.wait(timeout=60)

    def test_prepare_leaves_nothing_when_it_is_stopped(self):
        line = (self.folder / "text.txt").read_text()
        (self.folder / "large.txt").write_text("".join(f"{n} {line}" for n in range(1500)))
        for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
            process = subprocess.Popen([str(REVERIE), "prepare", "large.txt", "--out", "large"], cwd=self.folder, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while not list(self.folder.glob("large.preparing-*")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=60), code)
            self.assertFalse((self.folder / "large").exists())
            self.assertEqual(len(list(self.folder.glob("large.preparing-*"))), 1 if number == signal.SIGKILL else 0)
        self.expect(0, "prepare", "large.txt", "--out", "large")
        self.assertEqual(list(self.folder.glob("large.*")), [self.folder / "large.txt"])

    def test_random_kills_lose_nothing(self):
        script = [sys.executable, str(ROOT / "scripts/kill_runs.py"), "--kills", "12", "--program", str(REVERIE)]
        got = subprocess.run(script, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)


if __name__ == "__main__":
    unittest.main()
