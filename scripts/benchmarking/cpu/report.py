"""From the rounds' figures to rows, and from rows to Markdown. No measuring here."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarking.tables import Page, bytes_text, duration, median, spread, table

from .memories import WANTED_OVERHEAD
from .stored import LLAMA_CPP

MIB = 1 << 20
PAGE = Page("scripts/bench.py", "CPU speed")


def build_row(work: str, precision: str, tokens: int, rounds: Mapping[str, list[dict]]) -> dict:
    """A row of the table from each contender's rounds ({"ms": ...}, its median of one round).

    `rounds`: "reverie", "bound", and "eager" and "compiled", of which either may be missing or
    empty (it failed), but not both. PyTorch's better mode is the one with the lower median.
    """
    ms = {name: median(r["ms"] for r in found) for name, found in rounds.items() if found}
    modes = {name: ms[name] for name in ("eager", "compiled") if name in ms}
    if not modes:
        raise ValueError(f"{work} {precision}: PyTorch ran in no mode")
    mode = min(modes, key=modes.get)
    reverie = ms["reverie"]
    return {
        "work": work,
        "precision": precision,
        "reverie_ms": reverie,
        "pytorch_ms": modes[mode],
        "pytorch_mode": mode,
        "bound_ms": ms["bound"],
        "ratio": modes[mode] / reverie,
        "reverie_over_bound": reverie / ms["bound"],
        "bound_causal_ms": median(r["bound_causal_ms"] for r in rounds["bound"]),
        "bound_gflops": median(r["gflops"] for r in rounds["bound"]),
        "eager_ms": modes.get("eager"),
        "compiled_ms": modes.get("compiled"),
        "tokens_per_second": 1e3 * tokens / reverie,
        "pytorch_tokens_per_second": 1e3 * tokens / modes[mode],
        "start_to_first_step_ms": median(r["start_to_first_step_ms"] for r in rounds["reverie"]),
        "max_rss_bytes": max(r["max_rss_bytes"] for r in rounds["reverie"]),
        "rounds": {name: [r["ms"] for r in found] for name, found in rounds.items()},
    }


def step_table(rows: list[dict]) -> str:
    heads = ["work", "precision", "Reverie", "best PyTorch", "its mode", "bound", "PyTorch / Reverie", "Reverie / bound",
             "tokens/s", "Reverie's rounds", "PyTorch's rounds"]
    return table(heads, [[
        r["work"], r["precision"], f"**{duration(r['reverie_ms'])}**", duration(r["pytorch_ms"]), r["pytorch_mode"],
        duration(r["bound_ms"]), f"**{r['ratio']:.2f}**", f"{r['reverie_over_bound']:.2f}", f"{r['tokens_per_second']:,.0f}",
        spread(r["rounds"]["reverie"]), spread(r["rounds"][r["pytorch_mode"]]),
    ] for r in rows])


def growth_table(points: list[dict]) -> str:
    """Each point beside the one before it on its axis."""
    heads = ["axis", "value", "parameters", "step", "FLOP bound", "byte bound", "step / larger bound", "GFLOP/s",
             "grew: time", "grew: FLOP", "planned peak", "measured peak RSS", "least memory", "grew: planned peak"]
    lines, before = [], None
    for p in points:
        if before is not None and before["axis"] != p["axis"]:
            before = None

        def grew(key: str, before: dict | None = before, p: dict = p) -> str:
            return f"{p[key] / before[key]:.2f}" if before else "–"

        lines.append([
            p["axis"], str(p["value"]), f"{p['parameters']:,}", duration(p["ms"]), duration(p["flop_bound_ms"]),
            duration(p["byte_bound_ms"]), f"{p['ms'] / max(p['flop_bound_ms'], p['byte_bound_ms']):.2f}", f"{p['gflops']:.0f}",
            grew("ms"), grew("gflop"), f"{p['planned_peak_bytes'] / MIB:.0f} MiB", f"{p['max_rss_bytes'] / MIB:.0f} MiB",
            f"{p['least_memory_bytes'] / MIB:.0f} MiB", grew("planned_peak_bytes"),
        ])
        before = p
    return table(heads, lines)


def attention_table(contexts: list[dict]) -> str:
    heads = ["context", "forward", "backward", "µs a token", "GFLOP/s", "share of the GEMM rate", "bytes a token, in and out", "scratch bytes a token",
             "peak RSS"]
    return table(heads, [[
        str(c["context"]), duration(c["forward_ms"]), duration(c["backward_ms"]), f"{c['us_per_token']:.2f}", f"{c['gflops']:.0f}",
        f"{100 * c['share_of_gemm_rate']:.0f} %", f"{c['tensor_bytes_per_token']:,.0f}", f"{c['scratch_bytes_per_token']:,.0f}",
        f"{c['max_rss_bytes'] / MIB:.0f} MiB",
    ] for c in contexts])


def decoding_table(rows: list[dict]) -> str:
    heads = ["texts at once", "tokens/s", "a step", "weights read", "memory reads", "share of it", "tokens/s, times one text"]
    return table(heads, [[
        str(r["batch"]), f"**{r['tokens_per_second']:,.1f}**", duration(r["step_ms"]), f"{r['weights_gb_per_second']:.1f} GB/s",
        f"{r['read_gb_per_second']:.1f} GB/s", f"**{100 * r['share_of_bandwidth']:.0f} %**", f"{r['tokens_per_second'] / rows[0]['tokens_per_second']:.2f}",
    ] for r in rows])


def tokenization_table(t: dict) -> str:
    speeds = t["mb_per_second"]
    heads = ["Reverie, 1 core", f"tiktoken {t['tiktoken']}, 1 core", "Reverie / tiktoken", f"Reverie, {t['threads']} threads", "against 1 core"]
    return table(heads, [[f"**{speeds['reverie_1']:.1f} MB/s**", f"{speeds['tiktoken']:.1f} MB/s", f"**{t['ratio']:.2f}**",
                          f"{speeds['reverie_all']:.1f} MB/s", f"{t['scaling']:.2f}"]])


def latents_table(r: dict) -> str:
    heads = ["packed step", "forward", "backward", "AdamW", "separate forwards", "separate / packed", "products alone", "packed / products", "GFLOP", "rounds"]
    return table(heads, [[
        f"**{duration(r['packed_ms'])}**", duration(r["forward_ms"]), duration(r["backward_ms"]), duration(r["update_ms"]), duration(r["separate_ms"]),
        f"**{r['speedup']:.1f}**", duration(r["bound_ms"]), f"**{r['over_bound']:.2f}**", f"{r['gflop']:.1f}", spread([x["packed_ms"] for x in r["rounds"]]),
    ]])


def imm_table(rows: list[dict]) -> str:
    heads = ["model", "parameters", "GFLOP a step", "a step", "time / GPT", "operations / GPT", "time / operations", "rounds"]
    return table(heads, [[
        r["model"], f"{r['parameters']:,}", f"{r['gflop']:.2f}", f"**{duration(r['ms'])}**", f"{r['time_over_gpt']:.2f}", f"{r['flops_over_gpt']:.2f}",
        f"**{r['over_justified']:.2f}**", spread(r["rounds"]),
    ] for r in rows])


def llama_cpp_sentence(stored: dict) -> str:
    about = stored.get("llama_cpp")
    return (f" llama.cpp is that of llama-cpp-python {about['version']} on the same files (`{about['system'].strip()}`); its memory holds an interpreter."
            if about else "")


def stored_costs(x: dict, name: str, model: str = "") -> list[str]:
    return [model, name, f"{x['tokens_per_cpu_second']:.1f}", f"{x['window_cpu_seconds']:.2f} s", f"{x['eval_max_rss_bytes'] / 1e9:.2f} GB",
            f"{x['sample_max_rss_bytes'] / 1e9:.2f} GB", f"{x['perplexity']:.4f}" if "perplexity" in x else ""]


def stored_ratios(q: dict, name: str) -> list[str]:
    return ["", name, *(f"**{q[k]:.2f}**" for k in ("tokens_per_cpu_second", "window_cpu_seconds", "eval_max_rss_bytes", "sample_max_rss_bytes")),
            f"{q['perplexity']:.6f}" if "perplexity" in q else ""]


def stored_table(rows: list[dict]) -> str:
    heads = ["model", "", "tokens a CPU second", "a window read", "peak memory of eval", "of sample", "perplexity"]
    lines = []
    for r in rows:
        lines += [stored_costs(r["before"], "before", r["model"]), stored_costs(r["after"], "after"), stored_ratios(r["ratio"], "after / before")]
        if LLAMA_CPP in r:
            lines += [stored_costs(r[LLAMA_CPP], LLAMA_CPP), stored_ratios(r["ratio_llama_cpp"], f"after / {LLAMA_CPP}")]
    return table(heads, lines)


def provenance(result: dict) -> str:
    m = result["machine"]
    lines = [
        f"- Machine: {m['cpu']}, {m['cores']} cores, {bytes_text(m['memory_bytes'])}, {m['system']}; {', '.join(m['instructions'])}",
        f"- Reverie: commit `{result['commit']}`, kernels {m['reverie']['kernels']}, {m['reverie']['matmul']}",
        f"- Threads: {m['threads']} for everybody; {result['round_count']} rounds, medians of them",
        f"- Others' share of the CPU during the run: median {100 * m['others_cpu_share_median']:.1f} %, most {100 * m['others_cpu_share_max']:.1f} %"
        + ("" if m["quiet"] else " (**not a quiet machine**)"),
        f"- Command: `{result['command']}`",
    ]
    if "pytorch" in m:
        p = m["pytorch"]
        settings = " ".join(f"{k}={v}" for k, v in p["environment"].items())
        lines.insert(2, f"- PyTorch {p['version']}, {p['matmul']}, {p['cpu_capability']}; fused AdamW, denormals flushed; `{settings}`")
    return "\n".join(lines)


def gate_table(rows: list[dict]) -> str:
    def cell(row: dict, figure: str) -> str:
        after = row["after"].get(figure)
        if after is None:
            return "–"
        before = row.get("before", {}).get(figure)
        return f"**{after:.2f}**" if before is None else f"{before:.2f} → **{after:.2f}** ({before / max(after, 0.01):.1f})"

    heads = ["model", "start", "first step", "one evaluation", "end", "largest resident set"]
    return table(heads, [[row["model"], *(cell(row, f) for f in ("start", "first_step", "evaluation", "end")),
                          " → ".join(bytes_text(row[w]["peak_bytes"]) for w in ("before", "after") if w in row)] for row in rows])


def markdown(result: dict) -> str:
    """What stands between the marks of the results page."""
    parts = [provenance(result)]
    if result["rows"]:
        parts += ["## A training step", step_table(result["rows"])]
    parts += [f"{left['work']} {left['precision']} is left out: {left['why']}" for left in result["left_out"]]
    if "growth" in result:
        g = result["growth"]
        parts += ["## How a step grows", f"f32; the work `small` (batch 12, context 64, width 128, 4 layers) with one number changed. Memory moves {g['gb_per_second']:.1f} GB/s. "
                  "The byte bound is for data that no cache keeps, the FLOP bound the time of the products alone; \"grew\" is against the row above.",
                  growth_table(g["points"])]
    if "attention" in result:
        a = result["attention"]
        parts += ["## Attention", f"Causal, f32, forward and backward, {a['heads']} heads of {a['head_size']}, {a['tokens']:,} tokens in sequences of the context's length; operations that causality "
                  f"leaves. The GEMM rate, {a['gemm_gflops']:.0f} GFLOP/s, is that of the qkv projection of the same tokens.",
                  attention_table(a["contexts"])]
    if "decode" in result:
        d = result["decode"]
        parts += ["## Decoding", f"`reverie sample` with its KV cache: GPT-2's shape ({d['layers']} layers, width {d['width']}, vocabulary {d['vocabulary']:,}), f32, "
                  f"{1e-6 * d['weight_bytes']:.0f} MB of weights a token; {d['tokens']} tokens a text, the first not counted. Memory is read by all threads, "
                  "measured before and after each run.", decoding_table(d["rows"])]
    if "tokenize" in result:
        t = result["tokenize"]
        parts += ["## Tokenising", f"GPT-2's byte pairs, {1e-6 * t['text_bytes']:.0f} MB made of {t['text']}, {t['tokens']:,} tokens, the same from both. Reverie's time is all of "
                  "`reverie prepare`, from its start to the token file; tiktoken's that of encode() alone.", tokenization_table(t)]
    for r in result.get("latents", ()):
        parts += [f"## A coprocessor's training step beside {r['base_name']}", f"The base frozen, f32, {r['texts']} text of {r['length']} tokens, {r['groups']} insertion points of {r['latents']} latents "
                  f"and {r['ahead']} tokens ahead. Separate forwards read each group's own prefix, latents and tokens as one plain text; both give the same loss "
                  f"({r['loss']:.2f} and {r['separate_loss']:.2f}). The linear layers' products alone run at {r['gflops']:.0f} GFLOP/s at their own shapes; "
                  f"attention's {r['attention_gflop']:.1f} GFLOP are counted at that rate.", latents_table(r)]
    if "imm" in result:
        i = result["imm"]
        over = [r for r in i["rows"] if r["over_justified"] > WANTED_OVERHEAD]
        parts += ["## The implicit memory module", f"A step of `reverie train`, f32: {i['layers']} layers, width {i['width']}, batch {i['batch']}, context {i['context']}. Times are medians; "
                  "a quotient is the median over the rounds of a model's time over that of the GPT of the same round. Operations are those of `reverie plan`. "
                  + (f"More than {WANTED_OVERHEAD} times what their operations justify: {', '.join(r['model'] for r in over)}." if over
                     else f"No model takes more than {WANTED_OVERHEAD} times what its operations justify."), imm_table(i["rows"])]
    if "stored" in result:
        t = result["stored"]
        parts += ["## Frozen weights as their file has them", f"`reverie sample` and `reverie eval --window {t['window']}` on {t['text']}. Before: {t['before']}. Times are CPU seconds in user mode, and "
                  "differences of two runs (of lengths, of numbers of windows), so that loading does not count; memory is a process's peak, pages of the mapped file included. "
                  f"Ratios are medians over the rounds of quotients within one round.{llama_cpp_sentence(t)}", stored_table(t["rows"])]
    if "gate" in result:
        g = result["gate"]
        parts += ["## What a run costs beside its steps", f"CPU seconds of `reverie train` with {g['threads']} thread{'s' if g['threads'] > 1 else ''}, medians over the rounds: "
                  "from its start until the gate has spoken, until the end of the first step, of one evaluation (with its prefix-only scores), and from the last step to the "
                  "end of the program (final evaluation, probes, checkpoint). `smollm2` is a coprocessor of 16 latents beside SmolLM2 135M in bf16; before, "
                  "`smollm2_rematerialized` is not rematerialised, either.", gate_table(g["rows"])]
    return PAGE.between_marks("\n\n".join(parts))
