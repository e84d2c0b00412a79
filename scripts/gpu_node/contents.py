"""Fills a bundle's folder (scripts/gpu_bundle.sh): programs stripped, the libraries they need beside them, and what their tests read."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("reverie", "tests/test_*", "tests/core_plugins/*.so", "tests/benchmarks/bench_kernels", "lib/lib*.so.?.?")
# Parts of every Linux with glibc; of another version than the node's, they do not start.
OF_THE_SYSTEM = re.compile(r"^(linux-vdso|ld-linux.*|libc|libm|libdl|libpthread|librt|libresolv|libutil)\.so")
FILES = {
    "configs": ("configs/**/*",),
    "stages and benchmarks": ("scripts/bench.py", "scripts/reference_gpt.py", "scripts/run_tests.py", "scripts/gpu_run.py", "scripts/gpu_node/*.py",
                              "scripts/benchmarking/**/*.py"),
    "golden files": ("tests/golden/**/*", "tests/fuzz/corpus/**/*"),
    # Some tests compare what is declared there with what is built.
    "sources that tests read": ("kernels/*.h", "autograd/ops/*.cpp", "trainers/reports/plot.css", "docs/pretrained.md",
                                        "LICENSE"),
}
LEFT_OUT = (
    "pretrained weights (Gemma 3 270M comes with --with gemma3)",
    "oneDNN (40 MB; f32 products on the CPU are made by Reverie's own tiles, which are slower)",
    "benchmarks of the CPU (all but bench_kernels)",
    "MPI, NCCL and cuDNN: one process, one GPU, attention by Reverie's kernels",
    "cublasLt and the driver, which the node has (CUDA 12 or 13; a CUDA runtime of the compiler's version is linked in)",
    "debugging symbols, the sources of tests, Python tests (tests/*/test_*.py), documentation but for one page that a test reads",
)
# The oldest drivers for CUDA runtimes of each major version (CUDA's release notes: minor-version compatibility).
DRIVERS = {12: "525", 13: "580"}
RUN = """#!/bin/sh
# Runs every stage on this node: ./run --help. Needs Python 3.10 or newer; stage 3 compares with PyTorch where a Python has it.
# {needs}
here=$(cd "$(dirname "$0")" && pwd)
for python in ${PYTHON:-} python3 python python3.13 python3.12 python3.11 python3.10; do
  if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    exec "$python" "$here/scripts/gpu_run.py" "$@"
  fi
done
echo "run: found no Python 3.10 or newer; PYTHON=FILE ./run names one" >&2
exit 2
"""


def needs_of(build: Path, flavour: str) -> str:
    """The driver without which no GPU is usable, by the toolkit that compiled the build."""
    if flavour != "on":
        return "No GPU is needed: the device is emulated"
    for file in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        if version := re.search(r'set\(CMAKE_CUDA_COMPILER_VERSION "(\d+)\.(\d+)', file.read_text()):
            driver = DRIVERS.get(int(version[1]))
            wanted = f"version {driver} or newer" if driver else f"CUDA {version[1]} or newer"
            return f"A GPU needs an NVIDIA driver of {wanted}: the CUDA runtime of {version[1]}.{version[2]} is built in, and an older driver has no usable GPU"
    return "A GPU needs an NVIDIA driver as new as the CUDA runtime that is built in (580 for CUDA 13, 525 for CUDA 12); an older one has no usable GPU"


class Unusable(Exception):
    """The build or this machine lacks something."""


def output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable(f"{' '.join(command)} ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
    to.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def strip(file: Path) -> None:
    output_of("strip", "--strip-unneeded", str(file))


def libraries_of(programs: list[Path]) -> dict[str, Path]:
    """By the name that programs load them by: what the dynamic linker of this machine gives them, all levels deep."""
    found: dict[str, Path] = {}
    for program in programs:
        for line in output_of("ldd", str(program)).splitlines():
            name, _, place = line.strip().partition(" => ")
            if "not found" in place:
                raise Unusable(f"{program} needs {name}, which is not here")
            if place and not OF_THE_SYSTEM.match(name):
                found[name] = Path(place.rsplit(" (", 1)[0])
    return found


def copy_programs(build: Path, out: Path) -> list[Path]:
    """Those of the build, stripped, each in its place below program/."""
    copied = []
    for pattern in PROGRAMS:
        files = [f for f in sorted(build.glob(pattern)) if f.is_file()]
        if not files:
            raise Unusable(f"{build} has no {pattern}: build all of it (scripts/gpu_bundle.sh without --build does)")
        for file in files:
            to = out / "program" / file.relative_to(build)
            copy(file, to)
            strip(to)
            copied.append(to)
    return copied


def copy_libraries(build: Path, out: Path, programs: list[Path]) -> list[str]:
    """Libraries of this system, beside the rooms'; the names of those copied."""
    of_system = {name: place for name, place in libraries_of([build / p.relative_to(out / "program") for p in programs]).items() if not place.is_relative_to(build)}
    for name, place in of_system.items():
        to = out / "program" / "lib" / name
        copy(place.resolve(), to)
        strip(to)
        package = subprocess.run(["dpkg", "-S", str(place.resolve())], capture_output=True, text=True, check=False).stdout.split(":")[0]
        licence = Path("/usr/share/doc") / package / "copyright"
        if package and licence.is_file():
            copy(licence, out / "licences" / f"{package}.txt")
    return sorted(of_system)


def check(programs: list[Path], out: Path) -> None:
    """Every program finds its libraries beside it, and looks nowhere else that depends on the machine that built it."""
    for program in programs:
        for path in re.findall(r"Library r(?:un)?path: \[(.*)\]", output_of("readelf", "-d", str(program))):
            if strange := [folder for folder in path.split(":") if not folder.startswith("$ORIGIN")]:
                raise Unusable(f"{program} looks for libraries in '{strange[0]}'; wanted paths that begin with $ORIGIN (REVERIE_PORTABLE=ON)")
        for name, place in libraries_of([program]).items():
            if not place.is_relative_to(out):
                raise Unusable(f"{program} takes {name} from {place}, not from the bundle")


def copy_files(out: Path) -> None:
    for patterns in FILES.values():
        for pattern in patterns:
            for file in sorted(ROOT.glob(pattern)):
                if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                    copy(file, out / file.relative_to(ROOT))


def size_of(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def parts_of(out: Path, arch: str) -> dict[str, int]:
    program = out / "program"
    kernels = sum(f.stat().st_size for f in (program / "lib").glob("libreverie_kernels*"))
    rooms = sum(f.stat().st_size for f in (program / "lib").glob("libreverie_*")) - kernels
    tests, benchmarks = size_of(program / "tests"), size_of(program / "tests" / "benchmarks")
    return {"program": (program / "reverie").stat().st_size, f"kernels{f' (compute capabilities {arch})' if arch else ''}": kernels, "other rooms": rooms,
            "libraries of the system": size_of(program / "lib") - kernels - rooms, "tests": tests - benchmarks, "benchmarks": benchmarks,
            "golden files, and sources that tests read": size_of(out / "tests") + sum(size_of(out / f) for f in ("kernels", "autograd", "trainers", "docs")),
            "configs and stages": size_of(out / "configs") + size_of(out / "scripts"), "the text": sum(size_of(f) for f in (out / "data").iterdir() if f.name != "gemma3")}


def readme(about: dict) -> str:
    sizes = "\n".join(f"| {name} | {size / 1e6:.1f} |" for name, size in about["parts"].items())
    left_out = "\n".join(f"- {line}" for line in LEFT_OUT)
    return (f"# Reverie for a GPU node\n\n    ./run --minutes 12        # every stage; results/ is complete after each unit of each stage\n"
            f"    ./run --trial --minutes 5 # tiny settings, on any device\n\nx86-64 Linux, glibc 2.36 or newer, Python 3.10 or newer. Commit `{about['commit']}`, flavour {about['flavour']}"
            f"{', compute capabilities ' + about['arch'] if about['arch'] else ''}. {about['needs']}. `./run --help` tells the rest.\n\n"
            f"| part | MB |\n| --- | ---: |\n{sizes}\n| together | {about['bytes'] / 1e6:.1f} |\n\nLeft out:\n\n{left_out}\n\n"
            f"Libraries of the build's system (their licences: `licences/`): {', '.join(about['libraries'])}.\n")


def make(options: argparse.Namespace) -> dict:
    build, place = options.build.resolve(), options.out.resolve()
    out = place.with_name(place.name + ".part")  # an earlier bundle stays until this one is whole
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    programs = copy_programs(build, out)
    libraries = copy_libraries(build, out, programs)
    check(programs, out)
    copy_files(out)
    text = out / "data" / options.text.parent.name
    for file in (options.text, *options.text.parent.glob("*.source.json")):
        copy(file, text / file.name)
    needs = needs_of(build, options.flavour)
    (out / "run").write_text(RUN.replace("{needs}", needs))
    (out / "run").chmod(0o755)
    version = output_of(str(build / "reverie"), "--version")
    commit = re.search(r"\(([^)]*)\)", version)
    about = {"commit": commit[1] if commit else "unknown", "flavour": options.flavour, "arch": options.arch, "libraries": libraries, "left_out": LEFT_OUT, "needs": needs,
             "parts": parts_of(out, options.arch)}
    about["bytes"] = size_of(out)
    (out / "README.md").write_text(readme(about))
    if options.gemma:
        copy(options.gemma, out / "data" / "gemma3" / "gemma-3-270m-q4_k_m.gguf")
    (out / "bundle.json").write_text(json.dumps(about, indent=1) + "\n")
    if about["bytes"] > options.limit:
        raise Unusable(f"the bundle in {out} has {about['bytes']} bytes; wanted at most {options.limit} (its README.md has the size of each part)")
    shutil.rmtree(place, ignore_errors=True)
    out.rename(place)
    return about


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--flavour", choices=["on", "emulated"], required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--limit", type=int, required=True, help="bytes, without pretrained weights")
    parser.add_argument("--gemma", type=Path)
    options = parser.parse_args(arguments)
    try:
        make(options)
    except (Unusable, OSError) as failure:
        print(f"gpu_bundle.sh: {failure}", file=sys.stderr)
        return 1
    print((options.out / "README.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
