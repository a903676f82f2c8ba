"""One file over HTTP: resumed where it broke off, verified before it gets its name, by one process at a time.

Bytes gather in `.<name>.part`, which outlives a kill; beside it stand the ETag and length they belong to, so
that two versions of a file are never mixed. Only bytes with the right length and hash become the target.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import requests
import urllib3
from tqdm import tqdm

from yourbert.core.errors import fail
from yourbert.core.filenames import shown
from yourbert.core.storage import replacing, write_json
from yourbert.download.http import LOGGER, USUAL, Caller, Patience, Trouble, check_status, persist
from yourbert.download.store import Identity, Wanted, alone

__all__ = ["Fetched", "Patience", "fetch", "probe"]

CHUNK = 1 << 18
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A verified file. transferred: the bytes of it that came over the network, 0 if it was there already."""

    path: Path
    sha256: str
    size: int
    transferred: int
    etag: str


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    git_blob: str | None = None,
    size: int | None = None,
    secrets: Mapping[str, str] | None = None,
    patience: Patience = USUAL,
) -> Fetched:
    """Downloads `url` to `target`, or finds it there already with the wanted hash.

    sha256, git_blob (sha1 of "blob <size>\\0" and the bytes), size: what the file must be, as far as known.
    secrets: headers for the first host alone.
    Raises UserError: W01 (no such file, access refused), W03 (unreachable, or errors for ever), W04 (cut
    off), W05 (another content), W06 (too slow), W07 (a redirect that is not followed), W12 (a web page in
    place of the file), B11 (another process holds it), R07 (disk).
    """
    wanted = Wanted(sha256, git_blob, size)
    with closing(Caller(patience, secrets)) as caller, alone(target, shown(url), patience.busy) as locked:
        if target.is_file() and wanted.pinned:
            there = Identity.of(target)
            if wanted.problem(there, target) is None:
                return Fetched(path=target, sha256=there.sha256, size=there.size, transferred=0, etag="")
        return _Download(url, target, wanted, caller, locked).run()


def probe(url: str, *, secrets: Mapping[str, str] | None = None, patience: Patience = USUAL) -> dict[str, str]:
    """The headers (lower case) of a file and of the redirects on its own host, without its content.

    Raises UserError like `fetch`.
    """

    def ask() -> dict[str, str]:
        response, headers = caller.ask("HEAD", url, {}, stay=True)
        response.close()
        if not response.is_redirect:
            check_status(response, url)
        return headers

    with closing(Caller(patience, secrets)) as caller:
        return persist(ask, url, patience)


class _Download:
    """The `.part` of one target, filled by as many requests as it takes, under the target's lock."""

    def __init__(self, url: str, target: Path, wanted: Wanted, caller: Caller, locked: bool) -> None:
        self.url, self.target, self.wanted, self.caller = url, target, wanted, caller
        own = "" if locked else f".{os.getpid()}"
        self.part = target.with_name(f".{target.name}{own}.part")
        self.facts_file = self.part.with_name(f"{self.part.name}.json")
        self.facts: dict[str, Any] = {}
        self.transferred = 0
        self.fresh = False

    def run(self) -> Fetched:
        """Fetches; where the content is wrong, once more from the start; then gives up."""
        while True:
            persist(self.attempt, self.url, self.caller.patience)
            found = Identity.of(self.part)
            problem = self.wanted.problem(found, self.part)
            if problem is None:
                return self.place(found)
            if self.fresh:
                self.put_aside(*problem)
            LOGGER.info("%s: %s; fetched afresh, once", shown(self.url), problem[1])
            self.drop()
            self.fresh = True

    def place(self, found: Identity) -> Fetched:
        """The rename comes last and at once, so that a kill before it costs no byte."""
        with self.part.open("rb") as file:
            os.fsync(file.fileno())
        with replacing(self.target) as temporary:
            self.part.replace(temporary)
        for leftover in self.part.parent.glob(f"*{glob.escape(self.facts_file.name)}*"):
            leftover.unlink(missing_ok=True)
        came, etag = self.transferred, self.facts["etag"]
        return Fetched(path=self.target, sha256=found.sha256, size=found.size, transferred=came, etag=etag)

    def put_aside(self, code: str, what: str) -> NoReturn:
        """Keeps the wrong bytes under a name that nothing reads."""
        aside = self.target.with_name(f"{self.target.name}.quarantine")
        self.part.replace(aside)
        self.drop()
        fail(code, f"{what}; kept as {aside}", where=shown(self.url), fix="try later, or another source")

    def drop(self) -> None:
        self.facts_file.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def attempt(self) -> None:
        """One request for what is missing. Raises Trouble or UserError."""
        offset = self.resumable()
        if offset and offset == self.facts["size"]:
            return
        response, _ = self.caller.ask("GET", self.url, self.headers(offset))
        with closing(response):
            if response.status_code == 416 and offset:
                self.refused_range(response, offset)
                return
            check_status(response, self.url)
            begin = self.joined if response.status_code == 206 else self.restarted
            self.copy(response, begin(response, offset))

    def resumable(self) -> int:
        """How many bytes of the file are here, `self.facts` saying of which version; 0 after a clean-up."""
        try:
            self.facts = json.loads(self.facts_file.read_text(encoding="utf-8"))
            offset = self.part.stat().st_size
            known = self.facts["url"] == self.url and bool(self.facts["validator"] or self.wanted.pinned)
            fits = self.facts["size"] is None or offset <= self.facts["size"]
        except (OSError, ValueError, KeyError, TypeError):
            offset, known, fits = 0, False, False
        if known and fits:
            return offset
        self.drop()
        return 0

    def headers(self, offset: int) -> dict[str, str]:
        if not offset:
            return {"Cache-Control": "no-cache"} if self.fresh else {}
        share = f" at {100 * offset / self.facts['size']:.0f} %" if self.facts["size"] else ""
        LOGGER.info("%s: resuming%s (%d bytes are here)", shown(self.url), share, offset)
        ranged = {"Range": f"bytes={offset}-"}
        return ranged | ({"If-Range": self.facts["validator"]} if self.facts["validator"] else {})

    def joined(self, response: requests.Response, offset: int) -> int:
        """Checks that a 206 continues our bytes. Raises Trouble after dropping them where it does not."""
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        fits = span is not None and int(span[1]) == offset and "Content-Encoding" not in response.headers
        total = int(span[2]) if span and span[2] != "*" else self.facts.get("size")
        if not offset or not fits or total != (self.facts["size"] or total) or self.moved_on(response):
            self.drop()
            raise Trouble("W04", "the file on the server is another one now; starting again")
        self.facts["size"] = total
        return offset

    def moved_on(self, response: requests.Response) -> bool:
        etag = response.headers.get("ETag")
        return bool(etag and self.facts["etag"] and etag != self.facts["etag"])

    def refused_range(self, response: requests.Response, offset: int) -> None:
        """416: nothing follows our last byte, either because that is all or because the file changed."""
        if response.headers.get("Content-Range") != f"bytes */{offset}" or self.moved_on(response):
            self.drop()
            raise Trouble("W04", "the server has no such range; starting again")

    def restarted(self, response: requests.Response, offset: int) -> int:
        """A 200: notes what comes, and begins with its first byte."""
        if offset:
            LOGGER.info("%s: the server sends another version or no ranges; starting again", shown(self.url))
        self.drop()
        length = response.headers.get("Content-Length", "")
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        etag = response.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") or encoded else etag
        validator = strong or ("" if encoded else response.headers.get("Last-Modified", ""))
        size = int(length) if length.isdigit() and not encoded else None
        self.facts = {"url": self.url, "etag": etag, "validator": validator, "size": size}
        if not encoded:
            write_json(self.facts_file, self.facts)
        return 0

    def copy(self, response: requests.Response, start: int) -> None:
        """Appends the body. Raises Trouble when it breaks off, UserError (R07) if the disk is full."""
        total = self.facts["size"] if self.facts["size"] is not None else self.wanted.size
        self.room_for((total or 0) - start)
        have, broke, patience = start, False, self.caller.patience
        meter = _Meter(self.target.name, start, total, patience)
        try:
            with closing(meter), self.part.open("ab") as part:
                for chunk in _body(response, patience.idle):
                    have += len(chunk)
                    self.transferred += len(chunk)
                    part.write(chunk)
                    meter.add(len(chunk))
                    if self.wanted.size is not None and have > self.wanted.size:
                        return
        except _BrokenOff:
            broke = True
        except OSError as error:
            what = f"cannot write: {error.strerror or error}"
            fail("R07", what, where=str(self.part), fix="free space or permissions there, run again")
        if broke or (total is not None and have < total):
            raise Trouble("W04", f"cut off: {have} of {'unknown' if total is None else total} bytes came")

    def room_for(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            what = f"{self.target.name} needs {needed} bytes more, the disk has {free}"
            fail("R07", what, where=str(self.part.parent), fix="free space there, run again")


class _BrokenOff(Exception):
    """The body ended before its end."""


def _body(response: requests.Response, idle: float) -> Iterator[bytes]:
    """The bytes as they come, however slowly; gzip and deflate are undone. Raises _BrokenOff or Trouble."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding not in ("identity", "gzip", "deflate", "x-gzip"):
        raise Trouble("W04", f"the server packs the file as {encoding}, which was not asked for")
    inflate = zlib.decompressobj(wbits=47) if encoding != "identity" else None
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield inflate.decompress(chunk) if inflate else chunk
    except urllib3.exceptions.ReadTimeoutError:
        raise Trouble("W06", f"not a byte came for {idle:g} s") from None
    except (urllib3.exceptions.HTTPError, zlib.error):
        raise _BrokenOff from None
    if inflate and not inflate.eof:
        raise _BrokenOff


class _Meter:
    """Shows how far a download is, and drops a connection that brings next to nothing."""

    def __init__(self, name: str, start: int, total: int | None, patience: Patience) -> None:
        self.name, self.have, self.total, self.patience = name, start, total, patience
        self._told = self._mark = time.monotonic()
        self._came = 0
        self._bar: tqdm[NoReturn] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, count: int) -> None:
        """Raises Trouble (W06) when the last window brought too little."""
        self.have += count
        self._came += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            share = f" of {self.total / 1e6:.1f}" if self.total else ""
            LOGGER.info("%s: %.1f%s MB", self.name, self.have / 1e6, share)
        if now - self._mark >= self.patience.window:
            if self._came < self.patience.least_rate * (now - self._mark):
                rate, window = self.patience.least_rate, self.patience.window
                raise Trouble("W06", f"below {rate:g} bytes/s for {window:g} s")
            self._mark, self._came = now, 0
