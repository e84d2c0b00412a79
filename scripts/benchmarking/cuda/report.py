"""From the rounds' figures to rows, aims and Markdown. No measuring here."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarking.tables import Page, bytes_text, duration, median, spread, table
from benchmarking.works import Work

from .kernels import lowest
from .works import flops_per_token

PAGE = Page("scripts/bench.py --device cuda", "GPU speed")
RATIO, RATIO_AFTER, UTILISATION, MEMORY_SHARE, ATTENTION_SHARE = 1.0, 1.2, 0.5, 0.85, 0.6  # what is wanted
LEAST_CONTEXT = 1024  # of attention that the aim is for


def build_row(work: Work, precision: str, rounds: Mapping[str, list[dict]], gemm_tflops: float | None, peak_tflops: float | None) -> dict:
    """A row from each contender's rounds ({"ms": mean time of a step}); "pytorch" may be missing or empty."""
    flops = flops_per_token(work)
    row = {"work": work.name, "precision": precision, "batch": work.batch, "context": work.context, "parameters": work.parameters,
           "gflop_per_token": 1e-9 * flops, "peak_tflops": peak_tflops, "rounds": {name: [r["ms"] for r in found] for name, found in rounds.items()}}
    for name, found in rounds.items():
        if not found:
            continue
        ms = median(r["ms"] for r in found)
        tflops = 1e-9 * flops * work.tokens / ms
        row[name] = {"ms": ms, "tokens_per_second": 1e3 * work.tokens / ms, "tflops": tflops,
                     "utilisation": tflops / peak_tflops if peak_tflops else None,
                     "share_of_gemm_rate": tflops / gemm_tflops if gemm_tflops else None}
    pairs = list(zip(rounds["reverie"], rounds.get("pytorch") or []))
    row["ratio"] = median(theirs["ms"] / ours["ms"] for ours, theirs in pairs) if pairs else None
    return row


def aim(what: str, wanted: str, got: float | None, met: bool | None, told: str) -> dict:
    return {"what": what, "wanted": wanted, "got": got, "met": met, "told": told}


def share_aim(what: str, wanted: float, rows: list[dict], name: str) -> dict:
    """Every row is to reach the share; the lowest stands for all."""
    worst = lowest(rows)
    if worst is None:
        return aim(what, f"above {100 * wanted:.0f} %", None, None, "not measured")
    reached = sum(row["share"] > wanted for row in rows)
    return aim(what, f"above {100 * wanted:.0f} %", worst["share"], reached == len(rows),
               f"{reached} of {len(rows)}; lowest {100 * worst['share']:.0f} % ({name.format(**worst)})")


def aims(result: dict, least_context: int = LEAST_CONTEXT) -> list[dict]:
    """What is wanted, beside what was got. met: None where it was not measured."""
    found = []
    for row in result["rows"]:
        what = f"{row['work']} {row['precision']}: "
        if row["ratio"] is None:
            found.append(aim(what + "tokens/s, Reverie / PyTorch", f"{RATIO:.1f}, then {RATIO_AFTER:.1f}", None, None, "not measured"))
        else:
            found.append(aim(what + "tokens/s, Reverie / PyTorch", f"{RATIO:.1f}, then {RATIO_AFTER:.1f}", row["ratio"], row["ratio"] >= RATIO,
                             f"{row['ratio']:.2f}" + (", the second too" if row["ratio"] >= RATIO_AFTER else "")))
        if row["precision"] == "bf16" and row["work"] == "gpt2":
            share = row["reverie"]["utilisation"]
            found.append(aim(what + "model-FLOP utilisation (the aim is for an H100)", f"above {100 * UTILISATION:.0f} %", share,
                             None if share is None else share > UTILISATION, "this GPU's peak is not known" if share is None else f"{100 * share:.1f} %"))
    if "memory" in result:
        found.append(share_aim("kernels that memory bounds, of the copy rate", MEMORY_SHARE, result["memory"], "{kernel}, {case}"))
        for precision in ("bf16", "f32"):
            rows = [a for a in result["attention"] if a["precision"] == precision and a["context"] >= least_context]
            found.append(share_aim(f"attention in {precision} at T of {least_context} and more, of the GEMM rate", ATTENTION_SHARE, rows,
                                   "{pass}, T {context}, heads of {head_size}"))
    return found


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def aims_table(found: list[dict]) -> str:
    verdict = {True: "yes", False: "**no**", None: "–"}
    return table(["what", "wanted", "got", "met"], [[a["what"], a["wanted"], a["told"], verdict[a["met"]]] for a in found])


def step_table(rows: list[dict]) -> str:
    heads = ["work", "precision", "batch x context", "Reverie, tokens/s", "PyTorch, tokens/s", "Reverie / PyTorch", "Reverie's MFU", "PyTorch's MFU",
             "Reverie, of the GEMM rate", "Reverie's rounds", "PyTorch's rounds"]
    lines = []
    for r in rows:
        theirs = r.get("pytorch")
        lines.append([
            r["work"], r["precision"], f"{r['batch']} x {r['context']}", f"**{r['reverie']['tokens_per_second']:,.0f}**",
            f"{theirs['tokens_per_second']:,.0f}" if theirs else "–", f"**{r['ratio']:.2f}**" if r["ratio"] else "–", percent(r["reverie"]["utilisation"]),
            percent(theirs["utilisation"]) if theirs else "–", percent(r["reverie"]["share_of_gemm_rate"]), spread(r["rounds"]["reverie"]),
            spread(r["rounds"]["pytorch"]) if theirs else "–",
        ])
    return table(heads, lines)


def share_spread(row: dict) -> str:
    return f"{100 * min(row['shares']):.0f} to {100 * max(row['shares']):.0f} %"


def memory_table(rows: list[dict]) -> str:
    heads = ["kernel", "case", "MB", "time", "GB/s", "of the copy rate", "rounds"]
    return table(heads, [[r["kernel"], r["case"], f"{1e-6 * r['bytes']:,.0f}", duration(r["ms"]), f"{r['gb_per_second']:,.0f}", f"**{percent(r['share'])}**",
                          share_spread(r)] for r in rows])


def products_table(rows: list[dict]) -> str:
    heads = ["product", "M x N x K", "precision", "time", "TFLOP/s", "of the large product's rate", "rounds"]
    return table(heads, [[r["product"], r["size"], r["precision"], duration(r["ms"]), f"{r['tflops']:.1f}", percent(r["share"]), share_spread(r)] for r in rows])


def attention_table(rows: list[dict]) -> str:
    heads = ["pass", "precision", "T", "heads x size", "batch", "time", "TFLOP/s", "of the GEMM rate", "rounds"]
    return table(heads, [[r["pass"], r["precision"], str(r["context"]), f"{r['heads']} x {r['head_size']}", str(r["batch"]), duration(r["ms"]),
                          f"{r['tflops']:.1f}", f"**{percent(r['share'])}**", share_spread(r)] for r in rows])


def provenance(result: dict) -> str:
    m, gpu = result["machine"], result["gpu_info"]
    lines = [f"- Host: {m['cpu']}, {m['cores']} cores, {bytes_text(m['memory_bytes'])}, {m['system']}; {result['threads']} threads",
             f"- Reverie: commit `{result['commit']}`; device: {m['reverie']['cuda']}",
             f"- {result['round_count']} rounds, medians of them; others' share of the CPU: median {100 * m['others_cpu_share_median']:.1f} %",
             f"- Command: `{result['command']}`"]
    if gpu:
        lines.insert(0, f"- GPU: {result['gpu']}, {gpu['memory_mib'] or 0:,.0f} MiB, driver {result['driver']}, CUDA {result['cuda'] or 'unknown'}; power limit "
                        f"{gpu['power_limit_watts'] or 0:.0f} W, at most {gpu['most_mhz'] or 0:.0f} MHz; {gpu['busy_percent'] or 0:.0f} % busy before the run")
    if result.get("pytorch"):
        p = result["pytorch"]
        lines.insert(2, f"- PyTorch {p['version']} (CUDA {p['cuda']}) on {p['device']}: torch.compile, scaled_dot_product_attention, fused AdamW; bf16 by autocast")
    return "\n".join(lines)


def markdown(result: dict) -> str:
    """What stands between the marks of the results page."""
    parts = [provenance(result)]
    if result["trial"]:
        parts.insert(0, f"**A trial of the script at tiny sizes on `{result['flavour']}`: these figures say nothing of speed.**")
    parts += ["## Wanted and got", aims_table(result["aims"])]
    if result["rows"]:
        parts += ["## A training step", step_table(result["rows"]),
                  "MFU: (6 N + 12 L T d) FLOP a token (N: parameters without the positions; whole squares of attention), times tokens/s, over the peak that the GPU's "
                  "data sheet gives for dense products (" + ", ".join(dict.fromkeys(f"{r['precision']}: {r['peak_tflops'] or 'unknown'} TFLOP/s" for r in result["rows"]))
                  + "). Both train the same model on the same tokens with the same batch. A round's figure is the mean of its steps."]
    parts += [f"{left['what']} is left out: {left['why']}" for left in result["left_out"]]
    if "memory" in result:
        c = result["ceilings"]
        parts += ["## Kernels", f"Ceilings, measured in the same rounds: memory is copied at {c['copy_gb_per_second']:,.0f} GB/s (read and written); large square products: "
                  + "; ".join(f"{p} {c[f'gemm_{p}_tflops']:.1f} TFLOP/s by Reverie through cublasLt, "
                              + (f"{c[f'pytorch_gemm_{p}_tflops']:.1f} by PyTorch" if f"pytorch_gemm_{p}_tflops" in c else "not measured by PyTorch") for p in ("bf16", "f32"))
                  + ". Shares are of the ceiling of the same round, of products the faster one.",
                  memory_table(result["memory"]), "### Products of a step", products_table(result["products"]), "### Attention",
                  "Causal; the pairs that are seen count, two products forward and five backward (scores are computed once more).", attention_table(result["attention"])]
    return PAGE.between_marks("\n\n".join(parts))
