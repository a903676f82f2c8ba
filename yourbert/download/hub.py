"""A model's files from the Hugging Face hub, through its own client and cache.

So HF_HOME, HF_TOKEN or `hf auth login`, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean everywhere. All files are
taken from one commit, and those whose sha256 the hub tells are compared with it each time they are used.
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
from yourbert.download.checkpoint_files import (
    CONFIG,
    FAST_TOKENIZER,
    PICKLED,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    check_config,
    check_weights,
    complete,
    refuse_without_weights,
)
from yourbert.download.web import reason

LOGGER = logging.getLogger("yourbert")
# The client itself waits for minutes where a network swallows what is sent.
SECONDS_TO_ANSWER = 5.0
ENDPOINT_FIX = "check HF_ENDPOINT, and whether a proxy asks for a log-in"
LOGIN = "set HF_TOKEN or run `hf auth login`"


def hub_address() -> str:
    from huggingface_hub import constants

    return shown(constants.ENDPOINT)


def fetch_from_hub(name: str, revision: str, work: Path) -> str:
    """Copies the model's files to `work` and returns their commit. revision: a branch, tag or commit.

    Raises UserError: W01 (no such model or revision, or no access), W03 (unreachable and not in the cache, or failing),
    W05 (a file is not what the hub says it is), R07 (disk); C01, C03, C04, C05 if the model cannot be used.
    """
    offline = _why_offline(name, revision)
    config = _get(name, CONFIG, revision, offline)
    if config is None and offline:
        fail("W03", f"{offline}, and the model is not in the hub's cache", where=name)
    if offline:
        LOGGER.info("%s: from the hub's cache: %s", name, offline)
    commit = config.parent.name if config else revision

    def take(file: str) -> bool:
        path = _get(name, file, commit, offline)
        if path is None:
            return False
        with replacing(work / file) as part:  # a link would let DVC, or an edit, change the cache
            shutil.copyfile(path, part)
        return True

    take(CONFIG)
    check_config(work / CONFIG, name)
    if not take(WEIGHTS):
        if offline:
            fail("W03", f"{offline}, and {WEIGHTS} is not in the hub's cache", where=name)
        refuse_without_weights(name, pickled=_trouble_with(name, PICKLED, commit) is None)
    check_weights(work / WEIGHTS, name)
    take(TOKENIZER)
    if not take(VOCABULARY):
        take(FAST_TOKENIZER)
    complete(work, name)
    return commit


def _why_offline(name: str, revision: str) -> str:
    """Why the hub does not answer at all, or ""."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    error = _trouble_with(name, CONFIG, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return "" if error is None or isinstance(error, HfHubHTTPError) else f"the hub is unreachable: {reason(error)}"


def _trouble_with(name: str, file: str, revision: str) -> Exception | None:
    """What asking the hub about a file, once, comes to."""
    from httpx2 import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=SECONDS_TO_ANSWER)
    except (HTTPError, OSError) as error:
        return error
    return None


def _get(name: str, file: str, revision: str, offline: str) -> Path | None:
    """The file's place in the hub's cache; None where the model, or offline the cache, has no such file."""
    path = _download(name, file, revision, offline)
    if path is None or _is_whole(path):
        return path
    LOGGER.info("%s: %s in the hub's cache is damaged", name, file)
    if not offline:
        path = _download(name, file, revision, offline, again=True)
    if path is None or not _is_whole(path):
        fix = "try again later, or remove the file"
        fail("W05", f"{file} does not have the sha256 that the hub tells", where=str(path), fix=fix)
    return path


def _is_whole(path: Path) -> bool:
    """The cache names a large file by its sha256, which the client itself does not compare."""
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
                etag_timeout=SECONDS_TO_ANSWER,
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
        fail("W01", f"the model has no revision '{revision}'", where=name, fix="correct what follows the @")
    if isinstance(error, GatedRepoError):
        fix = f"accept its conditions at {hub_address()}/{name}, then {LOGIN}"
        fail("W01", f"the model is gated, and the hub does not know you as admitted ({status})", where=name, fix=fix)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        fix = f"correct the name; for a private model {LOGIN}"
        fail("W01", f"the hub has no such model, or it is private ({reason(error)})", where=name, fix=fix)
    if isinstance(error, FileMetadataError):
        fail("W03", "what answers is not a hub: it names no commit or no ETag", where=hub_address(), fix=ENDPOINT_FIX)
    if isinstance(error, OSError) and error.errno is not None:
        what = f"the hub's cache cannot be written: {error.strerror or error}"
        fail("R07", what, where=str(error.filename or ""), fix="free space there, or set HF_HOME to another folder")
    fail("W03", reason(error), where=name, fix="try again later")
