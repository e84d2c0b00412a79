"""A memory module in a project of its own: built against the installed package, trained, probed, refused.

Needs a finished build (REVERIE_BUILD_DIR, or build/release), cmake and ninja. Installs into a temporary prefix.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
ROOT = EXAMPLE.parent.parent
BUILD = Path(os.environ.get("REVERIE_BUILD_DIR", ROOT / "build" / "release"))
STEPS = 20
REFUSED, LEAKS = 2, 5  # exit statuses: wrong configuration; a check did not hold


class PluginTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory(prefix="reverie-plugin-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        prefix, build = cls.folder / "prefix", cls.folder / "build"
        cls.done(["cmake", "--install", BUILD, "--prefix", prefix])
        # The example is copied out, so that it cannot lean on the repository around it.
        example = cls.folder / "example"
        shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        cls.done(["cmake", "-S", example, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
                  "-DCMAKE_BUILD_TYPE=Release"])
        cls.done(["cmake", "--build", build])
        cls.reverie, cls.prefix = prefix / "bin" / "reverie", prefix

        for plugin in build.glob("*.so"):
            shutil.copy(plugin, cls.folder)  # "plugins" are looked for beside the config
        text = "".join(f"The {n}. line of a text that is made up, to be learnt by heart.\n" for n in range(400))
        (cls.folder / "text.txt").write_text(text)

    @classmethod
    def done(cls, command: list) -> str:
        """The output of a command that must succeed."""
        got = cls.run_command(command)
        if got.returncode != 0:
            raise AssertionError(f"{command} ended with {got.returncode}:\n{got.stdout}")
        return got.stdout

    @classmethod
    def run_command(cls, command: list) -> subprocess.CompletedProcess:
        """Standard output and error in one text; outside the repository, so that nothing lands in it."""
        return subprocess.run([str(c) for c in command], cwd=cls.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)

    def config(self, name: str, memory: dict, plugin: str, **more) -> Path:
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps({
            "plugins": [plugin],
            "data": {"path": str(self.folder / "text.txt"), "prepared_directory": str(self.folder / "tokens")},
            "model": {"type": "gpt2", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 32, "memory": memory},
            "train": {"steps": STEPS, "batch_size": 4},
            "evaluation": {"interval": 10, "windows": 4, "prefix_only_windows": 2, "final_windows": 4,
                           "final_prefix_only_windows": 2},
            "sample": {"interval": 0, "tokens": 8},
            **more,
        }))
        return file

    def summary(self, run: Path) -> dict:
        return json.loads((run / "summary.json").read_text())

    def test_everything_lies_where_the_package_says(self) -> None:
        for file in ("bin/reverie", "include/reverie/core/error.h", "include/reverie/layers/memory/memory_module.h",
                     "share/reverie/docs/extending.md", "share/reverie/scripts/fetch.py",
                     "share/reverie/configs/tables/imm_shakespeare.json"):
            self.assertTrue((self.prefix / file).is_file(), file)
        headers = {str(h.relative_to(self.prefix / "include" / "reverie"))
                   for h in (self.prefix / "include").rglob("*.h")}
        for room in ("core", "kernels", "autograd", "layers", "datasets", "trainers"):
            self.assertTrue(any(h.startswith(f"{room}/") for h in headers), f"no headers of {room}")
        self.assertFalse([h for h in headers if "/cpu/" in h or h.endswith("_internal.h")])

    def test_the_package_is_the_framework_without_the_application(self) -> None:
        include = self.prefix / "include" / "reverie" / "trainers"
        self.assertTrue((include / "training" / "trainer.h").is_file())
        for room in ("reports", "checks", "tables", "cli"):
            self.assertFalse((include / room).exists(), room)
        package = "".join(f.read_text() for f in (self.prefix / "lib").rglob("reverie*.cmake"))
        self.assertIn("reverie::trainers", package)
        self.assertNotIn("CLI11", package)

    def test_the_libraries_alone_need_no_cli11(self) -> None:
        build = self.folder / "libraries"
        self.done(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DREVERIE_PROGRAM=OFF", "-DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON"])
        targets = self.done(["ninja", "-C", build, "-t", "targets", "all"])
        self.assertIn("libreverie_trainers.so", targets)
        self.assertNotIn("libreverie_application.so", targets)

    def test_every_installed_header_compiles_alone(self) -> None:
        include = self.prefix / "include" / "reverie"
        headers = sorted(include.rglob("*.h"))
        self.assertGreater(len(headers), 30)
        def fault(header: Path) -> str:
            got = self.run_command(["c++", "-std=c++20", "-fsyntax-only", "-x", "c++", f"-I{include}", header])
            return "" if got.returncode == 0 else f"{header.relative_to(include)}:\n{got.stdout[-1500:]}"

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            failed = [f for f in pool.map(fault, headers) if f]
        self.assertFalse(failed, "\n".join(failed))

    def test_modules_lists_the_plugin_with_its_options(self) -> None:
        listed = self.done([self.reverie, "modules", "--plugin", self.folder / "decay_memory.so"])
        self.assertIn('"decay"', listed)
        self.assertIn("carry_state", listed)

    def test_decay_memory_trains_from_a_config_and_is_causal(self) -> None:
        config = self.config("decay", {"type": "decay", "decay": 0.8}, "decay_memory.so")
        self.done([self.reverie, "check", "causality", config])
        run = self.folder / "run-decay"
        self.done([self.reverie, "train", config, "--run-dir", run])
        summary = self.summary(run)
        self.assertTrue(summary["causal"])
        self.assertEqual(summary["max_future_logit_change"], 0)
        self.assertLess(summary["val_loss"], 4.0)
        steps = {json.loads(line).get("step") for line in (run / "metrics.jsonl").read_text().splitlines()}
        self.assertIn(STEPS, steps)
        self.assertTrue((run / "checkpoints" / f"step_{STEPS:08d}" / "COMPLETE").is_file())
        # The trained weights hold the module's parameters, and pass the probe as well.
        self.done([self.reverie, "check", "causality", run])
        resolved = json.loads((run / "config.resolved.json").read_text())
        self.assertEqual(resolved["model"]["memory"], {"type": "decay", "decay": 0.8, "carry_state": False})
        weights = (run / "checkpoints" / f"step_{STEPS:08d}" / "model.safetensors").read_bytes()
        header = json.loads(weights[8:8 + int.from_bytes(weights[:8], "little")])
        self.assertTrue([name for name in header if name.endswith("memory.gate.weight")], sorted(header))
        # What was trained leaves with the name of the plugin that knows it, and comes back.
        state, text = self.folder / "decay-state", self.folder / "some.txt"
        self.done([self.reverie, "inspect", run, "--export-state", state])
        text.write_text((self.folder / "text.txt").read_text()[:300])
        scored = [self.done([self.reverie, "eval", "--model", model, "--text", text]).splitlines()[1:7] for model in (run, state)]
        self.assertEqual(*scored)
        # A plugin that was rebuilt is another one, whatever it does.
        plugin = self.folder / "decay_memory.so"
        before = plugin.read_bytes()
        try:
            plugin.write_bytes(before + b"\0")
            self.assertIn("OTHER PLUGIN: decay_memory.so", self.done([self.reverie, "eval", "--model", run, "--text", text]))
        finally:
            plugin.write_bytes(before)
        self.assertNotIn("OTHER PLUGIN", self.done([self.reverie, "eval", "--model", run, "--text", text]))

    def test_memory_that_is_carried_is_causal_too(self) -> None:
        config = self.config("carried", {"type": "decay", "carry_state": True}, "decay_memory.so")
        self.done([self.reverie, "check", "causality", config])

    def test_one_flag_puts_the_plugin_into_the_table_of_memories(self) -> None:
        table = self.prefix / "share/reverie/configs/tables/memory.json"
        mine = {"model": {"memory": {"type": "decay", "carry_state": True}}}
        directory = self.folder / "memories"
        said = self.done([self.reverie, "repro", table, "--preset", "smoke", "--run-dir", directory,
                          "--set", f"plugins={json.dumps([str(self.folder / 'decay_memory.so')])}",
                          "--set-table", f"models.mine={json.dumps(mine)}", "--only", "mine", "--only", "no_memory",
                          # A part of the table, so that it takes seconds.
                          "--set-table", 'presets.smoke.tasks=["recall"]', "--set", "train.steps=4"])
        self.assertIn("| mine |", said)
        rows = {row["model"]: row for row in json.loads((directory / "table.json").read_text())["rows"]}
        self.assertEqual(sorted(rows), ["mine", "no_memory"])
        self.assertEqual(rows["mine"]["verdict"], "causal")
        self.assertEqual(rows["mine"]["state_bytes"], 2 * 64 * 4)  # of each layer, n_embd numbers
        self.assertIsNotNone(rows["mine"]["measured"]["right_beyond_one_window"]["wiped"])
        # A memory that is not carried has nothing to wipe.
        mine["model"]["memory"]["carry_state"] = False
        got = self.run_command([self.reverie, "repro", table, "--run-dir", self.folder / "memories-2",
                                "--set", f"plugins={json.dumps([str(self.folder / 'decay_memory.so')])}",
                                "--set-table", f"models.mine={json.dumps(mine)}"])
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("nothing to wipe", got.stdout)

    def test_wrong_options_are_refused_with_their_place(self) -> None:
        for memory, wanted in (({"type": "decay", "decya": 0.5}, "decay"), ({"type": "decay", "decay": 1.5}, "1.5"),
                               ({"type": "deacy"}, "decay")):
            config = self.config("wrong", memory, "decay_memory.so")
            got = self.run_command([self.reverie, "train", config, "--run-dir", self.folder / "run-wrong"])
            self.assertEqual(got.returncode, REFUSED, got.stdout)
            self.assertIn("$.model.memory", got.stdout)
            self.assertIn(wanted, got.stdout)

    def test_peeking_memory_is_refused_by_the_gate(self) -> None:
        config = self.config("peeking", {"type": "peeking"}, "peeking_memory.so")
        got = self.run_command([self.reverie, "check", "causality", config])
        self.assertEqual(got.returncode, LEAKS, got.stdout)
        self.assertIn("LEAKS", got.stdout)
        run = self.folder / "run-peeking"
        got = self.run_command([self.reverie, "train", config, "--run-dir", run])
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("allow_future_leak", got.stdout)
        self.assertFalse((run / "summary.json").exists())

    def test_peeking_memory_trains_only_under_its_label(self) -> None:
        config = self.config("allowed", {"type": "peeking"}, "peeking_memory.so", allow_future_leak=True)
        run = self.folder / "run-allowed"
        said = self.done([self.reverie, "train", config, "--run-dir", run])
        self.assertIn("LEAKS", said)
        summary = self.summary(run)
        self.assertFalse(summary["causal"])
        self.assertGreater(summary["max_future_logit_change"], 0)

    def latent_config(self, name: str, latents: dict, plugin: str = "peeking_latents.so", **more) -> Path:
        model = {"type": "augmented", "base": str(ROOT / "tests/golden/pretrained/llama"), "block_size": 24, "groups": 4,
                 "ahead": 4, "latents": latents}
        return self.config(name, {}, plugin, model=model, sample={"interval": 0, "tokens": 0}, **more)

    def test_peeking_latents_are_refused_and_labelled_where_allowed(self) -> None:
        config = self.latent_config("latents", {"type": "peeking_latents"})
        run = self.folder / "run-latents"
        got = self.run_command([self.reverie, "train", config, "--run-dir", run])
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("LEAKS: latents: other text behind a group's limit", got.stdout)
        self.assertFalse(run.exists())
        table = self.folder / "latents_table.json"
        table.write_text(json.dumps({
            "title": "latents", "kind": "latent_effect", "base": json.loads(config.read_text()),
            "models": {"peeking": {}}, "measure": {"positions": 4, "points": 4, "batch_size": 4, "resamples": 10},
            "report": {"models": {"peeking": {"title": "Peeking"}}},
            "presets": {"tiny": {"seeds": [1], "cells": {"peeking": [1]},
                                 "base_model": str(ROOT / "tests/golden/pretrained/llama")}}}))
        repro = [self.reverie, "repro", table, "--preset", "tiny", "--run-dir", self.folder / "latents-table"]
        got = self.run_command(repro)
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("LEAKS", got.stdout)

        allowed = self.latent_config("latents-allowed", {"type": "peeking_latents"}, allow_future_leak=True)
        said = self.done([self.reverie, "train", allowed, "--run-dir", run])
        self.assertIn("LEAKS", said.splitlines()[-1])
        summary = self.summary(run)
        self.assertEqual((summary["causal"], summary["label"], summary["verdict"]["state"]), (False, "LEAKS", "leaks"))
        for line in (run / "metrics.jsonl").read_text().splitlines():
            self.assertEqual(json.loads(line)["label"], "LEAKS")
        for command in (["eval", run, "--windows", "2", "--prefix-only-windows", "1"], ["inspect", run]):
            self.assertIn("LEAKS", self.done([self.reverie, *command]))
        got = self.run_command([self.reverie, "check", "causality", run])
        self.assertEqual(got.returncode, LEAKS, got.stdout)

    def test_what_is_no_exception_ends_with_a_message(self) -> None:
        config = self.latent_config("throws", {"type": "peeking_latents", "throws": True})
        got = self.run_command([self.reverie, "train", config, "--run-dir", self.folder / "run-throws"])
        self.assertEqual(got.returncode, 1, got.stdout)
        self.assertIn("no std::exception", got.stdout)

    def test_a_coprocessor_that_fails_leaves_the_bases_own_text(self) -> None:
        config = self.latent_config("unreliable", {"type": "unreliable_latents"}, "unreliable_latents.so")
        run = self.folder / "run-unreliable"
        self.done([self.reverie, "train", config, "--run-dir", run])

        def sample(what: str, *arguments, status: int = 0) -> tuple:
            command = [self.reverie, "sample", run, "--coprocessor", run, "--prompt", "The ", "--max-tokens", 20, "--greedy",
                       "--json", self.folder / "sample.json", *arguments]
            (self.folder / "sample.json").unlink(missing_ok=True)
            got = subprocess.run([str(c) for c in command], cwd=self.folder, capture_output=True, text=True, check=False,
                                 env={**os.environ, "UNRELIABLE_LATENTS": what}, timeout=120)
            self.assertEqual(got.returncode, status, (what, arguments, got.stdout, got.stderr))
            file = self.folder / "sample.json"
            return got.stdout, got.stderr, json.loads(file.read_text()) if file.exists() else None

        _, _, whole = sample("", "--async", "--latents-late", 5)
        self.assertNotEqual(whole["with_latents"]["tokens"], whole["base"]["tokens"])
        own = whole["base"]["text"]
        # While the base waits, the coprocessor's failure is the command's.
        self.assertIn("the latents were lost", sample("throw", status=1)[1])
        for what, message, contained in (("throw", "the latents were lost", False), ("throw", "the latents were lost", True),
                                         ("crash", "ended by signal 11", True), ("hang", "was not ready 0.3 s", False),
                                         ("hang", "was not ready 0.3 s", True)):
            for late in ([], ["--latents-late", "3"]):
                if late and what == "hang":
                    message = "no latents after 0.3 seconds"
                out, said, got = sample(what, "--async", "--latents-wait", "0.3", *late, *(["--contained"] if contained else []))
                self.assertIn(message, said)
                self.assertIn("the base's own", said)
                self.assertEqual(got["base"]["text"], own)
                self.assertEqual(got["with_latents"]["text"], own)
                self.assertNotIn("blocking", got)
                self.assertEqual(out.count(own), 2)
                self.assertIn("not measured", out)
        # A thread shares the process: its crash is the end of both, and no text is called whole.
        self.assertEqual(sample("crash", "--async", status=-11)[2], None)

    def test_another_api_version_is_refused(self) -> None:
        config = self.config("other", {"type": "decay"}, "other_api_version.so")
        got = self.run_command([self.reverie, "train", config, "--run-dir", self.folder / "run-other"])
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("plugin API version", got.stdout)

    def test_a_plugin_that_is_not_there_is_refused(self) -> None:
        config = self.config("absent", {"type": "decay"}, "./no_such_plugin.so")
        got = self.run_command([self.reverie, "train", config, "--run-dir", self.folder / "run-absent"])
        self.assertEqual(got.returncode, REFUSED, got.stdout)
        self.assertIn("no_such_plugin.so", got.stdout)


if __name__ == "__main__":
    unittest.main()
