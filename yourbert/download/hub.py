"""Downloads a model's files from the Hugging Face hub with `huggingface_hub`, which also caches them.

HF_HOME, HF_TOKEN or `hf auth login`, HF_ENDPOINT and HF_HUB_OFFLINE work as in other programs. All files are of one
commit. LFS files, whose sha256 is known, are verified each time they are read from the cache.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import NoReturn

from yourbert.core.errors import fail
from yourbert.core.filenames import shown
from yourbert.core.storage import replacing, sha256_of
from yourbert.download.checkpoint_files import CONFIG, WEIGHTS, Origin, collect
from yourbert.download.web import reason

logger = logging.getLogger("yourbert")
# Without this probe the client retries for minutes on a network that drops packets.
PROBE_TIMEOUT_S = 5.0
OFFLINE_FIX = "check the network, or set `model` to a local folder"
LOGIN = "set HF_TOKEN or run `hf auth login`"


def hub_address() -> str:
    from huggingface_hub import constants

    return shown(constants.ENDPOINT)


def fetch_from_hub(name: str, revision: str, work: Path) -> str:
    """Copies the model's files to `work` and returns their commit. revision: a branch, tag or commit.

    Raises UserError: W01 (unknown model or revision, or no access), W03 (unreachable and not cached, or a server
    error), W05 (a file differs from the hub's sha256), R07 (disk); C01 to C10 if the model is unusable.
    """
    offline = _why_offline(name, revision)
    config = _cached_file(name, CONFIG, revision, offline)
    if config is None and offline:
        fail("W03", f"{offline}, and the model is not in the hub's cache", where=name, fix=OFFLINE_FIX)
    if offline:
        logger.info("%s: %s; using the hub's cache", name, offline)
    commit = config.parent.name if config else revision

    def copy(file: str) -> bool:
        path = _cached_file(name, file, commit, offline)
        if path is None:
            return False
        with replacing(work / Path(file).name) as part:  # a copy, as DVC or an edit could change a linked file
            shutil.copyfile(path, part)
        return True

    def has(file: str) -> bool:
        if offline:
            fail("W03", f"{offline}, and {WEIGHTS} is not in the hub's cache", where=name, fix=OFFLINE_FIX)
        return _probe(name, file, commit) is None

    collect(Origin(name, copy, has), work)
    return commit


def _why_offline(name: str, revision: str) -> str:
    """Why the hub cannot be reached; "" if it answers."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    error = _probe(name, CONFIG, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return "" if error is None or isinstance(error, HfHubHTTPError) else f"the hub is unreachable: {reason(error)}"


def _probe(name: str, file: str, revision: str) -> Exception | None:
    """The error of one metadata request for a file, or None if it succeeds."""
    from httpx2 import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=PROBE_TIMEOUT_S)
    except (HTTPError, OSError) as error:
        return error
    return None


def _cached_file(name: str, file: str, revision: str, offline: str) -> Path | None:
    """The file's path in the hub's cache; None if the model (offline: the cache) has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    if try_to_load_from_cache(name, file, revision=revision) is _CACHED_NO_EXIST:
        return None  # it is known that this commit has no such file
    path = _download(name, file, revision, offline)
    if path is None or _is_intact(path):
        return path
    logger.info("%s: %s in the hub's cache is damaged", name, file)
    if not offline:
        path = _download(name, file, revision, offline, again=True)
    if path is None or not _is_intact(path):
        fix = "try again later, or remove the file"
        fail("W05", f"{file} differs from the sha256 that the hub reports", where=str(path), fix=fix)
    return path


def _is_intact(path: Path) -> bool:
    """Whether a cached file has the sha256 in its name; only LFS files have one, and the client does not verify it."""
    content = path.resolve()
    return not re.fullmatch(r"[0-9a-f]{64}", content.name) or sha256_of(content) == content.name


def _download(name: str, file: str, revision: str, offline: str, again: bool = False) -> Path | None:
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError, XetDownloadError

    try:
        return Path(
            hf_hub_download(
                name,
                file,
                revision=revision,
                etag_timeout=PROBE_TIMEOUT_S,
                local_files_only=bool(offline),
                force_download=again,
            )
        )
    except RemoteEntryNotFoundError:
        return None
    except LocalEntryNotFoundError as error:
        if offline:
            return None
        _refuse(error.__cause__ or error, name, revision)
    except (HTTPError, OSError, RuntimeError, XetDownloadError) as error:
        _refuse(error, name, revision)


def _refuse(error: BaseException, name: str, revision: str) -> NoReturn:
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RevisionNotFoundError):
        fail("W01", f"the model has no revision '{revision}'", where=name, fix="correct the part after @")
    if isinstance(error, GatedRepoError):
        fix = f"accept its conditions at {hub_address()}/{name}, then {LOGIN}"
        fail("W01", f"the model is gated and access was refused ({status})", where=name, fix=fix)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        fix = f"correct the name; for a private model {LOGIN}"
        fail("W01", f"the hub has no such model, or it is private ({reason(error)})", where=name, fix=fix)
    if isinstance(error, FileMetadataError):
        what = "not a Hugging Face hub: the response lacks a commit or an ETag"
        fail("W03", what, where=hub_address(), fix="check HF_ENDPOINT and the proxy")
    if isinstance(error, OSError) and error.errno is not None:
        what = f"the hub's cache cannot be written: {error.strerror or error}"
        fail("R07", what, where=str(error.filename or ""), fix="free disk space, or set HF_HOME to another folder")
    fail("W03", reason(error), where=name, fix="try again later")
