"""The stages: their commands, their order and their shares of the time (docs/gpu_nodes.md estimates them)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .node import Bundle, Node
from .runner import CUT, FAILED, PASSED, Outcome, Stage, Unit

ROOMS = ("kernels", "autograd", "core", "layers", "trainers")
# Of a trial: some cases of each room, on device cuda where it is emulated.
TRIAL_TESTS = {"kernels": "*softmax*:*norm_forward*", "autograd": "*Cuda*:*softmax*", "core": "*Cuda*", "layers": "*MemoryGolden*", "trainers": "*CudaTraining*:*DeviceCommunicator*"}
# Kernels with shared memory, warp functions and 16-byte access of their own.
SANITIZED_TESTS = ":".join(f"*CudaParity*{row}*" for row in ("softmax", "norm_", "cross_entropy", "embedding_backward", "attention"))
SANITIZERS = ("memcheck", "racecheck")

SHAPE = {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 32}
GROUPED = SHAPE | {"n_kv_head": 1}
LLAMA = GROUPED | {"type": "llama"}
IMM = {"type": "imm", "low_rank_dim": 8, "num_slots": "auto"}


def with_memory(**options: object) -> dict:
    return LLAMA | {"memory": options}


def with_imm(mode: str, **options: object) -> dict:
    return SHAPE | {"type": "gpt2", "memory": IMM | {"mode": mode} | options}


# A small model of each family and with each memory; one step of each is trained.
KINDS = {
    "gpt2": SHAPE | {"type": "gpt2", "dropout": 0.1},
    "imm_as_published": with_imm("as_published"),
    "imm_causal_mean": with_imm("causal_mean"),
    "imm_slots": with_imm("slots", chunk_length=16),
    "imm_segment": with_imm("segment", segment_length=16),
    "imm_full_rank": with_imm("full_rank"),
    "llama": LLAMA,
    "mistral": GROUPED | {"type": "mistral"},
    "qwen2": GROUPED | {"type": "qwen2"},
    "qwen3": GROUPED | {"type": "qwen3"},
    "gemma2": GROUPED | {"type": "gemma2"},
    "gemma3": GROUPED | {"type": "gemma3"},
    "delta_rule": with_memory(type="delta_rule", heads=1),
    "attention_cache": with_memory(type="attention_cache", length=16),
    "gated_slots": with_memory(type="gated_slots", num_slots=4),
    "recurrent_tokens": with_memory(type="recurrent_tokens", count=4),
}
LEAKING = ("imm_as_published", "imm_full_rank")  # by their definition; the runs say so
IN_F32 = ("gpt2", "llama", "imm_causal_mean", "delta_rule")  # besides bf16, in which all are run
# Beside a base: an update of its weights or all of them, and each source of latents.
SOFT, COPROCESSOR = {"type": "soft_embeddings", "count": 2}, {"type": "coprocessor", "count": 2}
LATENTS = {
    "several": {"latents": {"type": "several", "sources": [SOFT, COPROCESSOR, COPROCESSOR | {"initial": "lora", "rank": 2}, COPROCESSOR | {"reads": "last_hidden"}]}},
    "cache": {"latents": COPROCESSOR | {"writes": "cache"}},
    "icae": {"latents": {"type": "icae", "count": 2, "rank": 2}},
    "gist": {"latents": {"type": "gist", "count": 2}, "train_base": True},
    "continuous_thoughts": {"latents": {"type": "continuous_thoughts", "count": 2}, "train_base": True},
}
SHAKESPEARE_TEXT = {"name": "tinyshakespeare", "tokenizer": "char"}
PROBLEMS = {"type": "reachability", "wording": "short", "nodes": 7, "nodes_deviation": 0, "steps": [2], "step_weights": [1], "train": 40, "held_out": 12}
SHAKESPEARE, AUGMENTATION = "configs/tables/imm_shakespeare.json", "configs/tables/cache_augmentation.json"
BLOCK_SIZES, SEEDS = (256, 128, 64), (1337, 1338, 1339)
ROWS = ("gpt", "imm_as_published", "imm_causal_mean")
SOURCES = ("coprocessor", "pause", "continued")  # continued, pause: controls; the shuffled one is the coprocessor's own runs
PRESET = "gemma3_gpu"
TRIAL_ROWS = ['--set-table=presets.paper.patch.model={"n_layer": 1, "n_head": 2, "n_embd": 16}', "--set=train.steps=2", "--set=train.batch_size=2",
              "--set=optimizer.warmup_steps=1", "--set=evaluation.windows=2", "--set=evaluation.final_windows=2", "--set=evaluation.prefix_only_windows=1",
              "--set=evaluation.final_prefix_only_windows=1"]
TRIAL_SOURCES = ["--set-table=presets.smoke.pretraining.train.steps=2", "--set-table=presets.smoke.pretraining.model.n_embd=16",
                 "--set-table=presets.smoke.pretraining.model.n_layer=1", "--set-table=presets.smoke.pretraining.model.n_hidden=32",
                 "--set-table=presets.smoke.augmented.model.groups=2", "--set-table=presets.smoke.measure.windows=2", "--set-table=presets.smoke.measure.points=2",
                 "--set-table=presets.smoke.patch.train.steps=2", "--set-table=presets.smoke.patch.train.batch_size=2",
                 "--set-table=presets.smoke.patch.evaluation.windows=2", "--set-table=presets.smoke.patch.evaluation.final_windows=2"]


@dataclass(frozen=True)
class Plan:
    """What all stages need to know."""

    bundle: Bundle
    node: Node
    results: Path
    trial: bool  # tiny settings; on any device

    @property
    def reverie(self) -> str:
        return str(self.bundle.program)

    @property
    def no_gpu(self) -> str:
        """Why units that say something only on a GPU cannot run."""
        return "" if self.node.usable or self.trial else f"no GPU: {self.node.words}"

    def script(self, name: str) -> list[str]:
        return [sys.executable, str(self.bundle.root / "scripts" / name)]


def read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


# ---- 1: does it run at all ----------------------------------------------------------
def train(plan: Plan, folder: Path, name: str, model: dict, precision: str, **more: object) -> tuple[list[str], Path]:
    """The command that trains one step of a model, and its run; the config is written now."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"data": SHAKESPEARE_TEXT, "model": model, "device": plan.node.device, "precision": precision,
              "train": {"steps": 1, "batch_size": 2}, "optimizer": {"warmup_steps": 1},
              "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
              "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 0, "keep": 0}, "allow_future_leak": False} | more
    file, run = folder / f"{name}.json", folder / name
    file.write_text(json.dumps(config, indent=1) + "\n")
    return [plan.reverie, "train", str(file), "--run-dir", str(run), "--quiet"], run


def one_step(plan: Plan, name: str, model: dict, precision: str) -> Unit:
    command, run = train(plan, plan.results / "start", f"{name}_{precision}", model, precision, allow_future_leak=name in LEAKING)
    shutil.rmtree(run, ignore_errors=True)  # one that was cut

    def read(outcome: Outcome) -> Outcome:
        summary = read_json(run / "summary.json")
        shutil.rmtree(run, ignore_errors=True)
        return Outcome(outcome.status, outcome.why, {key: summary[key] for key in ("train_loss", "val_loss") if key in summary})

    # A run that leaks, as it was allowed to, ends with status 5.
    return Unit(f"{name}_{precision}", [command], least=2, most=60, good=(0, 5) if name in LEAKING else (0,), read=read)


def in_folder(plan: Plan, name: str, commands: Callable[[Path], list[list[str]]]) -> Unit:
    """Commands that stand on one another's runs, which are gone afterwards."""
    folder = plan.results / "start" / name
    shutil.rmtree(folder, ignore_errors=True)

    def read(outcome: Outcome) -> Outcome:
        for run in folder.glob("*"):
            if run.is_dir():
                shutil.rmtree(run, ignore_errors=True)
        return outcome

    return Unit(name, commands(folder), least=2, most=60, read=read)


def coprocessor_step(plan: Plan) -> Unit:
    """A small base, its export, a coprocessor that reads it, and the table of what it changes."""
    return in_folder(plan, "coprocessor", lambda folder: [[plan.reverie, "repro", AUGMENTATION, "--preset", "smoke", "--only", "coprocessor", "--run-dir",
                                                           str(folder / "table"), f"--set=device={plan.node.device}", *TRIAL_SOURCES]])


def beside_a_base(plan: Plan) -> Unit:
    """A small base and its export; training it further, a low-rank update of it, and each source of latents beside it."""

    def commands(folder: Path) -> list[list[str]]:
        base, run = train(plan, folder, "base", LLAMA | {"block_size": 48}, "bf16")
        export = str(folder / "export")
        models = {"continued": {"type": "pretrained", "path": export}, "lora": {"type": "pretrained", "path": export, "rank": 2}}
        for name, options in LATENTS.items():
            models[name] = {"type": "augmented", "base": export, "block_size": 24, "groups": 2, "ahead": 4} | options
        return [base, [plan.reverie, "inspect", str(run), "--export-hf", export], *(train(plan, folder, name, model, "bf16")[0] for name, model in models.items())]

    return in_folder(plan, "beside_a_base", commands)


def coconut(plan: Plan) -> Unit:
    """A model of written steps, its export, and continuous thoughts in place of the steps."""

    def commands(folder: Path) -> list[list[str]]:
        def data(**examples: int) -> dict:
            return {"problems": PROBLEMS, "tokenizer": "word", "examples": examples, "prepared_directory": str(folder / f"tokens{examples['stage']}")}

        base, run = train(plan, folder, "base", LLAMA | {"block_size": 96}, "bf16", data=data(stage=0))
        export = str(folder / "export")
        return [base, [plan.reverie, "inspect", str(run), "--export-hf", export],
                train(plan, folder, "coconut", {"type": "coconut", "base": export}, "bf16", data=data(stage=1, thoughts=1))[0]]

    return in_folder(plan, "coconut", commands)


def explained(plan: Plan) -> Unit:
    """A model with a memory, and a decoder that puts the memory into words."""

    def commands(folder: Path) -> list[list[str]]:
        base, run = train(plan, folder, "base", with_imm("slots", chunk_length=4, carry_state=True), "bf16")
        data = SHAKESPEARE_TEXT | {"examples": {"form": "recount", "read": 24, "tokens": 6}, "prepared_directory": str(folder / "records")}
        model = {"type": "explained", "base": str(run), "block_size": 40, "decoder": {"n_layer": 1, "n_embd": 16}}
        return [base, train(plan, folder, "decoder", model, "bf16", data=data)[0]]

    return in_folder(plan, "explained", commands)


def start_stage(plan: Plan) -> Stage:
    steps = [one_step(plan, name, model, precision) for name, model in KINDS.items() for precision in (("bf16", "f32") if name in IN_F32 else ("bf16",))]
    units = [Unit("doctor", [[plan.reverie, "doctor"]], least=0, failure_ends_all=True), *steps, beside_a_base(plan), coconut(plan), explained(plan), coprocessor_step(plan)]
    return Stage("start", "1. doctor, and one step of each kind of model", units, share=0.1)


# ---- 2: tests -----------------------------------------------------------------------
def test_unit(plan: Plan, room: str) -> Unit:
    folder = plan.results / "tests"
    summary = folder / f"{room}.json"
    folder.mkdir(parents=True, exist_ok=True)
    command = [*plan.script("run_tests.py"), "--build", str(plan.bundle.program.parent), "--kind", "gtest", "--room", room, "--summary", str(summary),
               "--logs", str(folder / "logs"), *([] if plan.no_gpu or not plan.node.usable else ["--expect-gpu"])]
    summary.unlink(missing_ok=True)

    def read(outcome: Outcome) -> Outcome:
        suites = read_json(summary) or []
        figures = {"passed": sum(s["passed"] for s in suites), "failed": sum(len(s["failed"]) for s in suites), "skipped": sum(len(s["skipped"]) for s in suites)}
        if outcome.status == CUT or not suites:
            return outcome
        counts = f"{figures['passed']} passed, {figures['failed']} failed, {figures['skipped']} skipped"
        return Outcome(PASSED if outcome.status == PASSED and not figures["failed"] else FAILED, f"{outcome.why}\n{counts}".strip(), figures)

    return Unit(room, [command], least=5, read=read, environment={"GTEST_FILTER": TRIAL_TESTS[room]} if plan.trial else {}, missing=plan.no_gpu)


def sanitizer_unit(plan: Plan, tool: str) -> Unit:
    test = str(plan.bundle.program.parent / "tests" / "test_kernels")
    command = [plan.node.sanitizer, f"--tool={tool}", "--error-exitcode=9", test, f"--gtest_filter={SANITIZED_TESTS}"]
    missing = plan.no_gpu or ("" if plan.node.sanitizer else "compute-sanitizer is not installed, or there is no GPU for it")
    return Unit(tool, [command], least=20, most=60, missing=missing)


def tests_stage(plan: Plan) -> Stage:
    return Stage("tests", "2. tests; one that skips for want of a GPU has failed",
                 [*(test_unit(plan, room) for room in ROOMS), *(sanitizer_unit(plan, tool) for tool in SANITIZERS)], share=0.22)


# ---- 3, 4: speed --------------------------------------------------------------------
def bench_unit(plan: Plan, name: str, least: float, *arguments: str) -> Unit:
    """bench.py saves after each round: a cut costs the rounds that were not reached."""
    wanted = 1 if plan.trial else 5
    folder = plan.results / "speed"
    now, kept = folder / f"{name}.now", folder / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [*plan.script("bench.py"), "--device", plan.node.device, *(["--tiny"] if plan.trial else []), "--work", name, "--rounds", str(wanted), *arguments,
               "--reverie", plan.reverie, "--benchmarks", str(plan.bundle.program.parent / "tests" / "benchmarks"), "--json", f"{now}.json", "--markdown", f"{now}.md"]
    Path(f"{now}.json").unlink(missing_ok=True)
    Path(f"{now}.md").unlink(missing_ok=True)

    def read(outcome: Outcome) -> Outcome:
        # Fewer rounds than an earlier run has are forgotten.
        if 0 < read_json(Path(f"{now}.json")).get("round_count", 0) >= read_json(Path(f"{kept}.json")).get("round_count", 0):
            for suffix in (".json", ".md"):
                if Path(f"{now}{suffix}").is_file():
                    Path(f"{now}{suffix}").replace(f"{kept}{suffix}")
        result = read_json(Path(f"{kept}.json"))
        rounds = result.get("round_count", 0)
        figures = {"rounds": rounds, "aims": result.get("aims", []), "left_out": result.get("left_out", [])}
        if outcome.status == PASSED and rounds < wanted:
            return Outcome(CUT, f"{rounds} of {wanted} rounds were measured", figures)
        return Outcome(outcome.status, outcome.why, figures)

    return Unit(name, [command], least=least, read=read, seconds_option="--seconds", missing=plan.no_gpu)


def speed_stage(plan: Plan) -> Stage:
    # PyTorch knows no emulated device.
    without = "the device is emulated" if plan.node.emulated else plan.node.no_python
    pytorch = ["--no-pytorch"] if without else ["--pytorch", plan.node.python]
    title = f"3. GPT-2 124M, without PyTorch ({without})" if without else "3. GPT-2 124M against PyTorch"
    return Stage("speed", title, [bench_unit(plan, "gpt2", 60, "--precision", "bf16", *pytorch)], share=0.25)


def ceilings_stage(plan: Plan) -> Stage:
    return Stage("ceilings", "4. kernels against the copy and GEMM ceilings", [bench_unit(plan, "kernels", 20, "--no-pytorch")], share=0.1)


# ---- 5, 6: tables -------------------------------------------------------------------
def forget_checkpoints(runs: Path) -> None:
    """Finished runs keep their figures; their weights would be most of the results."""
    for summary in runs.glob("*/summary.json"):
        shutil.rmtree(summary.parent / "checkpoints", ignore_errors=True)


def table_unit(plan: Plan, name: str, repro: list[str], only: list[str], *, keep_weights: bool, least: float, missing: str) -> Unit:
    """Trains some runs of a table, then writes the table of all that are finished."""
    run_dir = Path(repro[repro.index("--run-dir") + 1])

    def read(outcome: Outcome) -> Outcome:
        if not keep_weights:
            forget_checkpoints(run_dir / "runs")
        return outcome

    return Unit(name, [[*repro, *only], [*repro, "--report-only"]], least=least, missing=missing, read=read)


def shakespeare_stage(plan: Plan) -> Stage:
    repro = [plan.reverie, "repro", SHAKESPEARE, "--preset", "paper", "--run-dir", str(plan.results / "shakespeare"), f"--set=device={plan.node.device}",
             *(TRIAL_ROWS if plan.trial else ["--set=precision=bf16"])]
    units = []
    for seed in SEEDS[:1] if plan.trial else SEEDS:
        for block_size in BLOCK_SIZES[-1:] if plan.trial else BLOCK_SIZES:
            for row in ROWS:
                only = ["--only", row, f"--set-table=presets.paper.block_sizes=[{block_size}]", f"--set-table=presets.paper.seeds=[{seed}]"]
                units.append(table_unit(plan, f"{row}_{block_size}_seed{seed}", repro, only, keep_weights=False, least=20, missing=plan.no_gpu))
    return Stage("shakespeare", "5. the Shakespeare table, preset paper", units, share=0.3)


def coprocessor_stage(plan: Plan) -> Stage:
    preset = "smoke" if plan.trial else PRESET
    repro = [plan.reverie, "repro", AUGMENTATION, "--preset", preset, "--run-dir", str(plan.results / "coprocessor"), f"--set=device={plan.node.device}",
             *(TRIAL_SOURCES if plan.trial else [])]
    missing = plan.no_gpu or ("" if plan.trial or plan.bundle.gemma.is_file() else "this bundle has no Gemma 3 270M (scripts/gpu_bundle.sh --with gemma3)")
    units = []
    for seed in SEEDS[:1] if plan.trial else SEEDS[:2]:
        for source in SOURCES:
            only = ["--only", source, f"--set-table=presets.{preset}.seeds=[{seed}]"]
            units.append(table_unit(plan, f"{source}_seed{seed}", repro, only, keep_weights=True, least=30, missing=missing))
    return Stage("coprocessor", "6. a coprocessor on Gemma 3 270M" + (" (in this trial, on a small model)" if plan.trial else "") + ", and its controls", units)


def all_stages(plan: Plan) -> list[Stage]:
    stages = [make(plan) for make in (start_stage, tests_stage, speed_stage, ceilings_stage, shakespeare_stage, coprocessor_stage)]
    if not plan.trial:
        return stages
    return [replace(stage, units=[replace(unit, least=min(unit.least, 2.0)) for unit in stage.units]) for stage in stages]
