#!/usr/bin/env python3
"""Writes tests/golden/muon.safetensors: three steps of PyTorch's own Muon, in double.

    python tests/golden/make/make_muon_golden.py [--out tests/golden]

torch.optim.Muon iterates in bfloat16; here that name means float64, so that values can be compared to rounding.
Needs torch (2.9 or newer) and safetensors.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

SHAPES = {"wide": (4, 7), "tall": (9, 3), "square": (5, 5)}
CASES = {"nesterov": {"nesterov": True, "adjust_lr_fn": "original"},
         "plain": {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}}
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = Path(__file__).resolve().parents[1]
    parser.add_argument("--out", type=Path, default=default, help="default: tests/golden")
    arguments = parser.parse_args()
    torch.bfloat16 = torch.float64
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for shape_name, shape in SHAPES.items():
        initial = torch.randn(shape, dtype=torch.float64, generator=generator)
        gradients = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(STEPS)]
        tensors[f"{shape_name}.initial"] = initial.clone()
        for i, gradient in enumerate(gradients):
            tensors[f"{shape_name}.gradient.{i}"] = gradient
        for case, options in CASES.items():
            parameter = torch.nn.Parameter(initial.clone())
            optimizer = torch.optim.Muon([parameter], lr=0.02, weight_decay=0.1, momentum=0.95, **options)
            for i, gradient in enumerate(gradients):
                parameter.grad = gradient.clone()
                optimizer.step()
                tensors[f"{shape_name}.{case}.{i}"] = parameter.detach().clone()
    save_file({name: t.contiguous() for name, t in tensors.items()}, arguments.out / "muon.safetensors",
              {"torch": torch.__version__, "script": "scripts/make_muon_golden.py"})
    print(f"{len(tensors)} tensors")


if __name__ == "__main__":
    main()
