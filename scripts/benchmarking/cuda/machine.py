"""The GPU that the figures come from, and what its maker says it can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from benchmarking.programs import ProgramError

FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "utilization.gpu", "temperature.gpu")
# Dense TFLOP/s of products of bf16 with f32 sums on tensor cores, and of f32 outside them, by NVIDIA's data sheets. The first
# that is found in the GPU's name holds.
PEAKS = (
    (r"H100 PCIe", {"bf16": 756.0, "f32": 51.0}),
    (r"H100 NVL|H200 NVL", {"bf16": 835.0, "f32": 60.0}),
    (r"H100|H200|GH200", {"bf16": 989.0, "f32": 67.0}),
    (r"A100", {"bf16": 312.0, "f32": 19.5}),
)


def peak_tflops(name: str, precision: str) -> float | None:
    """None: of this GPU we do not know."""
    return next((peaks[precision] for pattern, peaks in PEAKS if re.search(pattern, name)), None)


def read_query(line: str) -> dict:
    """A line of nvidia-smi --format=csv,noheader,nounits."""
    values = dict(zip(FIELDS, (v.strip() for v in line.split(","))))

    def number(field: str) -> float | None:
        return float(values[field]) if re.fullmatch(r"[\d.]+", values.get(field, "")) else None

    return {"gpu": values["name"], "driver": values["driver_version"], "memory_mib": number("memory.total"), "power_limit_watts": number("power.limit"),
            "most_mhz": number("clocks.max.sm"), "busy_percent": number("utilization.gpu"), "celsius": number("temperature.gpu")}


def query_gpu() -> dict:
    """What nvidia-smi says of the first GPU that programs see."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", "-i", first]
    without = "without a GPU, --tiny --device cpu tries the script"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        raise ProgramError(f"there is no GPU here, or no nvidia-smi that finds it; {without}") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise ProgramError(f"{' '.join(command)}\nfinds no GPU ({(done.stderr or done.stdout).strip()}); {without}")
    return read_query(done.stdout.splitlines()[0])


def cuda_version() -> str | None:
    """Of the toolkit that built the kernels, where it is still here."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        return None
    found = re.search(r"release ([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout)
    return found[1] if found else None
