#!/usr/bin/env python3
"""Kills training, final evaluations, `prepare`, `repro` and `eval` at random moments, and goes on until they finish.

    scripts/kill_runs.py --kills 200          # some minutes; --seed draws other moments

Ways to be killed: SIGKILL, SIGTERM, SIGHUP, SIGINT, a reader that closes the pipe, a full disk. The disk is a tmpfs in a mount
namespace (unshare) that is made as small as what it holds and a little more; where the system refuses namespaces, a limit on the
size of files stands for it, and the last line says so. After each: nothing is lost but steps since the last checkpoint, and after SIGTERM, SIGHUP and SIGINT not even
those. At the end: weights, optimizer, measurements and tables are those of a run that nobody killed, bit by bit, and no file is
left that such a run does not leave. Exits 1 at the first difference, and keeps the folder to look at.
"""

import argparse
import collections
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS, INTERVAL = 60, 10
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGINT": signal.SIGINT}
WAYS = [*SIGNALS, "closed pipe", "full disk"]
EXPERIMENT = {
    "seed": 7,
    "model": {"type": "gpt2", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 48, "dropout": 0.1},
    "train": {"steps": STEPS, "batch_size": 8},
    "optimizer": {"warmup_steps": 10},
    "evaluation": {"interval": 15, "windows": 8, "prefix_only_windows": 2, "final_windows": 0, "final_prefix_only_windows": 64, "batch_size": 8},
    "sample": {"interval": 20, "tokens": 10},
    "checkpoint": {"interval": INTERVAL, "keep": 1},
}
TIMES = ("seconds", "tokens_per_second")


class Lost(Exception):
    """What should not have happened."""


def need(condition, text):
    if not condition:
        raise Lost(text)


class Disk:
    """A tmpfs that can be made full. Exists in this process's mount namespace alone."""

    ROOM = 1 << 30

    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.ROOM}", "tmpfs", folder], check=True)

    def leave(self, size):
        """From now on `size` more bytes can be written, rounded up to pages."""
        info = os.statvfs(self.folder)
        used = (info.f_blocks - info.f_bfree) * info.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + size}", self.folder], check=True)

    def leave_plenty(self):
        subprocess.run(["mount", "-o", f"remount,size={self.ROOM}", self.folder], check=True)


class FileSizeLimit:
    """No file may grow beyond a size: write() fails as on a full disk, with another error."""

    def __init__(self, why):
        self.why = why


NAMESPACE = "REVERIE_KILL_RUNS_NAMESPACE"  # set in the process that has a mount namespace of its own


def enter_namespace():
    """Starts this script again in a mount namespace of its own; returns only where that is refused -> why."""
    if not shutil.which("unshare"):
        return "unshare is not installed"
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
    sys.stdout.flush()
    os.execvpe(command[0], [*command, sys.executable, __file__, *sys.argv[1:]], {**os.environ, NAMESPACE: "1"})


class Killer:
    def __init__(self, program, folder, seed, disk):
        self.program, self.folder, self.random, self.disk = program, folder, random.Random(seed), disk
        self.counts = collections.Counter()
        self.ways = []  # still to come before all have been
        self.refused = 0  # times that a full disk ended the program
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

    def start(self, arguments, limit=None):
        def prepare():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return subprocess.Popen([self.program, *map(str, arguments)], cwd=self.folder, env=self.env, preexec_fn=prepare,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def whole(self, *arguments):
        """Runs to the end -> seconds."""
        begin = time.monotonic()
        process = self.start(arguments)
        output = process.communicate()[0].decode(errors="replace")
        need(process.returncode == 0, f"{arguments}: exit code {process.returncode}\n{output}")
        return time.monotonic() - begin

    def next_way(self):
        """Every way as often as the others, in random order."""
        if not self.ways:
            self.ways = self.random.sample(WAYS, len(WAYS))
        return self.ways.pop()

    def kill(self, kind, seconds, arguments):
        """Runs it and kills it somewhere in `seconds` -> (way, exit code, output)."""
        way = self.next_way()
        self.counts[kind, way] += 1
        # From hardly anything to more than the largest file.
        room = int(2 ** self.random.uniform(8, 21)) if way == "full disk" else None
        small_disk = room is not None and isinstance(self.disk, Disk)
        if small_disk:
            self.disk.leave(room)
        process = self.start(arguments, None if small_disk else room)
        if way != "full disk":
            time.sleep(self.random.uniform(0, seconds))
        output = b""
        if way == "closed pipe":
            process.stdout.close()
            process.wait(timeout=300)
        else:
            if way in SIGNALS:
                process.send_signal(SIGNALS[way])
            output = process.communicate(timeout=300)[0]
        if small_disk:
            self.disk.leave_plenty()
        code, text = process.returncode, output.decode(errors="replace")
        number = int(SIGNALS.get(way, 0))
        fine = {"SIGKILL": (0, -number), "closed pipe": (0, 141), "full disk": (0, 1)}.get(way, (0, -number, 128 + number))
        need(code in fine, f"{kind}: exit code {code} after {way}, wanted one of {fine}\n{text}")
        if way == "full disk" and code == 1:
            wanted = "No space left on device" if small_disk else "File too large"
            need("cannot" in text and wanted in text, f"{kind}: no message says what cannot be written and that there is {wanted!r}:\n{text}")
            self.refused += 1
        return way, code, text

    # ---- training and its final evaluation
    def measured(self, run):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in event.items() if k not in TIMES} for event in lines]

    def result(self, run):
        """All that a finished run holds, without times."""
        summary = json.loads((run / "summary.json").read_text())
        files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and p.parent.name != "tensorboard")
        bits = {p: (run / p).read_bytes() for p in files if p.endswith(".safetensors")}
        return {"files": files, "bits": bits, "measured": self.measured(run), "summary": {k: v for k, v in summary.items() if k not in TIMES}}

    def check_killed_run(self, run, way, code, trained_before):
        steps = [e["step"] for e in self.events(run) if e["event"] == "train"]
        trained = max(steps, default=0)
        saved = max((int(p.parent.name[5:]) for p in run.glob("checkpoints/step_????????/COMPLETE")), default=0)
        need(steps == sorted(set(steps)), f"metrics.jsonl has steps twice: {steps}")
        if way in ("SIGTERM", "SIGHUP", "SIGINT") and code > 0:
            need(saved == trained, f"{way}: {trained} steps trained, {saved} saved")
            strays = [str(p) for p in run.rglob("*") if ".tmp-" in p.name or p.name == "run.lock"]
            need(not strays, f"{way} left {strays}")
        need(trained - saved <= INTERVAL, f"{way}: {trained} steps trained, {saved} saved, checkpoints every {INTERVAL}")
        need(saved >= trained_before, f"{way}: a checkpoint of step {trained_before} was there, {saved} now")
        return saved

    def events(self, run):
        file = run / "metrics.jsonl"
        text = file.read_text(errors="replace") if file.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def train(self, kills):
        reference = self.folder / "reference"
        if not reference.exists():
            self.train_seconds = self.whole("train", "c.json", "--run-dir", reference)
        run = self.folder / "run"
        saved = 0
        for _ in range(kills):
            arguments = ["train", "c.json", "--run-dir", run, "--resume"]
            done = json.loads((run / "summary.json").read_text()) if (run / "summary.json").exists() else None
            if done:
                break
            kind = "final evaluation" if saved == STEPS else "training"
            way, code, _ = self.kill(kind, self.train_seconds * (0.6 if saved == STEPS else 1.1), arguments)
            saved = self.check_killed_run(run, way, code, saved)
        # The config is in the run, where it got so far.
        self.whole("train", *([] if (run / "config.resolved.json").exists() else ["c.json"]), "--run-dir", run, "--resume")
        got, wanted = self.result(run), self.result(reference)
        for what, value in wanted.items():
            need(got[what] == value, f"a killed run ends with other {what} than a whole one:\n"
                 + ("" if what == "bits" else f"{got[what]}\n{value}"))
        shutil.rmtree(run)

    # ---- prepare
    def prepare(self, kills):
        reference = self.folder / "prepared_reference"
        if not reference.exists():
            self.prepare_seconds = self.whole("prepare", "large.txt", "--out", reference)
        out = self.folder / "prepared"
        for _ in range(kills):
            way, code, text = self.kill("prepare", self.prepare_seconds, ["prepare", "large.txt", "--out", out])
            if out.exists():  # then all of it
                self.same_files(reference, out)
                shutil.rmtree(out)
            elif way != "SIGKILL" and code != -int(SIGNALS.get(way, 0)):
                need(code != 0, f"prepare exits with 0 and made nothing\n{text}")
                need(not list(self.folder.glob("prepared.*")), f"{way} left {list(self.folder.glob('prepared.*'))}")
        self.whole("prepare", "large.txt", "--out", out)
        self.same_files(reference, out)
        need(not list(self.folder.glob("prepared.*")), f"left behind: {list(self.folder.glob('prepared.*'))}")
        shutil.rmtree(out)

    def same_files(self, one, two):
        files = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in (one, two)]
        need(files[0] == files[1], f"{one} and {two} differ: {[sorted(f) for f in files]}")

    # ---- repro
    def table(self, out):
        files = sorted(re.sub(r"events\..*", "events", str(p.relative_to(out))) for p in out.rglob("*") if p.is_file())
        drop = lambda v: ({k: drop(x) for k, x in v.items() if "seconds" not in k and k not in TIMES} if isinstance(v, dict)
                          else [drop(x) for x in v] if isinstance(v, list) else v)
        table = drop(json.loads((out / "table.json").read_text()))
        return sorted(set(files)), {k: v for k, v in table.items() if k in ("rows", "gains", "kind", "title")}

    def repro(self, kills):
        arguments = lambda out: ["repro", "table.json", "--preset", "tiny", "--run-dir", out]
        reference, out = self.folder / "table_reference", self.folder / "table"
        if not reference.exists():
            self.repro_seconds = self.whole(*arguments("table_reference"))
        for _ in range(kills):
            self.kill("repro", self.repro_seconds, arguments("table"))
        self.whole(*arguments("table"))
        got, wanted = self.table(out), self.table(reference)
        need(got == wanted, f"a killed table differs from a whole one:\n{got}\n{wanted}")
        shutil.rmtree(out)

    # ---- eval
    def evaluate(self, kills):
        if not (self.folder / "figures").exists():
            (self.folder / "figures").mkdir()
            self.eval_seconds = self.whole("eval", "reference", "--json", "figures/wanted.json")
        file = self.folder / "figures/got.json"
        wanted = (self.folder / "figures/wanted.json").read_text()
        for _ in range(kills):
            file.unlink(missing_ok=True)
            way, code, _ = self.kill("eval", self.eval_seconds, ["eval", "reference", "--json", file])
            need(not file.exists() or file.read_text() == wanted, f"{file} holds other figures after {way}")
            need(code != 0 or file.exists(), f"eval exits with 0 and wrote no figures ({way})")
        self.whole("eval", "reference", "--json", file)
        need(sorted(p.name for p in file.parent.iterdir()) == ["got.json", "wanted.json"], f"left: {list(file.parent.iterdir())}")

    def run(self, kills):
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(600))
        (self.folder / "text.txt").write_text(text)
        (self.folder / "large.txt").write_text("".join(f"{n} {text}" for n in range(700)))
        experiment = {**EXPERIMENT, "data": {"path": "text.txt", "prepared_directory": "tokens"}}
        (self.folder / "c.json").write_text(json.dumps(experiment))
        table = {"title": "a small table", "report": {}, "base": {**experiment, "train": {"steps": 20, "batch_size": 4},
                 "evaluation": {**EXPERIMENT["evaluation"], "final_windows": 8, "final_prefix_only_windows": 4}},
                 "block_sizes": {"32": {}}, "models": {"gpt": {}}, "presets": {"tiny": {"models": ["gpt"], "block_sizes": [32], "seeds": [1, 2]}}}
        (self.folder / "table.json").write_text(json.dumps(table))
        self.whole("prepare", "text.txt", "--out", "tokens")
        rounds = [self.train, self.train, self.train, self.prepare, self.repro, self.evaluate]
        number = 0
        while sum(self.counts.values()) < kills:
            before = sum(self.counts.values())
            rounds[number % len(rounds)](min(self.random.randint(1, 6), kills - before))
            number += 1
            print(f"{sum(self.counts.values())} of {kills} kills, {number} rounds", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", default=os.environ.get("REVERIE_BUILD_DIR", str(ROOT / "build/release")) + "/reverie")
    options = parser.parse_args()
    refusal = None if os.environ.get(NAMESPACE) else enter_namespace()
    outside = Path(tempfile.mkdtemp(prefix="reverie-kills-"))
    folder = outside / "disk"
    folder.mkdir()
    disk = FileSizeLimit(refusal) if refusal else Disk(folder)
    killer = Killer(str(Path(options.program).resolve()), folder, options.seed, disk)
    try:
        killer.run(options.kills)
    except Lost as lost:
        shutil.copytree(folder, outside / "kept")  # the disk goes with the process
        print(f"LOST: {lost}\nseed {options.seed}, after {sum(killer.counts.values())} kills; look at {outside / 'kept'}", file=sys.stderr)
        return 1
    if isinstance(disk, Disk):
        subprocess.run(["umount", folder], check=True)
    shutil.rmtree(outside)
    kinds = sorted({kind for kind, _ in killer.counts})
    print(f"{'':18}" + "".join(f"{way:>13}" for way in WAYS))
    for kind in kinds:
        print(f"{kind:18}" + "".join(f"{killer.counts[kind, way]:13}" for way in WAYS))
    print(f"{sum(killer.counts.values())} kills, seed {options.seed}: nothing lost but steps since the last checkpoint, no stray file, "
          "the same bits at the end")
    if isinstance(disk, Disk):
        print(f"full disk: a tmpfs that was full; {killer.refused} programs ended with \"No space left on device\", the others needed no more than was left")
    else:
        print(f"full disk: NOT a full disk but a limit on the size of files, since there are no mount namespaces here ({disk.why}); "
              f"{killer.refused} programs ended with \"File too large\"")
    return 0


if __name__ == "__main__":
    sys.exit(main())
