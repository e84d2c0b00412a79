#!/usr/bin/env python3
"""Keeps what a table says of its finished runs in one small file, and brings it back: tables in parts, on several machines.

    scripts/keep_runs.py pack runs/reasoning-laptop -o kept.tar.xz
    scripts/keep_runs.py pack machine1/out machine2/out -o kept.tar.xz    parts of one table, trained in several places
    scripts/keep_runs.py list kept.tar.xz
    scripts/keep_runs.py unpack kept.tar.xz runs/reasoning-laptop

Of every finished run are kept: config, data record, tokenizer, summary and its check, verdicts, answers and measurements; of a table
that asks published models, what they answered. Left out: weights, exports, pages, TensorBoard files and, unless --metrics asks for
them, the losses of every step (a table of losses draws its curves from them). About a kilobyte a run. Absolute paths in them are
shortened: /table/... was under the table's directory, /elsewhere/NAME was not.

`reverie repro TABLE ... --run-dir DIR --report-only` writes the table of what was unpacked into DIR, and without --report-only trains
what is missing, if nothing that is missing begins with weights that were left out. The table's command must be the same: a run of
another config has another directory.

A run that is in several parts, or there already, must be the same in both; else nothing is written. The same runs give the same bytes.

Exit code 0: done; 2: bad arguments or files; 3: runs of one name that differ.
"""

import argparse
import io
import json
import os
import re
import signal
import sys
import tarfile
from pathlib import Path, PurePosixPath

SUMMARY = "summary.json"
LEFT_OUT = {"report.html", "run.lock"}
METRICS = "metrics.jsonl"


ABSOLUTE = re.compile(rb'"(/(?:[^"\\]|\\.)*)"')


class Refused(Exception):
    def __init__(self, message, code=2):
        super().__init__(message)
        self.code = code


def files_of_run(run, metrics):
    """The kept files of one finished run, by name: those beside its folders (checkpoints, exports, TensorBoard)."""
    names = sorted(path.name for path in run.iterdir() if path.is_file() and not path.is_symlink())
    return [name for name in names if name not in LEFT_OUT and (metrics or name != METRICS)]


def without_places(contents, table):
    """Where the machine has its files is nothing that a table says; a config is known by what else it holds."""
    under = os.fsencode(table.resolve()) + b"/"

    def shortened(match):
        path = match[1]
        if path.startswith((b"/table/", b"/elsewhere/")):  # unpacked from another archive
            return match[0]
        return b'"/table/' + path[len(under) :] + b'"' if path.startswith(under) else b'"/elsewhere/' + path.rsplit(b"/", 1)[1] + b'"'

    return ABSOLUTE.sub(shortened, contents)


def kept_of_table(table, metrics):
    """{place in the archive: bytes} of a table's directory."""
    if not (table / "runs").is_dir() and not (table / "asked").is_dir():
        raise Refused(f"{table} is not the directory of a table: wanted runs/ or asked/ in it, as `reverie repro --run-dir` makes them")
    kept = {}
    for run in sorted(path for path in (table / "runs").glob("*") if (path / SUMMARY).is_file()):
        for name in files_of_run(run, metrics):
            kept[f"runs/{run.name}/{name}"] = without_places((run / name).read_bytes(), table)
    for answers in sorted((table / "asked").glob("*.json")):
        kept[f"asked/{answers.name}"] = without_places(answers.read_bytes(), table)
    return kept


def of_run(place):
    """What stands or falls together: a run's directory, or one file of answers."""
    parts = place.split("/")
    return "/".join(parts[:2])


def differing(before, more):
    """Names of runs in both, of which a file is different, or is in one alone while the other has the run."""
    shared = {of_run(place) for place in before} & {of_run(place) for place in more}

    def contents(kept, name):
        return {place: data for place, data in kept.items() if of_run(place) == name and not place.endswith("/" + METRICS)}

    return sorted(name for name in shared if contents(before, name) != contents(more, name))


def require_same(before, more, where):
    wrong = differing(before, more)
    if wrong:
        raise Refused(f"{where}: {', '.join(wrong)} differ from those of the same name before; one of each is another run or was trained twice", 3)


def archive_of(kept):
    """Entries in order, without times or owners: the same runs give the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", format=tarfile.USTAR_FORMAT, preset=9) as archive:
        for place in sorted(kept):
            entry = tarfile.TarInfo(place)
            entry.size = len(kept[place])
            archive.addfile(entry, io.BytesIO(kept[place]))
    return out.getvalue()


def read_archive(file):
    kept = {}
    try:
        with tarfile.open(file, "r:xz") as archive:
            for entry in archive:
                parts = PurePosixPath(entry.name).parts
                if not entry.isfile() or parts[0] not in ("runs", "asked") or ".." in parts or not 2 <= len(parts) <= 3:
                    raise Refused(f"{file} holds {entry.name}: not what keep_runs.py packs")
                kept[entry.name] = archive.extractfile(entry).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Refused(f"{file} is not an archive of kept runs: {error}") from error
    return kept


def write_whole(file, contents):
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(contents)
    os.replace(partial, file)


def runs_in(kept):
    return len({of_run(place) for place in kept})


def pack(tables, file, metrics):
    kept = {}
    for table in tables:
        more = kept_of_table(table, metrics)
        require_same(kept, more, table)
        kept.update(more)
    if not kept:
        raise Refused(f"no finished run in {', '.join(map(str, tables))}")
    contents = archive_of(kept)
    write_whole(file, contents)
    print(f"{file}: {runs_in(kept)} runs, {len(contents):,} bytes")


def show(file):
    kept = read_archive(file)
    for name in sorted({of_run(place) for place in kept}):
        summary = kept.get(f"{name}/{SUMMARY}")
        commit = json.loads(summary).get("commit", "") if summary else ""
        print(f"{name}  {commit[:7]}".rstrip())


def unpack(file, table):
    kept = read_archive(file)
    present = kept_of_table(table, True) if table.exists() and any(table.glob("runs/*")) else {}
    require_same(present, kept, table)
    new = {place: data for place, data in kept.items() if place not in present}
    # The summary says that a run is finished: it comes last.
    for place in sorted(new, key=lambda place: place.endswith("/" + SUMMARY)):
        write_whole(table / place, new[place])
    print(f"{table}: {runs_in(new)} runs from {file}, {runs_in(kept) - runs_in(new)} were there")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="pack|list|unpack")
    packing = commands.add_parser("pack", help="one file of the finished runs of one or several directories")
    packing.add_argument("tables", nargs="+", type=Path, metavar="DIR", help="a table's --run-dir")
    packing.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.tar.xz")
    packing.add_argument("--metrics", action="store_true", help="keep metrics.jsonl, too: about 100 kilobytes for 5,000 steps")
    listing = commands.add_parser("list", help="the runs in a file, and the commit that trained each")
    listing.add_argument("file", type=Path, metavar="FILE.tar.xz")
    unpacking = commands.add_parser("unpack", help="put them into a table's directory")
    unpacking.add_argument("file", type=Path, metavar="FILE.tar.xz")
    unpacking.add_argument("table", type=Path, metavar="DIR")
    o = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # list | head
    try:
        if o.command == "pack":
            pack(o.tables, o.output, o.metrics)
        elif o.command == "list":
            show(o.file)
        else:
            unpack(o.file, o.table)
    except (Refused, OSError) as error:
        print(f"keep_runs: {error}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, Refused) else 2)


if __name__ == "__main__":
    main()
