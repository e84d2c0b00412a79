#!/usr/bin/env python3
"""Writes tests/golden/pretrained: tiny models as transformers saves them, and what it computes.

Environment (a CPU is enough):
    python3 -m venv golden && golden/bin/pip install torch transformers safetensors
    golden/bin/python tests/golden/make/make_hf_golden.py [--out tests/golden/pretrained]

One directory per case, as AutoModelForCausalLM.save_pretrained writes it (config.json and
model.safetensors; one case in shards with an index), with
    expected.safetensors
        tokens     i32 [2, time]
        logits     f32 [2, time, vocab]  computed in f32, as users of transformers compute them
        targets    i32 [2, time]         (-1: no target)
        loss       f64                   mean cross entropy over the targets, all computed in f64
        grad.NAME  f64                   its gradient for some tensors, under the names of the file
        greedy     i32 [new]             what follows row 0 of `tokens`, the likeliest each time
Weights are random, and large enough that every path matters; norms are not at their neutral value.
A rerun with the same versions writes the same bytes.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save

TIME = 24  # longer than the sliding windows below
NEW = 12
VOCAB = 61

# Shared by the rotary families.
SIZES = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
# case: (model_type, config, tensors whose gradients are stored)
CASES = {
    "gpt2": (
        "gpt2",
        dict(vocab_size=VOCAB, n_positions=48, n_embd=16, n_layer=2, n_head=2),
        ["transformer.wpe.weight", "transformer.h.0.attn.c_attn.weight"],
    ),
    "llama": (
        "llama",
        dict(SIZES, head_dim=6),
        ["model.layers.0.self_attn.k_proj.weight", "lm_head.weight"],
    ),
    "llama3": (
        "llama",
        dict(SIZES, rope_parameters=LLAMA3, head_dim=8, tie_word_embeddings=True),
        ["model.layers.0.self_attn.q_proj.weight"],
    ),
    "mistral": (
        "mistral",
        dict(SIZES, sliding_window=7),
        ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.up_proj.weight"],
    ),
    "mistral_all_keys": (
        "mistral",
        dict(SIZES, sliding_window=None, head_dim=6),
        ["model.layers.1.self_attn.q_proj.weight"],
    ),
    "qwen2": (
        "qwen2",
        dict(SIZES),
        ["model.layers.1.self_attn.q_proj.bias", "model.embed_tokens.weight"],
    ),
    "qwen2_windows": (
        "qwen2",
        dict(SIZES, num_hidden_layers=3, use_sliding_window=True, sliding_window=7, max_window_layers=1),
        ["model.layers.2.self_attn.k_proj.weight"],
    ),
    "qwen3": (
        "qwen3",
        dict(SIZES, head_dim=6, tie_word_embeddings=True),
        ["model.layers.0.self_attn.k_norm.weight", "model.layers.1.mlp.gate_proj.weight"],
    ),
    "gemma2": (
        "gemma2",
        dict(
            SIZES, head_dim=6, sliding_window=7, query_pre_attn_scalar=9,
            attn_logit_softcapping=2.0, final_logit_softcapping=1.5,
        ),
        [
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.pre_feedforward_layernorm.weight",
            "model.embed_tokens.weight",
        ],
    ),
    "qwen3_windows": (
        "qwen3",
        dict(
            SIZES, num_hidden_layers=3, head_dim=6, use_sliding_window=True, sliding_window=5,
            max_window_layers=2,
        ),
        ["model.layers.2.self_attn.k_norm.weight"],
    ),
    # As published, which GGUF files can say: scores by head_dim, every second layer global.
    "gemma2_published": (
        "gemma2",
        dict(SIZES, head_dim=6, sliding_window=7, query_pre_attn_scalar=6),
        ["model.layers.0.self_attn.q_proj.weight"],
    ),
    "gemma3": (
        "gemma3_text",
        dict(
            SIZES, num_hidden_layers=4, head_dim=6, sliding_window=5, query_pre_attn_scalar=9,
            layer_types=["sliding_attention", "sliding_attention", "full_attention",
                         "sliding_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 200.0, "factor": 4.0},
            },
        ),
        [
            "model.layers.2.self_attn.q_norm.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.3.post_attention_layernorm.weight",
        ],
    ),
    # As published: every sixth layer is global.
    "gemma3_published": (
        "gemma3_text",
        dict(
            SIZES, hidden_size=12, num_hidden_layers=6, head_dim=6, sliding_window=5,
            query_pre_attn_scalar=6,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        ),
        ["model.layers.5.self_attn.q_norm.weight", "model.layers.0.self_attn.k_proj.weight"],
    ),
}
SHARDED = {"qwen2"}


def build(case):
    model_type, options, _ = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **options)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, None
    # The other implementations leave soft-caps out.
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(sum(map(ord, case)))
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() >= 2:
                value.copy_(0.35 * noise)
            elif name.endswith("bias"):
                value.copy_(0.2 * noise)
            else:  # a norm: 0 or 1 when neutral
                value.add_(0.3 * noise)
    return model.eval()


def loss_of(logits, targets):
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1
    )


def frequencies(rope, dim):
    """Inverse frequencies in f64; transformers has them in f32 whatever the model's type."""
    inverse = rope["rope_theta"] ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if rope["rope_type"] == "linear":
        return inverse / rope["factor"]
    if rope["rope_type"] == "llama3":
        turns = rope["original_max_position_embeddings"] * inverse / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return inverse * (keep + (1 - keep) / rope["factor"])
    return inverse


class ExactAngles(torch.nn.Module):
    """A rotary embedding in f64."""

    def __init__(self, original, config):
        super().__init__()
        dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
        ropes = config.rope_parameters
        kinds = {None: ropes} if "rope_type" in ropes else ropes
        self.frequencies = {}
        for kind, rope in kinds.items():
            exact = frequencies(rope, dim)
            buffer = getattr(original, f"{kind}_inv_freq" if kind else "inv_freq").double()
            if ((exact - buffer).abs() > 1e-6 * exact).any():
                raise RuntimeError(f"{rope}: wanted {buffer}, computed {exact}")
            self.frequencies[kind] = exact

    def forward(self, x, position_ids, layer_type=None):
        angles = position_ids[..., None].double() * self.frequencies[layer_type]
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()


def exact(model):
    """The model in f64, the parts that transformers computes in f32 included."""
    model = model.double()
    rotary = getattr(model.model, "rotary_emb", None) if hasattr(model, "model") else None
    if rotary is not None:
        model.model.rotary_emb = ExactAngles(rotary, model.config)
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            plus = 1.0 if "Gemma" in type(module).__name__ else 0.0
            eps = module.eps if hasattr(module, "eps") else module.variance_epsilon

            def forward(x, module=module, plus=plus, eps=eps):
                scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
                return x * scale * (plus + module.weight)

            module.forward = forward
    return model


def with_sorted_metadata(data):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def greedy(model, prompt):
    tokens, gap = prompt.clone()[None], float("inf")
    for _ in range(NEW):
        best = model(input_ids=tokens, use_cache=False).logits[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        tokens = torch.cat([tokens, best.indices[:1][None]], dim=1)
    return tokens[0, len(prompt) :], gap


def make_case(case, out):
    directory = out / case
    shutil.rmtree(directory, ignore_errors=True)
    model = build(case)
    options = {"max_shard_size": "6KB"} if case in SHARDED else {}
    model.save_pretrained(directory, **options)
    for extra in directory.glob("generation_config.json"):
        extra.unlink()
    for file in directory.iterdir():
        file.chmod(0o644)

    generator = torch.Generator().manual_seed(7)
    text = torch.randint(VOCAB, [2, TIME + 1], generator=generator)
    tokens, targets = text[:, :-1], text[:, 1:].clone()
    targets[0, 3] = targets[1, 17] = -1
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        continuation, gap = greedy(model, tokens[0])
    if gap < 1e-3:
        raise RuntimeError(f"{case}: greedy tokens hang on a gap of {gap:.2g}; change the seed")

    softmax = torch.nn.functional.softmax
    double = exact(model)
    # Attention asks for a softmax in f32.
    torch.nn.functional.softmax = lambda x, dim, dtype=None: softmax(x, dim=dim)
    logits_f64 = double(input_ids=tokens, use_cache=False).logits
    difference = (logits_f64 - logits).abs().max().item()
    if logits_f64.dtype != torch.float64 or difference > 1e-4:
        raise RuntimeError(f"{case}: f64 differs from f32 by {difference:.3g}")
    loss = loss_of(logits_f64, targets)
    loss.backward()
    torch.nn.functional.softmax = softmax

    tensors = {
        "tokens": tokens.int().contiguous(),
        "targets": targets.int().contiguous(),
        "logits": logits.contiguous(),
        "loss": loss.detach(),
        "greedy": continuation.int(),
    }
    parameters = dict(double.named_parameters())
    for name in CASES[case][2]:
        tensors[f"grad.{name}"] = parameters[name].grad
    metadata = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "script": "scripts/make_hf_golden.py",  # where it once lay: the files' bytes stay
    }
    (directory / "expected.safetensors").write_bytes(
        with_sorted_metadata(save(tensors, metadata))
    )
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(
        f"{case}: {len(list(directory.iterdir()))} files, {size} bytes, loss {loss.item():.4f}, "
        f"f32 off by {difference:.2g}, greedy gap {gap:.3g}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = Path(__file__).resolve().parents[1] / "pretrained"
    parser.add_argument("--out", type=Path, default=default, help="default: tests/golden/pretrained")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="these cases alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in arguments.only:
        make_case(case, arguments.out)


if __name__ == "__main__":
    main()
