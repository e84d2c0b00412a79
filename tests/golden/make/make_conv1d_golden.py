#!/usr/bin/env python3
"""Writes tests/golden/conv1d.safetensors: PyTorch's causal depthwise convolution and its gradients, in double.

    python tests/golden/make/make_conv1d_golden.py [--out tests/golden]

x [B, T, C], weight [C, K] and bias [C] go through torch.nn.functional.conv1d (groups = C, K - 1 rows of zeros in front).
Needs torch and safetensors.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

CASES = {"short": (2, 3, 4, 5), "long": (3, 19, 7, 4)}  # batch, time, channels, taps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = Path(__file__).resolve().parents[1]
    parser.add_argument("--out", type=Path, default=default, help="default: tests/golden")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(11)
    tensors = {}

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    for name, (batch, time, channels, taps) in CASES.items():
        inputs = {"x": normal(batch, time, channels), "weight": normal(channels, taps), "bias": normal(channels)}
        for value in inputs.values():
            value.requires_grad_()
        rows = torch.nn.functional.pad(inputs["x"].transpose(1, 2), (taps - 1, 0))
        y = torch.nn.functional.conv1d(rows, inputs["weight"].unsqueeze(1), inputs["bias"], groups=channels)
        y = y.transpose(1, 2)
        cotangent = normal(*y.shape)
        y.backward(cotangent)
        tensors |= {f"{name}.{what}": value.detach() for what, value in inputs.items()}
        tensors |= {f"{name}.grad.{what}": value.grad for what, value in inputs.items()}
        tensors |= {f"{name}.y": y.detach(), f"{name}.grad.y": cotangent}
    save_file({name: t.contiguous() for name, t in tensors.items()}, arguments.out / "conv1d.safetensors",
              {"torch": torch.__version__, "script": "scripts/make_conv1d_golden.py"})
    print(f"{len(tensors)} tensors")


if __name__ == "__main__":
    main()
