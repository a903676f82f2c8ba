"""One file from a URL, through pooch: tried again where that may help, and placed whole or not at all.

The rules are those of `requests`: proxies and certificates of the environment, redirects to http and https alone, and
a body that ends before its Content-Length is an error. A download that broke off starts from its first byte.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

from yourbert.core.errors import cleaned, fail
from yourbert.core.filenames import shown
from yourbert.core.storage import replacing, scratch

LOGGER = logging.getLogger("yourbert")
CONNECT_SECONDS, IDLE_SECONDS = 5.0, 20.0
RETRIES = 3  # after 1, 2 and 3 seconds
RETRIED_STATUSES = (408, 425, 429)
CHUNK = 1 << 18


def fetch(url: str, target: Path, git_blob: str = "") -> None:
    """Downloads `url` to `target`. git_blob: git's id of the content that is wanted.

    Raises UserError: W01 (the server has no such file, or refuses it), W03 (unreachable, or cut off or failing at each
    try), W05 (another content), R07 (disk).
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # its messages show the query of an address, where keys may stand
    # Without an encoding a file that is packed comes as it is, and others are not packed on the way.
    get = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=CHUNK,
        timeout=(CONNECT_SECONDS, IDLE_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": "yourbert"},
    )

    def download(url: str, file: str, _: object) -> None:
        try:
            get(url, file, None)
        except OSError as error:
            _refuse_if_final(error, url)
            LOGGER.info("%s: %s", shown(url), reason(error))
            raise
        if git_blob and (found := git_blob_of(Path(file))) != git_blob:
            what = f"wrong content: git blob {found} in place of {git_blob}"
            fail("W05", what, where=shown(url), fix="try later, or another source")

    with scratch(target.parent) as work:
        files = pooch.create(work, "", registry={"file": None}, urls={"file": url}, retry_if_failed=RETRIES)
        try:
            files.fetch("file", downloader=download)
        except OSError as error:
            what = f"{reason(error)} ({RETRIES + 1} tries)"
            fail("W03", what, where=shown(url), fix="check the network and run again")
        with replacing(target) as part:
            (work / "file").replace(part)


def git_blob_of(path: Path) -> str:
    """The id under which git keeps the content of a file."""
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    blob.update(path.read_bytes())
    return blob.hexdigest()


def reason(error: BaseException) -> str:
    """The innermost reason of a nested network error, or the status that a server answered, on one line."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        phrase = getattr(response, "reason", "") or getattr(response, "reason_phrase", "")
        return cleaned(f"the server answers {response.status_code} {phrase}").rstrip()
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return cleaned((str(error) or type(error).__name__).splitlines()[0])


def _refuse_if_final(error: OSError, url: str) -> None:
    """Raises UserError for what another try would not mend; all of requests' own errors are OSErrors."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code < 500 and response.status_code not in RETRIED_STATUSES:
        account = ", or whether it needs an account" if response.status_code in (401, 403) else ""
        fail("W01", reason(error), where=shown(url), fix="check the address" + account)
    if isinstance(error, ValueError):
        fail("W01", f"not an address that can be fetched: {reason(error)}", where=shown(url), fix="correct the address")
    if error.errno is not None:
        what = f"cannot write: {error.strerror or error}"
        fail("R07", what, where=shown(url), fix="free space there, or set YOURBERT_CACHE to another folder")
