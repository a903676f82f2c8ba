"""Downloads one file from a URL with pooch: transient failures are retried, and the file is placed atomically.

As with `requests`, proxies and certificates come from the environment, redirects may only lead to http and https, and a
body shorter than its Content-Length is an error. An interrupted download restarts from the beginning.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

from yourbert.core.errors import cleaned, fail
from yourbert.core.filenames import shown
from yourbert.core.storage import replacing, scratch

logger = logging.getLogger("yourbert")
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 20.0
RETRIES = 3  # after 1, 2 and 3 seconds
RETRIED_STATUSES = (408, 425, 429)
CHUNK = 1 << 18


def fetch(url: str, target: Path, git_blob: str = "") -> None:
    """Downloads `url` to `target`. git_blob: the expected git blob id.

    Raises UserError: W01 (4xx, or not a valid address), W03 (unreachable, server error or truncated body at every
    attempt), W05 (content differs from git_blob), R07 (disk).
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # its messages include the query string, which may hold a key
    # With `identity` a .gz file is not decompressed on the way.
    get = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=CHUNK,
        timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        headers={"Accept-Encoding": "identity", "User-Agent": "yourbert"},
    )

    def download(url: str, file: str, _: object) -> None:
        try:
            get(url, file, None)
        except OSError as error:
            _refuse_if_final(error, url)
            logger.info("%s: %s", shown(url), reason(error))
            raise
        if git_blob and (actual := git_blob_of(Path(file))) != git_blob:
            what = f"wrong content: git blob {actual}, expected {git_blob}"
            fail("W05", what, where=shown(url), fix="try again later, or use another source")

    with scratch(target.parent) as work:
        files = pooch.create(work, "", registry={"file": None}, urls={"file": url}, retry_if_failed=RETRIES)
        try:
            files.fetch("file", downloader=download)
        except OSError as error:
            what = f"{reason(error)} ({RETRIES + 1} attempts)"
            fail("W03", what, where=shown(url), fix="check the network and run again")
        with replacing(target) as part:
            (work / "file").replace(part)


def git_blob_of(path: Path) -> str:
    """The git object id of a file's content: sha1 of "blob <size>\\0" and the bytes."""
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    blob.update(path.read_bytes())
    return blob.hexdigest()


def reason(error: BaseException) -> str:
    """The innermost message of a nested network error, or the HTTP status, on one line."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        phrase = getattr(response, "reason", "") or getattr(response, "reason_phrase", "")
        return cleaned(f"the server responds {response.status_code} {phrase}").rstrip()
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return cleaned((str(error) or type(error).__name__).splitlines()[0])


def _refuse_if_final(error: OSError, url: str) -> None:
    """Raises UserError for errors that a retry cannot fix. Every exception of requests is an OSError."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code < 500 and response.status_code not in RETRIED_STATUSES:
        account = ", or whether it needs an account" if response.status_code in (401, 403) else ""
        fail("W01", reason(error), where=shown(url), fix="check the address" + account)
    if isinstance(error, ValueError):
        fail("W01", f"invalid address: {reason(error)}", where=shown(url), fix="correct the address")
    if error.errno is not None:
        what = f"cannot write: {error.strerror or error}"
        fail("R07", what, where=shown(url), fix="free disk space, or set YOURBERT_CACHE to another folder")
