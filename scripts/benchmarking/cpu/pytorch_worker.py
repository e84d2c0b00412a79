"""A PyTorch twin of Reverie's GPT that lives through a whole benchmark and computes only when told.

Started by pytorch.py with a JSON object as its argument; reads one JSON command a line and answers
each with one line. Idle, it blocks on its input, and its threads sleep.
"""

import contextlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import torch  # noqa: E402

import reference_gpt  # noqa: E402
from benchmarking.cpu import pytorch_imm  # noqa: E402


class Twin:
    def __init__(self, start):
        work = start["work"]
        self.batch, self.context = work["batch"], work["context"]
        torch.manual_seed(1337)
        text = Path(start["text"]).read_text(encoding="utf-8")
        index = {c: i for i, c in enumerate(sorted(set(text)))}
        self.data = torch.tensor([index[c] for c in text[:int(0.9 * len(text))]])
        shape = reference_gpt.Shape(work["layers"], work["heads"], work["width"], self.context)
        self.model = (pytorch_imm.ImmGpt if start.get("imm") else reference_gpt.Gpt)(len(index), shape)
        self.loss = torch.compile(self.model.loss) if start["mode"] == "compiled" else self.model.loss
        groups = reference_gpt.parameter_groups(self.model)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=True)
        self.offsets = torch.arange(self.context + 1)

    def step(self, precision):
        """As long as Reverie's: from choosing the batch to the new weights."""
        starts = torch.randint(len(self.data) - self.context, (self.batch, 1))
        windows = self.data[starts + self.offsets]
        autocast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with autocast:
            loss = self.loss(windows[:, :-1], windows[:, 1:])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def steps(self, precision, warmup, count):
        for _ in range(warmup):
            self.step(precision)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            loss = self.step(precision)
            times.append(1e3 * (time.perf_counter() - begin))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "steps_ms": times,
            "loss": loss,
            "page_faults_per_step": (usage.ru_minflt - faults) / count,
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }

    def about(self):
        config = torch.__config__.show()
        onednn = next((line.strip(" -") for line in config.splitlines() if "MKL-DNN" in line or "oneDNN" in line), "")
        return {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "matmul": onednn,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }


def main():
    # Whatever a compiler prints goes to stderr, not between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    start = json.loads(sys.argv[1])
    torch.set_flush_denormal(True)  # before there are other threads, which inherit it
    torch.set_num_threads(start["threads"])
    twin = Twin(start)
    print(json.dumps(twin.about()), file=answers)
    for line in sys.stdin:
        try:
            answer = twin.steps(**json.loads(line))
        except Exception:  # whatever it is, the other modes go on
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
