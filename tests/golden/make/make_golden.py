#!/usr/bin/env python3
"""Writes the golden states that the C++ tests compare with: PyTorch's logits, gradients and losses.

Environment (a CPU is enough):
    python3 -m venv golden && golden/bin/pip install torch transformers safetensors
    golden/bin/python tests/golden/make/make_golden.py

Each case becomes one small file, OUT/<case>.safetensors:
    tokens         i32 [batch, time]
    targets        i32 [batch, time]    -1 = ignored
    param.<name>   f32                  the parameters, under Hugging Face's names and layouts
    logits         f32 [batch, time, vocab]
    loss           f64 scalar           mean cross-entropy over the targets that are not ignored
    grad.<name>    f32                  gradient of `loss`, before any clipping
    losses         f64 [10]             loss before each of ten clipped AdamW updates on this batch
and the metadata: `config` (JSON, the model section of a configuration), `torch`, `transformers`,
`script`. Parameters are drawn in f32; everything computed from them is computed in f64.

Every case is also probed for leaks of the future: the tokens from a cut on are changed, and the
logits before the cut must not move (`as_published` and `full_rank` are known to leak: they must).
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save

BATCH, TIME = 2, 16
STEPS = 10
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, MAX_NORM = 1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0
LAYER_NORM_EPSILON = 1e-5


# ---- GPT-2's shape, written from the maths ------------------------------------------------------


def normalise(x, weight=None, bias=None):
    """Layer norm over the features, x [..., d]; weight and bias [d] may be absent."""
    centred = x - x.mean(-1, keepdim=True)
    x = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPSILON)
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def causal_attention(query, key, value):
    """softmax(Q K^T / sqrt(d_head)) V over keys not later than the query; all [B, H, T, d_head]."""
    time, d_head = query.shape[-2:]
    scores = query @ key.transpose(-1, -2) / math.sqrt(d_head)
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1) @ value


def gpt_logits(params, config, tokens):
    """Pre-LN GPT with a tied head and, after every block, the memory the config asks for.

    tokens i64 [B, T] -> logits [B, T, vocab]. Biases are used where `params` has them.
    """

    def norm(name, x):
        return normalise(x, params[f"{name}.weight"], params.get(f"{name}.bias"))

    def affine(name, x):  # GPT-2 stores [in, out]
        x = x @ params[f"{name}.weight"]
        bias = params.get(f"{name}.bias")
        return x if bias is None else x + bias

    batch, time = tokens.shape
    heads, d_model = config["n_head"], config["n_embd"]
    approximate = {"gelu": "none", "gelu_tanh": "tanh"}[config["activation"]]

    embedding = params["transformer.wte.weight"]
    x = embedding[tokens] + params["transformer.wpe.weight"][:time]
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        projected = affine(f"{block}.attn.c_attn", norm(f"{block}.ln_1", x))
        query, key, value = (
            part.reshape(batch, time, heads, d_model // heads).transpose(1, 2)
            for part in projected.split(d_model, dim=-1)
        )
        mixed = causal_attention(query, key, value).transpose(1, 2).reshape(batch, time, d_model)
        x = x + affine(f"{block}.attn.c_proj", mixed)
        hidden = affine(f"{block}.mlp.c_fc", norm(f"{block}.ln_2", x))
        x = x + affine(f"{block}.mlp.c_proj", F.gelu(hidden, approximate=approximate))
        if "memory" in config:
            x = apply_memory(params, config["memory"], x)
    return norm("transformer.ln_f", x) @ embedding.T


# ---- implicit memory (arXiv 2502.21030) ---------------------------------------------------------


def memory_linear(params, name, x):
    """x W^T + b with W [out, in]; `project` has no bias."""
    name = f"transformer.memory.{name}"
    return F.linear(x, params[f"{name}.weight"], params.get(f"{name}.bias"))


def read_slots(params, query, slots):
    """softmax(q K^T / sqrt(k)) V over a bank of slots [..., N, d], for queries [..., T, k].

    Keys are the projected slots, or the slots themselves where there is no projection.
    """
    low_rank = "transformer.memory.project.weight" in params
    keys = memory_linear(params, "project", slots) if low_rank else slots
    weights = (query @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])).softmax(-1)
    return weights @ memory_linear(params, "value", slots)


def apply_memory(params, memory, x):
    """One memory read (and write) after a block: x [B, T, d] -> [B, T, d]."""
    if memory["mode"] == "slots":
        return apply_gated_slots(params, memory, x)

    mode, num_slots = memory["mode"], memory["num_slots"]
    batch, time, _ = x.shape
    write = memory_linear(params, "write", x)
    query = memory_linear(params, "query", x)
    empty = torch.zeros_like(x[:, 0])

    if mode in ("as_published", "full_rank"):
        # Slot 0 is the mean over ALL positions: this is the published leak.
        bank = torch.stack([write.mean(1)] + [empty] * (num_slots - 1), dim=1)
        read = read_slots(params, query, bank)
    elif mode == "causal_mean":
        # Every position has its own bank, [B, T, N, d]: slot 0 is the mean of s_1..s_t.
        count = torch.arange(1, time + 1, dtype=x.dtype).reshape(1, time, 1)
        running = write.cumsum(1) / count
        bank = torch.stack([running] + [torch.zeros_like(running)] * (num_slots - 1), dim=2)
        read = read_slots(params, query.unsqueeze(2), bank).squeeze(2)
    elif mode == "segment":
        slots, reads = [empty] * num_slots, []
        for j, start in enumerate(range(0, time, memory["segment_length"])):
            segment = slice(start, start + memory["segment_length"])
            reads.append(read_slots(params, query[:, segment], torch.stack(slots, dim=1)))
            slots[j % num_slots] = write[:, segment].mean(1)
        read = torch.cat(reads, dim=1)
    else:
        raise ValueError(f"unknown memory mode {mode!r}")
    return normalise(x + read)


def apply_gated_slots(params, memory, x):
    """The paper's write, read and merge, made causal: chunks write, later chunks read."""
    num_slots = memory["num_slots"]
    write = memory_linear(params, "write", x)
    query = memory_linear(params, "query", x)
    empty = torch.zeros_like(x[:, 0])
    slots, written, reads = [empty] * num_slots, 0, []
    for j, start in enumerate(range(0, x.shape[1], memory["chunk_length"])):
        chunk = slice(start, start + memory["chunk_length"])
        if written == 0:
            reads.append(torch.zeros_like(x[:, chunk]))
        else:  # slots fill in order, so the written ones are the first ones
            bank = torch.stack(slots[:written], dim=1)
            reads.append(read_slots(params, query[:, chunk], bank))
        gate = torch.sigmoid(memory_linear(params, "write_gate", x[:, chunk].mean(1)))
        i = j % num_slots
        slots[i] = (1 - gate) * slots[i] + gate * write[:, chunk].mean(1)
        written = min(written + 1, num_slots)
    merge_gate = torch.sigmoid(memory_linear(params, "merge_gate", x))
    return x + merge_gate * torch.cat(reads, dim=1)


# ---- shapes, models, cases ----------------------------------------------------------------------


def gpt_shapes(config):
    """Parameter name -> shape for `gpt_logits` without biases, memory included."""
    d = config["n_embd"]
    shapes = {
        "transformer.wte.weight": [config["vocab_size"], d],
        "transformer.wpe.weight": [config["block_size"], d],
        "transformer.ln_f.weight": [d],
    }
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        shapes |= {
            f"{block}.ln_1.weight": [d],
            f"{block}.attn.c_attn.weight": [d, 3 * d],
            f"{block}.attn.c_proj.weight": [d, d],
            f"{block}.ln_2.weight": [d],
            f"{block}.mlp.c_fc.weight": [d, 4 * d],
            f"{block}.mlp.c_proj.weight": [4 * d, d],
        }
    if "memory" not in config:
        return shapes
    full_rank = config["memory"]["mode"] == "full_rank"
    key_dim = d if full_rank else config["memory"]["low_rank_dim"]
    linears = {"write": d, "query": key_dim, "value": d}
    if config["memory"]["mode"] == "slots":
        linears |= {"write_gate": 1, "merge_gate": 1}
    for name, out in linears.items():
        shapes[f"transformer.memory.{name}.weight"] = [out, d]
        shapes[f"transformer.memory.{name}.bias"] = [out]
    if not full_rank:
        shapes["transformer.memory.project.weight"] = [key_dim, d]
    return shapes


def draw_parameters(shapes, generator):
    """f32 values of ordinary size, none exactly 0 or 1, drawn in the order of the names."""
    values = {}
    for name in sorted(shapes):
        shape = list(shapes[name])
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        if name.endswith(".bias"):
            values[name] = 0.1 * noise
        elif len(shape) == 1:
            values[name] = 1 + 0.1 * noise
        elif ".wte." in name or ".wpe." in name or ".embed_tokens." in name:
            values[name] = 0.3 * noise
        else:  # about 1 / sqrt(fan in) for the narrow width that all cases share
            values[name] = 0.15 * noise
        if ((values[name] == 0) | (values[name] == 1)).any():
            raise RuntimeError(f"{name}: drew an exact 0 or 1; choose another seed")
    return values


def gpt2_from_transformers(config):
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config["vocab_size"],
            n_positions=config["block_size"],
            n_layer=config["n_layer"],
            n_head=config["n_head"],
            n_embd=config["n_embd"],
            activation_function="gelu_new",
            layer_norm_epsilon=config["layer_norm_eps"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        )
    )
    return model.double()


class DoubleRMSNorm(torch.nn.Module):
    """LlamaRMSNorm without its cast to f32."""

    def __init__(self, weight, epsilon):
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x):
        return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.epsilon)


class DoubleRotary(torch.nn.Module):
    """LlamaRotaryEmbedding without its cast to f32: (cos, sin), each [B, T, d_head]."""

    def __init__(self, theta, d_head):
        super().__init__()
        self.theta, self.d_head = theta, d_head

    def forward(self, x, position_ids):
        exponent = torch.arange(0, self.d_head, 2, dtype=torch.float64) / self.d_head
        angles = position_ids[..., None].double() * self.theta**-exponent
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def llama_from_transformers(config, in_double=True):
    """LlamaForCausalLM; transformers computes its norms and angles in f32 unless `in_double`."""
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["block_size"],
            num_hidden_layers=config["n_layer"],
            num_attention_heads=config["n_head"],
            num_key_value_heads=config["n_kv_head"],
            hidden_size=config["n_embd"],
            intermediate_size=config["n_hidden"],
            rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]},
            rms_norm_eps=config["rms_norm_eps"],
            tie_word_embeddings=config["tie_weights"],
            attention_bias=False,
            mlp_bias=False,
            attention_dropout=0.0,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            attn_implementation="sdpa",  # the eager form casts its softmax to f32
        )
    ).double()
    if in_double:
        base, epsilon = model.model, config["rms_norm_eps"]
        for layer in base.layers:
            for name in ("input_layernorm", "post_attention_layernorm"):
                setattr(layer, name, DoubleRMSNorm(getattr(layer, name).weight, epsilon))
        base.norm = DoubleRMSNorm(base.norm.weight, epsilon)
        d_head = config["n_embd"] // config["n_head"]
        base.rotary_emb = DoubleRotary(config["rope_theta"], d_head)
    return model


def gpt_config(**changes):
    return {
        "type": "gpt2",
        "vocab_size": 65,
        "block_size": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
        "dropout": 0.0,
        "bias": False,
        "activation": "gelu",
        "layer_norm_eps": LAYER_NORM_EPSILON,
    } | changes


def imm_config(mode, num_slots=5, **options):
    memory = {"type": "imm", "mode": mode, "low_rank_dim": 8, "num_slots": num_slots}
    return gpt_config(memory=memory | {"dropout": 0.0} | options)


LLAMA_CONFIG = {
    "type": "llama",
    "vocab_size": 67,
    "block_size": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_kv_head": 2,
    "n_embd": 32,
    "n_hidden": 48,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_weights": False,
}

# name -> (seed, config, number of ignored targets). The *_overwrite cases have segments of 3, so
# that a rewritten slot is read again inside 16 tokens and the last segment is incomplete.
CASES = {
    "gpt2_hf": (1, gpt_config(vocab_size=67, block_size=24, bias=True, activation="gelu_tanh"), 5),
    "gpt_nano": (2, gpt_config(), 0),
    "llama_hf": (3, LLAMA_CONFIG, 5),
    "imm_as_published": (4, imm_config("as_published"), 0),
    "imm_full_rank": (5, imm_config("full_rank"), 0),
    "imm_causal_mean": (6, imm_config("causal_mean"), 0),
    "imm_segment": (7, imm_config("segment", num_slots=3, segment_length=4), 0),
    "imm_slots": (8, imm_config("slots", num_slots=3, chunk_length=4), 0),
    "imm_segment_overwrite": (9, imm_config("segment", num_slots=3, segment_length=3), 3),
    "imm_slots_overwrite": (10, imm_config("slots", num_slots=3, chunk_length=3), 3),
}
LEAKING_MODES = ("as_published", "full_rank")


def build(name, generator):
    """-> (f32 values, f64 leaf parameters, logits function of i64 tokens [B, T])."""
    config = CASES[name][1]
    if name in ("gpt2_hf", "llama_hf"):
        make = gpt2_from_transformers if name == "gpt2_hf" else llama_from_transformers
        model = make(config).eval()
        params = dict(model.named_parameters())  # a tied head appears once, as the embedding
        values = draw_parameters({key: value.shape for key, value in params.items()}, generator)
        with torch.no_grad():
            for key, value in values.items():
                params[key].copy_(value)
        return values, params, lambda tokens: model(input_ids=tokens, use_cache=False).logits
    values = draw_parameters(gpt_shapes(config), generator)
    params = {key: value.double().requires_grad_() for key, value in values.items()}
    return values, params, lambda tokens: gpt_logits(params, config, tokens)


# ---- checks and measurements --------------------------------------------------------------------


def second_opinion(name, params, logits, tokens):
    """Largest difference from another implementation of the same model, where there is one."""
    config = CASES[name][1]
    if name == "gpt2_hf":
        other, limit = gpt_logits(params, config, tokens), 1e-12
    elif name == "llama_hf":  # transformers as it comes, partly in f32
        untouched = llama_from_transformers(config, in_double=False).eval()
        untouched.load_state_dict({key: value.detach() for key, value in params.items()})
        other, limit = untouched(input_ids=tokens, use_cache=False).logits, 1e-4
    else:
        return ""
    difference = (logits - other).abs().max().item()
    if not difference < limit:
        raise RuntimeError(f"{name}: two implementations differ by {difference:.3g}")
    return f"second implementation differs by {difference:.1e}"


@torch.no_grad()
def largest_future_change(logits_of, tokens, vocab_size):
    """Largest change of a logit before a cut when every token from the cut on is changed."""
    before, largest = logits_of(tokens), 0.0
    for cut in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, cut:] = (changed[:, cut:] + 1 + torch.arange(TIME - cut)) % vocab_size
        difference = (logits_of(changed) - before)[:, :cut].abs().max().item()
        largest = max(largest, difference)
    return largest


def loss_of(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def train(params, logits_of, tokens, targets):
    """Ten AdamW steps on one batch; the loss before each update, f64 [10]."""
    groups = [
        {"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, foreach=False
    )
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(logits_of(tokens), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), MAX_NORM)
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def with_sorted_metadata(data):
    """The same safetensors bytes with metadata in order, so that a rerun writes the same file."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return len(text).to_bytes(8, "little") + text + data[end:]


def make_case(name, out):
    seed, config, ignored = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    values, params, logits_of = build(name, generator)
    vocab = config["vocab_size"]

    text = torch.randint(vocab, [BATCH, TIME + 1], generator=generator)
    tokens, targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    if ignored:
        targets.view(-1)[torch.randperm(BATCH * TIME, generator=generator)[:ignored]] = -1

    logits = logits_of(tokens)
    loss = loss_of(logits, targets)
    loss.backward()
    if logits.dtype != torch.float64 or loss.dtype != torch.float64:
        raise RuntimeError(f"{name}: not computed in f64")
    opinion = second_opinion(name, params, logits, tokens)

    leak = largest_future_change(logits_of, tokens, vocab)
    leaks = config.get("memory", {}).get("mode") in LEAKING_MODES
    if (leak < 1e-3) if leaks else (leak > 1e-12):
        raise RuntimeError(f"{name}: earlier logits moved by {leak:.3g}, should leak: {leaks}")

    tensors = {
        "tokens": tokens.int(),
        "targets": targets.int(),
        "logits": logits.detach().float().contiguous(),
        "loss": loss.detach(),
    }
    for key, value in values.items():
        grad = params[key].grad
        tensors[f"param.{key}"] = value
        tensors[f"grad.{key}"] = (torch.zeros_like(value) if grad is None else grad).float()
    tensors["losses"] = train(params, logits_of, tokens, targets)
    if not all(tensor.double().isfinite().all() for tensor in tensors.values()):
        raise RuntimeError(f"{name}: a value is not finite")

    path = out / f"{name}.safetensors"
    metadata = {
        "config": json.dumps(config),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "script": "scripts/make_golden.py",  # where it once lay: the files' bytes stay
    }
    path.write_bytes(with_sorted_metadata(save(tensors, metadata)))
    losses = tensors["losses"]
    print(
        f"{name}: {path.stat().st_size} bytes, loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
        f"largest change of an earlier logit {leak:.3g} ({'LEAKS' if leaks else 'causal'})"
        + (f", {opinion}" if opinion else "")
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = Path(__file__).resolve().parents[1]
    parser.add_argument("--out", type=Path, default=default, help="default: tests/golden")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CASES))
        return
    torch.set_num_threads(1)  # one order of summation, so that runs agree to the bit
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        make_case(name, arguments.out)


if __name__ == "__main__":
    main()
