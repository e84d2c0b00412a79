"""A PyTorch twin of Reverie's GPT on the GPU that lives through a whole benchmark and computes only when told.

Started by driver.py with a JSON object as its argument; reads one JSON command a line and answers each with one line.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import torch  # noqa: E402

import reference_gpt  # noqa: E402


class Twin:
    """As PyTorch's users make it fast: everything on the device, compiled, nothing waited for within the steps."""

    def __init__(self, start):
        work = start["work"]
        self.batch, self.context, self.device = work["batch"], work["context"], start["device"]
        torch.manual_seed(1337)
        tokens = array("H")
        tokens.frombytes(Path(start["tokens"]).read_bytes())
        self.data = torch.tensor(tokens, dtype=torch.int64, device=self.device)
        shape = reference_gpt.Shape(work["layers"], work["heads"], work["width"], self.context)
        self.model = reference_gpt.Gpt(work["vocabulary"], shape).to(self.device)
        # A trial on the CPU goes through all of torch.compile but the making of code, which takes minutes.
        backend = "inductor" if self.device == "cuda" else "aot_eager"
        self.loss = torch.compile(self.model.loss, backend=backend, dynamic=False)
        groups = reference_gpt.parameter_groups(self.model)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=True)
        self.offsets = torch.arange(self.context + 1, device=self.device)

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def step(self, precision):
        """From choosing the batch to the new weights; its loss is left on the device."""
        starts = torch.randint(len(self.data) - self.context, (self.batch, 1), device=self.device)
        windows = self.data[starts + self.offsets]
        autocast = torch.autocast(self.device, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with autocast:
            loss = self.loss(windows[:, :-1], windows[:, 1:])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def steps(self, precision, warmup, count):
        for _ in range(warmup):
            self.step(precision)
        self.wait()
        begin = time.perf_counter()
        for _ in range(count):
            loss = self.step(precision)
        self.wait()
        answer = {"ms": 1e3 * (time.perf_counter() - begin) / count, "loss": loss.item()}
        if self.device == "cuda":
            answer["peak_bytes"] = torch.cuda.max_memory_allocated()
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()  # others are measured on this GPU, too
        return answer

    def product(self, precision, size, count):
        """TFLOP/s of a large square product."""
        a = torch.rand(size, size, device=self.device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32) * 2 - 1
        torch.mm(a, a)
        self.wait()
        begin = time.perf_counter()
        for _ in range(count):
            torch.mm(a, a)
        self.wait()
        tflops = 2e-12 * size**3 * count / (time.perf_counter() - begin)
        if self.device == "cuda":
            del a
            torch.cuda.empty_cache()
        return {"tflops": tflops}

    def about(self):
        cuda = self.device == "cuda"
        return {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }


def main():
    # Whatever a compiler prints goes to stderr, not between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    start = json.loads(sys.argv[1])
    if start["device"] == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda}); --pytorch PYTHON names one that does")
    if "threads" in start:
        torch.set_num_threads(start["threads"])
    twin = Twin(start)
    print(json.dumps(twin.about()), file=answers)
    for line in sys.stdin:
        try:
            command = json.loads(line)
            answer = twin.product(**command["product"]) if "product" in command else twin.steps(**command)
        except Exception:  # whatever it is, the others go on
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
