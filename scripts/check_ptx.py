#!/usr/bin/env python3
"""Checks what nvcc made of the CUDA kernels: whether they read and write 16 bytes at a time, and use tensor cores, where the table says so.

    cmake --preset cuda && cmake --build --preset cuda --target reverie_kernels
    scripts/check_ptx.py --build build/cuda                           nvcc makes PTX of every .cu file once more (no GPU, no cuobjdump)
    scripts/check_ptx.py build/cuda/kernels/libreverie_kernels.so     machine code of every architecture, by cuobjdump
    scripts/check_ptx.py norm.ptx softmax.ptx                         PTX that is there already
    scripts/check_ptx.py --build build/cuda --list                    also prints what each kernel holds
    scripts/check_ptx.py --self-test                                  proves that each rule catches a violation

The table, kernels/cuda/ptx_expectations.json, is a list of rules, one a line:

    {"kernels": "update<true, .*>", "loads_16": 4, "stores_16": 3}

Every kernel whose name with template arguments (namespaces left out) matches the regular expression from its start to its end must
hold at least so many instructions: `loads_16` and `stores_16` of global memory, 16 bytes each (ld.global.v4.f32, .v2.f64; LDG.E.128),
`mma` matrix products on tensor cores (mma.sync, wgmma; HMMA, HGMMA). A rule that matches no kernel is a violation, because a kernel
was renamed, unless it says "expected_from": what will bring the kernel. In PTX only the newest architecture is seen, in machine code
all of them.

Standard library only. Exit code 1 where anything is violated, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from check_ptxas import demangle

TABLE = Path(__file__).resolve().parent.parent / "kernels/cuda/ptx_expectations.json"
WIDE = r"(?:\.[A-Za-z0-9_:]+)*\.(?:v4\.[bfsu]32|v2\.[bfsu]64|b128)\b"  # 16 bytes
FOUND = {  # by what holds it, in PTX and in machine code
    "loads_16": re.compile(r"\bld\.global" + WIDE + r"|\bLDG\.E(?:\.\w+)*\.128\b"),
    "stores_16": re.compile(r"\bst\.global" + WIDE + r"|\bSTG\.E(?:\.\w+)*\.128\b"),
    "mma": re.compile(r"\bmma\.sync\b|\bwgmma\.mma_async\b|\b[DHIQ]G?MMA\b"),
}
HINTS = ("global", "LDG", "STG", "mma", "MMA")  # no line without one of these matches: machine code has millions of lines
BEGINS = re.compile(r"^\s*(?:\.(?:visible|weak) )?\.entry (\w+)|^\s*Function : (\w+)")
ARCHITECTURE = re.compile(r"^\.target (sm_\w+)|^\s*code for (sm_\w+)")


class Unusable(Exception):
    """Nothing can be read, or a tool is missing."""


@dataclass
class Kernel:
    symbol: str
    architecture: str
    holds: Counter[str]


def read_code(text: str) -> list[Kernel]:
    """The kernels of a PTX file, or of what cuobjdump says of machine code."""
    kernels: list[Kernel] = []
    architecture, inside = "", None
    for line in text.splitlines():
        if found := ARCHITECTURE.match(line):
            architecture, inside = found[1] or found[2], None
        elif found := BEGINS.match(line):
            inside = Kernel(found[1] or found[2], architecture, Counter())
            kernels.append(inside)
        elif line.startswith((".func", ".visible .func")):
            inside = None  # a function that kernels call, not a kernel
        elif inside and any(hint in line for hint in HINTS):
            for what, pattern in FOUND.items():
                inside.holds[what] += bool(pattern.search(line))
    return kernels


def name_of(signature: str) -> str:
    """A kernel's name with its template arguments: no namespaces, no parameters."""
    plain = signature.replace("(anonymous namespace)::", "").replace("> >", ">>").removeprefix("void ")
    plain = re.sub(r"\breverie::(?:\w+::)*", "", plain)
    depth = 0
    for at, c in enumerate(plain):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return plain[:at]
    return plain


def violations(kernels: list[Kernel], names: dict[str, str], rules: list[dict]) -> tuple[list[str], list[str]]:
    """What breaks the rules, and what is worth saying of them."""
    wrong, notes = [], []
    for rule in rules:
        wanted = {what: rule[what] for what in FOUND if what in rule}
        unknown = set(rule) - {"kernels", "expected_from", *FOUND}
        if unknown or not wanted:
            wrong.append(f"the rule of {rule['kernels']!r} asks for {', '.join(sorted(unknown)) or 'nothing'}; wanted {', '.join(FOUND)}")
            continue
        matching = [k for k in kernels if re.fullmatch(rule["kernels"], names[k.symbol])]
        if not matching and "expected_from" in rule:
            notes.append(f"no kernel matches {rule['kernels']!r} yet; expected from {rule['expected_from']}")
        elif not matching:
            wrong.append(f"no kernel matches {rule['kernels']!r}: was it renamed?")
        elif "expected_from" in rule:
            notes.append(f"{rule['kernels']!r} matches kernels now: its \"expected_from\" can go")
        wrong += [f"{k.architecture}: {what} {k.holds[what]}, wanted at least {least}: {names[k.symbol]}"
                  for k in matching for what, least in wanted.items() if k.holds[what] < least]
    return wrong, notes


def output_of(command: list[str], folder: str | None = None, path: str | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | ({"PATH": path} if path else {}))
    except OSError as failure:
        raise Unusable(f"{command[0]} does not start: {failure}") from failure
    if done.returncode != 0:
        raise Unusable(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def machine_code(file: Path, cuobjdump: str | None) -> str:
    tool = cuobjdump or shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if tool is None:
        raise Unusable(f"{file} is no .ptx, and there is no cuobjdump to read it with (the package cuda-cuobjdump of the CUDA toolkit); "
                       "give --cuobjdump FILE, or --build DIR, which asks nvcc for PTX")
    beside = f"{Path(tool).resolve().parent}:{os.environ['PATH']}"  # where nvdisasm is, which it calls
    return output_of([tool, "--dump-sass", str(file)], path=beside)


def ptx_commands(compile_commands: list[dict]) -> list[tuple[str, list[str], str]]:
    """(folder, nvcc's command for PTX of the newest architecture of the build, file) of each .cu file."""
    found = []
    for entry in compile_commands:
        if not entry["file"].endswith(".cu"):
            continue
        words = shlex.split(entry["command"])
        newest = max((int(n) for n in re.findall(r"arch=compute_(\d+)", entry["command"])), default=0)
        kept = [w for w in words[:words.index("-c")] if not w.startswith(("--generate-code", "-Xptxas"))]
        found.append((entry["directory"], [*kept, *([f"-arch=compute_{newest}"] if newest else []), "-ptx", entry["file"]], entry["file"]))
    return found


def ptx_of_build(build: Path) -> list[Kernel]:
    try:
        commands = ptx_commands(json.loads((build / "compile_commands.json").read_text()))
    except OSError as failure:
        raise Unusable(f"{build} is no folder of a build: {failure}; configure it with cmake --preset cuda") from failure
    with tempfile.TemporaryDirectory(prefix="check_ptx-") as folder, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:

        def kernels_of(directory: str, command: list[str], file: str) -> list[Kernel]:
            ptx = Path(folder) / f"{Path(file).stem}.ptx"
            output_of([*command, "-o", str(ptx)], directory)
            return read_code(ptx.read_text())

        kernels = [k for found in pool.map(kernels_of, *zip(*commands)) for k in found] if commands else []
    if not commands:
        raise Unusable(f"{build} compiles no .cu file with nvcc; wanted a build of the preset cuda")
    return kernels


def self_test() -> int:
    def ptx(*lines: str) -> str:
        return ".target sm_90\n.visible .entry k(\n.param .u64 p\n)\n{\n" + "\n".join(lines) + "\n}\n"

    def sass(*lines: str) -> str:
        return "\t\tcode for sm_80\n\t\tFunction : k\n" + "\n".join(f"        /*0010*/    {line} ;" for line in lines)

    wide = {"loads_16": (["ld.global.v4.f32 {%f1,%f2,%f3,%f4}, [%rd1];", "ld.global.nc.v2.f64 {%d1,%d2}, [%rd1];", "ld.global.L1::no_allocate.v4.u32 {..}"],
                         ["ld.global.f32 %f1, [%rd1];", "ld.global.v2.f32 {..}", "ld.shared.v4.f32 {..}", "st.global.v4.f32 [%rd1], {..}"],
                         ["LDG.E.128 R4, [R2.64]", "LDG.E.128.CONSTANT R4, [R2.64]", "@P0 LDG.E.EF.128 R4, [R2]"], ["LDG.E R4, [R2.64]", "LDG.E.64 R4, [R2]", "LDS.128 R4, [R2]"]),
            "stores_16": (["st.global.v4.f32 [%rd1], {..}", "st.global.v2.b64 [%rd1], {..}"], ["st.global.f32 [%rd1], %f1;", "st.shared.v4.f32 [..]"],
                          ["STG.E.128 [R2.64], R4"], ["STG.E [R2.64], R4"]),
            "mma": (["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {..}", "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {..}"],
                    ["fma.rn.f32 %f1, %f2, %f3, %f4;"], ["HMMA.16816.F32.BF16 R4, R8, R12, R4", "HGMMA.64x64x16.F32.BF16 R24"], ["FFMA R1, R2, R3, R4"])}
    names, cases = {"k": "k<true, float>"}, 0

    def failed(what: str, found: object) -> int:
        print(f"check_ptx: self-test: {what} gave {found}")
        return 1

    for what, (ptx_good, ptx_bad, sass_good, sass_bad) in wide.items():
        rule = [{"kernels": "k<true, .*>", what: 1}]
        for text, wanted in [*((ptx(x), 0) for x in ptx_good), *((ptx(x), 1) for x in ptx_bad),
                             *((sass(x), 0) for x in sass_good), *((sass(x), 1) for x in sass_bad)]:
            found, _ = violations(read_code(text), names, rule)
            if len(found) != wanted or len(read_code(text)) != 1:
                return failed(repr(text), found)
            cases += 1
    one = ptx("ld.global.v4.f32 {..}")
    two = one + one.replace(".entry k(", ".entry other(").replace("v4", "v2")
    rule_cases = [
        ("a count that is too small", one, [{"kernels": "k<.*", "loads_16": 2}], 1, 0),
        ("a rule without kernels", one, [{"kernels": "gone<.*", "loads_16": 1}], 1, 0),
        ("a rule whose kernels are expected", one, [{"kernels": "gone<.*", "mma": 1, "expected_from": "later"}], 0, 1),
        ("a rule whose kernels have come without what it wants", one, [{"kernels": "k<.*", "mma": 1, "expected_from": "later"}], 1, 1),
        ("a rule that one of its two kernels breaks", two, [{"kernels": ".*", "loads_16": 1}], 1, 0),
        ("a pattern that matches the beginning alone", one, [{"kernels": "k<true", "loads_16": 1}], 1, 0),
        ("a rule that asks for nothing", one, [{"kernels": "k<.*"}], 1, 0),
        ("a word that no rule has", one, [{"kernels": "k<.*", "loads_32": 1}], 1, 0),
        ("a function that is no kernel", one + ".func helper(\n)\n{\nmma.sync.x\n}\n", [{"kernels": "k<.*", "mma": 1}], 1, 0),
    ]
    for what, text, rules, wanted, notes in rule_cases:
        found = violations(read_code(text), names | {"other": "other<int>"}, rules)
        if (len(found[0]), len(found[1])) != (wanted, notes):
            return failed(what, found)
    signatures = {
        "void reverie::cuda::(anonymous namespace)::update<true, float>(reverie::cuda::(anonymous namespace)::Update<float>, long)": "update<true, float>",
        "void reverie::cuda::(anonymous namespace)::map<false, reverie::cuda::(anonymous namespace)::Value<reverie::functional::Exp>, float, float>(int)":
            "map<false, Value<Exp>, float, float>",
        "reverie::cuda::(anonymous namespace)::plain(int)": "plain",
    }
    for signature, wanted_name in signatures.items():
        if name_of(signature) != wanted_name:
            return failed(signature, name_of(signature))
    print(f"check_ptx: self-test: {cases + len(rule_cases) + len(signatures)} cases judged rightly")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=".ptx, or an object or library that cuobjdump reads")
    parser.add_argument("--build", type=Path, metavar="DIR", help="a build of the preset cuda, whose .cu files nvcc turns into PTX")
    parser.add_argument("--cuobjdump", metavar="FILE", help="the program (found in PATH and /usr/local/cuda/bin)")
    parser.add_argument("--list", action="store_true", help="print what each kernel holds")
    parser.add_argument("--self-test", action="store_true", help="prove that each rule catches a violation")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if not arguments.files and not arguments.build:
        parser.error("wanted --build DIR, or .ptx files, objects or libraries")
    try:
        kernels = ptx_of_build(arguments.build) if arguments.build else []
        for file in arguments.files:
            kernels += read_code(file.read_text() if file.suffix == ".ptx" else machine_code(file, arguments.cuobjdump))
    except (Unusable, OSError) as failure:
        print(f"check_ptx: {failure}", file=sys.stderr)
        return 1
    if not kernels:
        print("check_ptx: there is no kernel in what was given: was it built with the preset cuda?", file=sys.stderr)
        return 1
    names = {symbol: name_of(signature) for symbol, signature in demangle(list(dict.fromkeys(k.symbol for k in kernels))).items()}
    if arguments.list:
        for k in sorted(kernels, key=lambda k: (names[k.symbol], k.architecture)):
            print(f"{k.architecture}: " + ", ".join(f"{what} {k.holds[what]}" for what in FOUND) + f": {names[k.symbol]}")
    wrong, notes = violations(kernels, names, json.loads(TABLE.read_text()))
    for line in [*(f"note: {n}" for n in notes), *wrong]:
        print(line)
    print(f"check_ptx: {len(kernels)} kernels, {len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
