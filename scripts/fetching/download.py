"""Pinned files, atomic writes, and HTTP with a deadline."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 16
STALL_SECONDS = 30.0


class Unavailable(Exception):
    """This source cannot give its bytes; the next one is tried. Loud ones are told at once."""

    def __init__(self, message: str, loud: bool = False):
        super().__init__(message)
        self.loud = loud


@dataclass(frozen=True)
class File:
    """One file that is used only when its size and SHA-256 are these."""

    name: str
    size: int
    sha256: str

    def check(self, path: Path, called: str | None = None) -> None:
        """Raises Unavailable unless the file at `path` (`called` so in messages) is this one."""
        called = called or str(path)
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except FileNotFoundError:
            raise Unavailable(f"{called} does not exist") from None
        except OSError as error:
            raise Unavailable(f"{called} cannot be read: {error.strerror}", loud=True) from error
        if (size, digest.hexdigest()) != (self.size, self.sha256):
            raise Unavailable(
                f"{called} has the wrong bytes: got {size:,} bytes, sha256 {digest.hexdigest()}; "
                f"wanted {self.size:,} bytes, sha256 {self.sha256}",
                loud=True,
            )


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], check: Callable[[Path], None] = lambda _: None
) -> None:
    """The file appears under its name whole and checked, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        check(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Web:
    """HTTP(S) GET with one deadline for name look-up, every address, TLS and headers together.

    A socket time-out alone would be spent once per address, and not at all on a name look-up.
    """

    def __init__(self, certificates: str | None = None):
        context = ssl.create_default_context()
        if certificates:
            try:
                context.load_verify_locations(cafile=certificates)
            except OSError:
                pass  # the system's own certificates may do
        self.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def get(
        self,
        url: str,
        target: BinaryIO,
        limit: int,
        connect_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[str, str]:
        """Writes the body into target; returns the final address and the content type.

        Raises Unavailable on any failure, and when the body is longer than `limit` bytes.
        """
        shown, credentials = split_credentials(url)
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise Unavailable(f"{shown} is not an http or https address")
        request = urllib.request.Request(
            shown, headers={"User-Agent": "reverie-fetch", **(headers or {})}
        )
        if credentials:  # not sent on when the answer is a redirection
            request.add_unredirected_header("Authorization", credentials)
        with self._open(request, connect_seconds) as response:
            size = 0
            while chunk := self._read(response, shown):
                size += len(chunk)
                if size > limit:
                    raise Unavailable(f"{shown} gave more than {limit:,} bytes")
                target.write(chunk)  # an error here is the target's, not the address's
            return response.geturl(), response.headers.get_content_type()

    def _read(self, response: http.client.HTTPResponse, shown: str) -> bytes:
        try:
            return response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{shown} broke off: {error}") from error

    def _open(self, request: urllib.request.Request, seconds: float) -> http.client.HTTPResponse:
        outcome: queue.Queue = queue.Queue(1)

        def work() -> None:
            try:
                outcome.put(self.opener.open(request, timeout=STALL_SECONDS))
            except Exception as error:  # handed to the caller's thread
                outcome.put(error)

        threading.Thread(target=work, daemon=True).start()
        shown = request.full_url
        try:
            result = outcome.get(timeout=seconds)
        except queue.Empty:
            raise Unavailable(f"{shown}: no connection within {seconds:g} s") from None
        if isinstance(result, urllib.error.HTTPError):
            raise Unavailable(f"{shown} answered HTTP {result.code} {result.reason}") from result
        if isinstance(result, Exception):
            reason = getattr(result, "reason", None) or result
            raise Unavailable(f"{shown} cannot be reached: {reason}") from result
        return result


def split_credentials(url: str) -> tuple[str, str | None]:
    """(the address without user and password, an Authorization header or None)."""
    parts = urllib.parse.urlsplit(url)
    user_and_password, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    plain = urllib.parse.unquote(user_and_password)
    if ":" not in plain:
        plain += ":"
    header = "Basic " + base64.b64encode(plain.encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), header
