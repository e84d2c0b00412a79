#!/usr/bin/env python3
"""Writes golden states of memory modules: PyTorch's outputs, gradients and state over three windows.

Environment (a CPU is enough):
    python3 -m venv golden && golden/bin/pip install torch safetensors
    golden/bin/python tests/golden/make/make_memory_golden.py

Each case becomes tests/golden/memories/<case>.safetensors:
    x              f32 [3, batch, time, d]   hidden states of three windows of a text
    param.<name>   f32
    output         f32 [3, batch, n, d]      what the module returns for layer 0, state carried; n is
                                             time and the rows that the module puts in front
    weight         f32 [3, batch, n, d]
    loss           f64 scalar                sum of output * weight
    grad.<name>    f32                       gradient of the loss
    grad_x         f32 [3, batch, time, d]
    state.<name>   f32                       the state after the third window
and the metadata: `memory` (JSON, as in a config), `torch`, `script`. Parameters and inputs are drawn
in f32; everything computed from them is computed in f64. The modules are written from their
definitions, row by row, without chunks.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save

BATCH, TIME, WIDTH, WINDOWS = 2, 7, 8, 3
EPSILON = 1e-5


def linear(params, name, x):
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def normalise(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + EPSILON)


def by_head(x, heads):
    """[B, T, heads * D] -> [B, heads, T, D]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


# ---- delta_rule ---------------------------------------------------------------------------------


def unit(x):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6) / math.sqrt(x.shape[-1])


def delta_rule(params, o, x, state):
    h, heads = normalise(x), o["heads"]
    before = state.get("0.rows", h[:, :0])
    seen = torch.cat((before, h), dim=1)

    def projected(name):
        """Each feature is a weighted sum of its own and the rows before; there is none before a text."""
        rows = linear(params, name, seen)
        if o["taps"] > 1:
            weight, padded = params[f"{name}_taps"], F.pad(rows, (0, 0, o["taps"] - 1, 0))
            rows = sum(weight[:, i] * padded[:, i : i + rows.shape[1]] for i in range(o["taps"]))
        return by_head(rows[:, before.shape[1] :], heads)

    key, query, value = (projected(n) for n in ("key", "query", "value"))
    if o["taps"] > 1:
        state["0.rows"] = seen[:, -(o["taps"] - 1) :]
    key, query = unit(key), unit(query)
    write = o["write_limit"] * torch.sigmoid(by_head(linear(params, "write_gate", h), heads))
    keep = go = None
    if o["variant"] != "plain":
        keep = torch.sigmoid(by_head(linear(params, "keep_gate", h), heads) + 4)
    if o["variant"] == "momentum":
        go = torch.sigmoid(by_head(linear(params, "momentum_gate", h), heads))
    size = key.shape[-1]
    zero = x.new_zeros(x.shape[0], heads, size, size)
    memory, going = state.get("0.memory", zero), state.get("0.momentum", zero)
    reads = []
    for t in range(x.shape[1]):
        k, q, v, b = (r[:, :, t : t + 1] for r in (key, query, value, write))
        if keep is not None:
            memory = memory * keep[:, :, t : t + 1]
        written = k.transpose(-1, -2) @ (b * (v - k @ memory))
        if go is not None:
            going = written = going * go[:, :, t : t + 1] + written
        memory = memory + written
        reads.append(q @ memory)
    state["0.memory"] = memory
    if go is not None:
        state["0.momentum"] = going
    read = torch.cat(reads, dim=2).transpose(1, 2).flatten(2)
    return x + linear(params, "output", read)


def delta_rule_shapes(o):
    shapes = {n: WIDTH for n in ("key", "query", "value", "output")} | {"write_gate": o["heads"]}
    if o["variant"] != "plain":
        shapes["keep_gate"] = o["heads"]
    if o["variant"] == "momentum":
        shapes["momentum_gate"] = o["heads"]
    if o["taps"] > 1:
        shapes |= {f"{n}_taps": (WIDTH, o["taps"]) for n in ("key", "query", "value")}
    return shapes


# ---- attention_cache ----------------------------------------------------------------------------


def rotate(x, positions):
    """x [B, H, T, D], pairs (d, d + D / 2) turned by positions * 10000^(-2 d / D)."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attention_cache(params, o, x, state):
    h, heads = normalise(x), o["heads"]
    cached = state.get("0.rows", h[:, :0])
    seen, before = torch.cat((cached, h), dim=1), cached.shape[1]
    positions = torch.arange(seen.shape[1], dtype=x.dtype)
    query = rotate(by_head(linear(params, "query", h), heads), positions[before:])
    key = rotate(by_head(linear(params, "key", seen), heads), positions)
    value = by_head(linear(params, "value", seen), heads)
    scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
    back = positions[before:, None] - positions
    scores = scores.masked_fill((back < 0) | (back > o["length"]), -math.inf)
    read = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    state["0.rows"] = seen[:, -o["length"] :].detach()
    return x + linear(params, "output", read)


def attention_cache_shapes(o):
    return {n: WIDTH for n in ("query", "key", "value", "output")}


# ---- gated_slots --------------------------------------------------------------------------------


def gated_slots(params, o, x, state):
    """Row by row; as published, the gate of a chunk's rows reads all of them, as far as they are here."""
    h, slots = normalise(x), o["num_slots"]
    eye = torch.eye(slots, WIDTH, dtype=x.dtype).expand(x.shape[0], -1, -1)
    bank, written, row = state.get("0.bank", eye), state.get("0.written"), state.get("row", 0)
    outputs = []
    for t in range(x.shape[1]):
        key, value = linear(params, "key", bank), linear(params, "value", bank)
        scores = linear(params, "query", h[:, t : t + 1]) @ key.transpose(-1, -2)
        gate = linear(params, "input_gate", h[:, t : t + 1])
        if o["mode"] == "as_published":
            scores = scores.masked_fill(torch.arange(slots) > row, -math.inf)
            chunk = h[:, t - min(t, row) : t - row + slots]
            mean = torch.relu(chunk * params["mean_weight"]).mean(1, keepdim=True)
            gate = linear(params, "input_gate", mean)
        read = torch.tanh((scores / math.sqrt(WIDTH)).softmax(-1) @ value)
        forget = torch.sigmoid(linear(params, "forget_gate", h[:, t : t + 1]))
        new = torch.sigmoid(gate) * read + forget * bank[:, row : row + 1]
        written = new if written is None else torch.cat((written, new), dim=1)
        out_gate = torch.sigmoid(linear(params, "output_gate", h[:, t : t + 1]))
        outputs.append(x[:, t : t + 1] + out_gate * new)
        row += 1
        if row == slots:
            bank, written, row = written, None, 0
    state["0.bank"], state["row"] = bank, row
    state.pop("0.written", None)
    if written is not None:
        state["0.written"] = written
    return torch.cat(outputs, dim=1)


def gated_slots_shapes(o):
    names = ("query", "key", "value", "input_gate", "forget_gate", "output_gate")
    return {n: WIDTH for n in names} | ({"mean_weight": (WIDTH,)} if o["mode"] == "as_published" else {})


# ---- recurrent_tokens ---------------------------------------------------------------------------


def recurrent_tokens(params, o, x, state):
    """The rows in front and the window; blocks and the last norm are left out."""
    rows = params["rows"].expand(x.shape[0], -1, -1)
    if "last" in state:
        rows = rows + linear(params, "write", state["last"])
    rows = torch.cat((rows, x), dim=1)
    state["last"] = rows[:, -o["count"] :]
    return rows


def recurrent_tokens_shapes(o):
    return {"write": WIDTH, "rows": (o["count"], WIDTH)}


# ---- cases --------------------------------------------------------------------------------------


def delta(variant, taps=1, write_limit=1.0, form="chunked"):
    return {
        "type": "delta_rule",
        "variant": variant,
        "form": form,
        "heads": 2,
        "chunk_length": 3,
        "taps": taps,
        "write_limit": write_limit,
    }


MODULES = {
    "delta_rule": (delta_rule, delta_rule_shapes),
    "attention_cache": (attention_cache, attention_cache_shapes),
    "gated_slots": (gated_slots, gated_slots_shapes),
    "recurrent_tokens": (recurrent_tokens, recurrent_tokens_shapes),
}
CASES = {
    "delta_rule_plain": (1, delta("plain", write_limit=2.0)),
    "delta_rule_decay": (2, delta("decay", taps=3)),
    "delta_rule_momentum": (3, delta("momentum", taps=4)),
    "delta_rule_stepwise": (3, delta("momentum", taps=4, form="stepwise")),
    "attention_cache": (4, {"type": "attention_cache", "length": 5, "heads": 2}),
    "attention_cache_long": (5, {"type": "attention_cache", "length": 12, "heads": 1}),
    "gated_slots_causal": (6, {"type": "gated_slots", "mode": "causal", "num_slots": 3}),
    "recurrent_tokens": (8, {"type": "recurrent_tokens", "count": 3, "carry_state": True}),
    "gated_slots_as_published": (7, {"type": "gated_slots", "mode": "as_published", "num_slots": 7}),
}


def draw(shapes, generator):
    values = {}
    for name in sorted(shapes):
        size = shapes[name]
        randn = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float32)
        if isinstance(size, tuple):  # a parameter that is no linear layer
            values[name] = 0.6 * randn(*size)
            continue
        values[f"{name}.weight"] = 0.4 * randn(size, WIDTH)
        values[f"{name}.bias"] = 0.2 * randn(size)
    return values


def make(name):
    seed, options = CASES[name]
    module, shapes = MODULES[options["type"]]
    generator = torch.Generator().manual_seed(seed)
    values = draw(shapes(options), generator)
    shape = (WINDOWS, BATCH, TIME, WIDTH)
    x32 = torch.randn(*shape, generator=generator, dtype=torch.float32)
    params = {key: value.double().requires_grad_() for key, value in values.items()}
    x = x32.double().requires_grad_()
    state = {}
    output = torch.stack([module(params, options, x[w], state) for w in range(WINDOWS)])
    weight32 = torch.randn(*output.shape, generator=generator, dtype=torch.float32)
    loss = (output * weight32.double()).sum()
    loss.backward()
    tensors = {"x": x32, "weight": weight32, "output": output, "loss": loss, "grad_x": x.grad}
    tensors |= {f"param.{key}": value for key, value in values.items()}
    tensors |= {f"grad.{key}": value.grad for key, value in params.items()}
    tensors |= {f"state.{key}": v for key, v in state.items() if isinstance(v, torch.Tensor)}
    stored = {
        key: value.detach().to(torch.float64 if key == "loss" else torch.float32).contiguous().clone()
        for key, value in tensors.items()
    }
    metadata = {
        "memory": json.dumps(options),
        "torch": torch.__version__.split("+")[0],
        "script": "tests/golden/make/make_memory_golden.py",
    }
    return save(stored, metadata)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "memories")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.cases or list(CASES):
        contents = make(name)
        (arguments.out / f"{name}.safetensors").write_bytes(contents)
        print(f"{name}: {len(contents)} bytes")


if __name__ == "__main__":
    main()
