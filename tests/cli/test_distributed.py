"""Training over several ranks as a user starts them: mpirun, and torchrun's environment variables.

Needs a finished build (REVERIE_BUILD_DIR, or build/release). Tests of mpirun are skipped where there is none, or the build has no MPI.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
REVERIE = BUILD / "reverie"

EXPERIMENT = {
    "seed": 7,
    "precision": "f64",
    "model": {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.1},
    "train": {"steps": 8, "batch_size": 6},
    "evaluation": {"interval": 4, "windows": 6, "batch_size": 2, "prefix_only_windows": 2, "final_windows": 4,
                   "final_prefix_only_windows": 2},
    "sample": {"interval": 0, "tokens": 5},
    "checkpoint": {"interval": 4, "keep": 0},
}
# Long enough to be interrupted.
ENDLESS = {"train": {"steps": 1000000}, "evaluation": {"interval": 0}, "checkpoint": {"interval": 0}}
# Small, as the emulated device is slow.
ON_CUDA = {"device": "cuda", "model": {"block_size": 8, "n_layer": 1}, "train": {"steps": 4, "batch_size": 3},
           "evaluation": {"interval": 2, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
           "sample": {"tokens": 1}}
TIMES = ("seconds", "tokens_per_second", "time")

# mpirun refuses to run as root without these; the rest lets more ranks than cores, and a machine without ssh, do.
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_plm_rsh_agent": "sh", "OMPI_MCA_hwloc_base_binding_policy": "none"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def without_ranks():
    """The environment without what would make a process a rank."""
    return {k: v for k, v in os.environ.items()
            if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")}


def doctor():
    return subprocess.run([str(REVERIE), "doctor"], capture_output=True, text=True, check=False, env=without_ranks()).stdout


def mpi_missing():
    if not shutil.which("mpirun"):
        return "there is no mpirun (openmpi-bin)"
    return None if "mpirun (" in doctor() else "this build has no MPI (libopenmpi-dev)"


def cuda_missing():
    """Why two ranks on device cuda cannot run here, or None."""
    said = doctor()
    status = re.search(r"^cuda .*?; (.*)$", said, re.M)[1]
    if status.startswith("emulated"):
        return None
    if "compute capability" not in status or "kernels want" in status:
        return f"device cuda: {status}"
    gpus = re.search(r"number \d+ of (\d+)", status)
    if not gpus or int(gpus[1]) < 2:
        return "device cuda with two ranks wants two GPUs, and there is one"
    return None if "by NCCL" in said else "device cuda: no NCCL in this build (libnccl-dev)"


class DistributedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-ranks-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(400))
        (cls.folder / "text.txt").write_text(text)
        cls.whole = cls.folder / "whole"
        done = subprocess.run([str(REVERIE), "train", str(cls.config("whole")), "--run-dir", str(cls.whole)], check=False,
                              capture_output=True, text=True, env=without_ranks())
        assert done.returncode == 0, done.stderr

    @classmethod
    def config(cls, name, **changes):
        experiment = json.loads(json.dumps(EXPERIMENT))
        experiment["data"] = {"path": str(cls.folder / "text.txt"), "prepared_directory": str(cls.folder / "tokens")}
        for key, value in changes.items():
            if isinstance(value, dict):
                experiment.setdefault(key, {}).update(value)
            else:
                experiment[key] = value
        file = cls.folder / f"{name}.json"
        file.write_text(json.dumps(experiment))
        return file

    def start(self, command, **environment):
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**without_ranks(), **environment}, cwd=self.folder)
        self.addCleanup(lambda: (process.poll() is None and process.kill(), process.wait(), process.stdout.close()))
        return process

    def start_tcp(self, ranks, arguments, **changes):
        """Processes with torchrun's variables. `changes`: arguments of single ranks, by "rank_1"."""
        port = str(free_port())
        return [self.start([REVERIE, *changes.get(f"rank_{rank}", arguments)], RANK=str(rank), LOCAL_RANK=str(rank),
                           WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=port) for rank in range(ranks)]

    def start_mpi(self, ranks, arguments):
        if reason := mpi_missing():
            self.skipTest(reason)
        return self.start(["mpirun", "-np", ranks, REVERIE, *arguments], **MPI)

    def finish(self, process, seconds=90):
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output

    def events(self, run):
        return [{k: v for k, v in json.loads(line).items() if k not in TIMES}
                for line in (run / "metrics.jsonl").read_text().splitlines()]

    @staticmethod
    def tensors(file):
        """Names, shapes and bytes; the metadata holds the verdict, which says that ranks are not copied (fork)."""
        data = file.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        header.pop("__metadata__", None)
        return header, data[end:]

    def assert_same_run(self, run, other=None):
        other = other or self.whole
        self.assertEqual(self.events(run), self.events(other))
        for file in ("model.safetensors", "optimizer.safetensors"):
            last = sorted((run / "checkpoints").iterdir())[-1] / file
            self.assertEqual(self.tensors(last), self.tensors(sorted((other / "checkpoints").iterdir())[-1] / file), file)

    def wait_for_steps(self, run, steps, *processes):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for process in processes:
                if process.poll() is not None:
                    self.fail(process.stdout.read())
            if (run / "metrics.jsonl").is_file() and len((run / "metrics.jsonl").read_text().splitlines()) >= steps:
                return
            time.sleep(0.05)
        self.fail("no steps were made")

    def process_of_mpi_rank(self, rank, run):
        for directory in Path("/proc").iterdir():
            try:
                if (f"OMPI_COMM_WORLD_RANK={rank}\0" in (directory / "environ").read_text()
                        and str(run) in (directory / "cmdline").read_text()):
                    return int(directory.name)
            except (OSError, UnicodeDecodeError):
                continue
        self.fail(f"there is no rank {rank}")

    # ---- mpirun ----
    def test_mpirun_equals_one_process_bit_by_bit(self):
        run = self.folder / "mpi"
        status, output = self.finish(self.start_mpi(2, ["train", self.config("mpi"), "--run-dir", run]))
        self.assertEqual(status, 0, output)
        self.assertIn("2 ranks over mpi", output)
        self.assertEqual(output.count("val prefix-only"), 3, output)  # two evaluations and the end: one rank reports
        self.assert_same_run(run)

    def test_mpirun_with_a_sharded_optimizer_equals_one_process(self):
        run = self.folder / "mpi-sharded"
        config = self.config("mpi-sharded", distributed={"shard_optimizer": True})
        status, output = self.finish(self.start_mpi(3, ["train", config, "--run-dir", run]))
        self.assertEqual(status, 0, output)
        self.assert_same_run(run)

    def test_mpirun_a_killed_rank_ends_all_and_is_named(self):
        run = self.folder / "mpi-killed"
        process = self.start_mpi(2, ["train", self.config("mpi-killed", **ENDLESS), "--run-dir", run])
        self.wait_for_steps(run, 3, process)
        os.kill(self.process_of_mpi_rank(1, run), signal.SIGKILL)
        status, output = self.finish(process, 30)
        self.assertNotEqual(status, 0)
        self.assertRegex(output, r"rank 1\b.*(exited on signal 9|Killed|has died)")

    def test_mpirun_a_signal_to_one_rank_stops_all_after_the_same_step(self):
        run = self.folder / "mpi-stopped"
        arguments = ["train", self.config("mpi-stopped", **ENDLESS), "--run-dir", run]
        process = self.start_mpi(2, arguments)
        self.wait_for_steps(run, 3, process)
        os.kill(self.process_of_mpi_rank(1, run), signal.SIGTERM)
        status, output = self.finish(process)
        self.assertEqual(status, 143, output)
        self.assert_stopped_cleanly(run, output)

    def test_mpirun_ranks_with_different_configs_are_refused(self):
        other, run = self.config("mpi-other", seed=8), self.folder / "mpi-different"
        process = self.start_mpi(1, ["train", self.config("mpi-different"), "--run-dir", run,
                                     ":", "-np", 1, REVERIE, "train", other, "--run-dir", run])
        status, output = self.finish(process, 30)
        self.assertEqual(status, 2, output)
        self.assertIn("$.config.seed: 7 -> 8", output)
        self.assertFalse(run.exists())

    def test_mpirun_a_rank_that_fails_ends_all_with_its_message(self):
        bad, run = self.config("mpi-bad", model={"n_layers": 3}), self.folder / "mpi-failed"
        process = self.start_mpi(1, ["train", self.config("mpi-good"), "--run-dir", run,
                                     ":", "-np", 1, REVERIE, "train", bad, "--run-dir", run])
        status, output = self.finish(process, 30)
        self.assertEqual(status, 2, output)
        self.assertIn("n_layers", output)

    def test_mpirun_a_rank_that_hangs_ends_all_within_the_time_limit(self):
        run = self.folder / "mpi-hung"
        process = self.start_mpi(2, ["train", self.config("mpi-hung", distributed={"timeout_seconds": 2}, **ENDLESS), "--run-dir", run])
        self.wait_for_steps(run, 3, process)
        os.kill(self.process_of_mpi_rank(1, run), signal.SIGSTOP)
        status, output = self.finish(process, 60)
        self.assertEqual(status, 1, output)
        self.assertIn("rank 1 gave no sign of life for 2 s", output)

    def assert_stopped_cleanly(self, run, output):
        step = int(re.search(r"stopped at step (\d+)", output)[1])
        self.assertEqual([c.name for c in (run / "checkpoints").iterdir()], [f"step_{step:08}"])
        self.assertEqual(self.events(run)[-1]["step"], step)
        self.assertFalse((run / "summary.json").exists())

    # ---- torchrun's variables ----
    def test_torchrun_variables_equal_one_process_bit_by_bit(self):
        run = self.folder / "tcp"
        processes = self.start_tcp(3, ["train", self.config("tcp"), "--run-dir", run])
        for status, output in map(self.finish, processes):
            self.assertEqual(status, 0, output)
        self.assert_same_run(run)
        self.assertEqual(json.loads((run / "summary.json").read_text())["ranks"], 3)

    def test_ranks_in_bf16_that_share_masters_equal_one_process_bit_by_bit(self):
        # Products in f32 depend on the number of threads.
        changes, whole, run = {"precision": "bf16", "train": {"exact_sums": "on"}}, self.folder / "bf16-whole", self.folder / "bf16-shared"
        process = self.start([REVERIE, "train", self.config("bf16-whole", **changes), "--run-dir", whole], OMP_NUM_THREADS="1")
        status, output = self.finish(process)
        self.assertEqual(status, 0, output)
        arguments = [REVERIE, "train", self.config("bf16-shared", distributed={"shard_optimizer": True}, **changes), "--run-dir", run]
        port = str(free_port())
        processes = [self.start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="3", MASTER_ADDR="127.0.0.1",
                                MASTER_PORT=port, OMP_NUM_THREADS="1") for rank in range(3)]
        for status, output in map(self.finish, processes):
            self.assertEqual(status, 0, output)
        self.assert_same_run(run, whole)

    def test_the_port_that_torchrun_keeps_for_itself_is_left_alone(self):
        with socket.socket() as agent:
            agent.bind(("127.0.0.1", 0))
            agent.listen()
            run, port = self.folder / "agent", str(agent.getsockname()[1])
            arguments = [REVERIE, "train", self.config("agent"), "--run-dir", run]
            processes = [self.start(arguments, RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                                    TORCHELASTIC_USE_AGENT_STORE="True") for rank in range(2)]
            for status, output in map(self.finish, processes):
                self.assertEqual(status, 0, output)
        self.assert_same_run(run)

    def test_a_killed_rank_ends_all_and_is_named(self):
        run = self.folder / "tcp-killed"
        processes = self.start_tcp(3, ["train", self.config("tcp-killed", **ENDLESS), "--run-dir", run])
        self.wait_for_steps(run, 3, *processes)
        processes[2].kill()
        for process in processes[:2]:
            status, output = self.finish(process, 30)
            self.assertEqual(status, 1, output)
            self.assertRegex(output, rf"rank 2 \(.*process {processes[2].pid}\) has died")

    def test_a_rank_that_hangs_ends_all_within_the_time_limit(self):
        run = self.folder / "tcp-hung"
        config = self.config("tcp-hung", distributed={"timeout_seconds": 2}, **ENDLESS)
        processes = self.start_tcp(2, ["train", config, "--run-dir", run])
        self.wait_for_steps(run, 3, *processes)
        processes[1].send_signal(signal.SIGSTOP)
        status, output = self.finish(processes[0], 30)
        processes[1].kill()
        self.assertEqual(status, 1, output)
        self.assertRegex(output, r"rank 1 \(.*\) gave no sign of life for 2 s")

    def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on_in_one_process(self):
        run, whole = self.folder / "tcp-stopped", self.folder / "tcp-unstopped"
        changes = {"train": {"steps": 400}, "evaluation": {"interval": 0}, "checkpoint": {"interval": 0}}
        config = self.config("tcp-stopped", **changes)
        processes = self.start_tcp(2, ["train", config, "--run-dir", run])
        self.wait_for_steps(run, 3, *processes)
        processes[1].send_signal(signal.SIGTERM)
        (first, output), (second, _) = map(self.finish, processes)
        self.assertEqual((first, second), (143, 143), output)
        self.assert_stopped_cleanly(run, output)
        for arguments in (["--run-dir", run, "--resume"], ["--run-dir", whole]):
            status, output = self.finish(self.start([REVERIE, "train", config, *arguments]))
            self.assertEqual(status, 0, output)
        self.assert_same_run(run, whole)

    def test_ranks_with_different_configs_are_refused(self):
        other = self.config("other", optimizer={"learning_rate": 0.5})
        run = self.folder / "different"
        processes = self.start_tcp(2, ["train", self.config("different"), "--run-dir", run], rank_1=["train", other, "--run-dir", run])
        for status, _ in (results := [self.finish(p) for p in processes]):
            self.assertEqual(status, 2, results)
        self.assertIn("$.config.optimizer.learning_rate", results[0][1])
        self.assertIn("rank 1", results[0][1])
        self.assertFalse(run.exists())

    def test_a_rank_with_a_bad_config_ends_the_others(self):
        bad = self.config("bad", model={"n_layers": 3})
        run = self.folder / "bad-run"
        processes = self.start_tcp(2, ["train", self.config("good"), "--run-dir", run], rank_1=["train", bad, "--run-dir", run])
        first, second = [self.finish(p) for p in processes]
        self.assertEqual(second[0], 2, second)
        self.assertNotEqual(first[0], 0, first)
        self.assertIn("n_layers", first[1])

    def test_a_missing_rank_is_named_in_time(self):
        process = self.start([REVERIE, "train", self.config("alone"), "--run-dir", self.folder / "alone"], RANK="0", WORLD_SIZE="2",
                             MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), REVERIE_START_SECONDS="1")
        status, output = self.finish(process, 30)
        self.assertEqual(status, 1, output)
        self.assertIn("rank 1 of 2", output)

    def test_variables_that_make_no_sense_exit_2(self):
        config = self.config("variables")
        for environment in ({"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two", "RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "2"},
                            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "99999"}):
            status, output = self.finish(self.start([REVERIE, "train", config, "--run-dir", self.folder / "x"], **environment), 30)
            self.assertEqual(status, 2, (environment, output))
            self.assertRegex(output, "RANK|WORLD_SIZE|MASTER_PORT")

    # ---- device cuda: two GPUs, or the emulated device ----
    def config_on_cuda(self, name, **changes):
        if reason := cuda_missing():
            self.skipTest(reason)
        return self.config(name, **ON_CUDA | changes)

    def one_process_on_cuda(self):
        run = self.folder / "cuda-whole"
        if not run.exists():
            status, output = self.finish(self.start([REVERIE, "train", self.config_on_cuda("cuda-whole"), "--run-dir", run]), 300)
            self.assertEqual(status, 0, output)
        return run

    def test_two_ranks_on_cuda_equal_one_process_bit_by_bit(self):
        for name, changes in (("cuda-tcp", {}), ("cuda-tcp-sharded", {"distributed": {"shard_optimizer": True}})):
            config, run = self.config_on_cuda(name, **changes), self.folder / name
            results = [self.finish(p, 300) for p in self.start_tcp(2, ["train", config, "--run-dir", run])]
            for status, output in results:
                self.assertEqual(status, 0, output)
            self.assertRegex(results[0][1], "2 ranks over tcp, (nccl|emulated)")
            self.assert_same_run(run, self.one_process_on_cuda())

    def test_mpirun_on_cuda_equals_one_process_bit_by_bit(self):
        config, run = self.config_on_cuda("cuda-mpi"), self.folder / "cuda-mpi"
        status, output = self.finish(self.start_mpi(2, ["train", config, "--run-dir", run]), 300)
        self.assertEqual(status, 0, output)
        self.assertRegex(output, "2 ranks over mpi, (nccl|emulated)")
        self.assert_same_run(run, self.one_process_on_cuda())

    def test_a_killed_rank_on_cuda_ends_all_and_is_named(self):
        config, run = self.config_on_cuda("cuda-killed", **ENDLESS), self.folder / "cuda-killed"
        processes = self.start_tcp(2, ["train", config, "--run-dir", run])
        self.wait_for_steps(run, 3, *processes)
        processes[1].kill()
        status, output = self.finish(processes[0], 30)
        self.assertEqual(status, 1, output)
        self.assertRegex(output, rf"rank 1 \(.*process {processes[1].pid}\) has died")

    def test_a_rank_on_cuda_that_hangs_ends_all_within_the_time_limit(self):
        config = self.config_on_cuda("cuda-hung", distributed={"timeout_seconds": 2}, **ENDLESS)
        run = self.folder / "cuda-hung"
        processes = self.start_tcp(2, ["train", config, "--run-dir", run])
        self.wait_for_steps(run, 3, *processes)
        processes[1].send_signal(signal.SIGSTOP)
        status, output = self.finish(processes[0], 30)
        processes[1].kill()
        self.assertEqual(status, 1, output)
        self.assertRegex(output, r"rank 1 \(.*\) gave no sign of life for 2 s")

    def test_sweeps_run_in_one_process(self):
        command = [REVERIE, "sweep", ROOT / "configs/shakespeare_gpt.json", "--set", "optimizer.learning_rate=1e-3,3e-4"]
        status, output = self.finish(self.start(command, WORLD_SIZE="2", RANK="0"))
        self.assertEqual(status, 2, output)
        self.assertIn("one process", output)

    def test_cores_are_shared(self):
        run = self.folder / "threads"
        processes = self.start_tcp(2, ["train", self.config("threads"), "--run-dir", run])
        cores = len(os.sched_getaffinity(0))
        (status, output), _ = map(self.finish, processes)
        self.assertEqual(status, 0, output)
        self.assertIn(f"this one with {max(1, cores // 2)} thread", output)


if __name__ == "__main__":
    unittest.main()
