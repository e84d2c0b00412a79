"""What an Implicit Memory Module costs a training step: every mode beside the same GPT without it.

The transformer is that of the work `small`; `GPT, wider MLP` has the module's parameters in its MLPs instead. A round
trains all of them one after the other, each in a process of its own, in an order that turns from round to round. A model's
time stands over that of the GPT of the same round, beside the operations of its step over the GPT's (`reverie plan`):
their quotient is what the module takes beyond what its operations justify. Beside them PyTorch, eager, trains the same GPT
with and without the published module (pytorch_imm.py); its time stands over that of its own GPT.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarking.machine import Neighbours
from benchmarking.programs import ProgramError, Reverie
from benchmarking.pytorch import Worker
from benchmarking.rounds import turned
from benchmarking.tables import median
from benchmarking.works import SMALL

WARMUP, STEPS = 8, 30
PYTORCH_FIRST, PYTORCH_WARMUP = 8, 3  # steps of a worker before the first round, and before those that count
TWINS = {"PyTorch, GPT": False, "PyTorch, IMM, as_published": True}  # with the module or without
SETTLE_SECONDS = 0.3  # idle threads fall asleep
WANTED_OVERHEAD = 1.15  # of the time over what the operations justify


@dataclass(frozen=True)
class Model:
    name: str
    overrides: tuple[str, ...] = ()


def imm(mode: str, more: str = "", *, leaks: bool = False) -> Model:
    memory = f'model.memory={{"type": "imm", "mode": "{mode}", "low_rank_dim": 128, "num_slots": "auto"{more}}}'
    return Model(f"IMM, {mode}", (memory, *(["allow_future_leak=true"] if leaks else [])))


GPT = Model("GPT")
MODELS = (
    GPT,
    Model("GPT, wider MLP", ("model.n_hidden=576",)),
    imm("as_published", leaks=True),
    imm("full_rank", leaks=True),
    imm("causal_mean"),
    imm("segment", ', "chunk_length": 16'),
    imm("slots", ', "chunk_length": 16'),
)


def row(name: str, plan: dict, base_plan: dict, runs: list[dict], base_runs: list[dict]) -> dict:
    """From the rounds of a model and those of the GPT, in the same order."""
    flops = plan["step_flops"] / base_plan["step_flops"]
    slower = median(r["ms"] / b["ms"] for r, b in zip(runs, base_runs, strict=True))
    return {
        "model": name,
        "parameters": plan["parameters"],
        "gflop": 1e-9 * plan["step_flops"],
        "ms": median(r["ms"] for r in runs),
        "time_over_gpt": slower,
        "flops_over_gpt": flops,
        "over_justified": slower / flops,
        "rounds": [r["ms"] for r in runs],
        "others_cpu_share": [r["others_cpu_share"] for r in runs],
    }


def rows_of(plans: dict[str, dict], found: dict[str, list[dict]]) -> list[dict]:
    """A row for each model; PyTorch's twins do the operations of ours."""
    gpt, pytorch = GPT.name, next(iter(TWINS))
    rows = [row(m.name, plans[m.name], plans[gpt], found[m.name], found[gpt]) for m in MODELS]
    for name, with_imm in TWINS.items():
        own = plans["IMM, as_published" if with_imm else gpt]
        rows.append(row(name, own, plans[gpt], found[name], found[pytorch]))
    return rows


def measure(reverie: Reverie, twins: dict[str, Worker], neighbours: Neighbours, rounds: int, vocabulary: int, say: Callable[[str], None]) -> dict:
    """All models in turn, `rounds` times; `twins` are the workers of TWINS."""
    work = replace(SMALL, vocabulary=vocabulary)
    plans = {m.name: reverie.plan(work, more=m.overrides) for m in MODELS}
    for name, worker in twins.items():
        ours = plans["IMM, as_published" if TWINS[name] else GPT.name]["parameters"]
        if worker.about["parameters"] != ours:
            raise ProgramError(f"{name} has {worker.about['parameters']} parameters; Reverie's model {ours}")
        worker.steps("f32", 0, PYTORCH_FIRST)
    reverie.train(work, "f32", 0, 1)  # its files are in memory
    overrides = {m.name: m.overrides for m in MODELS}
    found: dict[str, list[dict]] = {name: [] for name in (*overrides, *twins)}
    for number in range(rounds):
        for name in turned(list(found), number):
            time.sleep(SETTLE_SECONDS)
            neighbours.start()
            if name in twins:
                ms = median(twins[name].steps("f32", PYTORCH_WARMUP, STEPS)["steps_ms"])
            else:
                ms = reverie.train(work, "f32", WARMUP, STEPS, more=overrides[name])["ms"]
            found[name].append({"ms": ms, "others_cpu_share": neighbours.stop()})
        last = ", ".join(f"{name} {r[-1]['ms']:.1f} ms ({100 * r[-1]['others_cpu_share']:.0f} %)" for name, r in found.items())
        say(f"imm, round {number + 1} of {rounds} (others' share of the CPU): {last}")
    return {"batch": work.batch, "context": work.context, "layers": work.layers, "width": work.width, "precision": "f32", "rows": rows_of(plans, found)}
