"""A stranger's BERT checkpoint becomes the four files that the stages read, or is refused in one line.

Read are config.json, model.safetensors or its shards, and the tokenizer's files, beside each other or in the folder
that sentence-transformers names in modules.json. Whatever would fail later is found here: foreign tensors, wrong
shapes, NaN, more word pieces than embeddings. Pickled weights are never opened, because unpickling executes code.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from yourbert.core.errors import fail, quoted, shortened
from yourbert.download.tokenizer_files import TOKENIZER_FILES, complete_tokenizer, read_object
from yourbert.tokens.tokenizer import CONFIG as TOKENIZER
from yourbert.tokens.tokenizer import VOCABULARY, Tokenizer

logger = logging.getLogger("yourbert")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FILES = (CONFIG, WEIGHTS, VOCABULARY, TOKENIZER)
INDEX, PICKLED, MODULES = f"{WEIGHTS}.index.json", "pytorch_model.bin", "modules.json"
FOLDER = re.compile(r"\w[\w.-]*")  # a name without a path


@dataclass(frozen=True)
class Origin:
    """A place with checkpoints: a folder or a hub.

    name: for messages. copy: puts a file, named relative to the place, into the working folder, without its folder;
    False if there is no such file. has: whether there is such a file. files: all names, where they are known.
    """

    name: str
    copy: Callable[[str], bool]
    has: Callable[[str], bool]
    files: Callable[[], list[str]] = list


def collect(origin: Origin, work: Path) -> None:
    """Puts the four files of `FILES` into `work`.

    Raises UserError: C01 (missing or damaged), C03 or C10 (not this kind of BERT), C04 (only pickled weights), C05 (a
    tokenizer that is not supported), C07 (weights that are not finite).
    """
    folder = _find_encoder(origin, work)
    check_config(work / CONFIG, origin)
    shards = _copy_weights(origin, folder, work)
    for file in TOKENIZER_FILES:
        origin.copy(folder + file)
    complete_tokenizer(work, origin.name, read_object(work / CONFIG, origin.name))
    _check_model(work, shards, origin.name)


def _find_encoder(origin: Origin, work: Path) -> str:
    """The folder of the encoder, "" or with a slash at the end; its config.json is copied to `work`."""
    if origin.copy(CONFIG) and "hidden_size" in read_object(work / CONFIG, origin.name):
        return ""
    if not origin.copy(MODULES):
        return ""
    try:
        modules = json.loads((work / MODULES).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        modules = None
    (work / MODULES).unlink()
    for module in modules if isinstance(modules, list) else ():
        path = module.get("path") if isinstance(module, dict) else None
        if isinstance(path, str) and FOLDER.fullmatch(path) and str(module.get("type")).endswith(".Transformer"):
            return f"{path}/" if origin.copy(f"{path}/{CONFIG}") else ""
    return ""


def check_config(path: Path, origin: Origin) -> None:
    """Raises UserError: C01 if config.json is missing or not JSON, C03 if the model is not a BERT."""
    if not path.is_file():
        fail("C01", f"there is no {CONFIG}{_there(origin)}", where=origin.name, fix=NAME_A_MODEL)
    kind = read_object(path, origin.name).get("model_type", "bert")
    if kind != "bert":
        fail("C03", f"model type {quoted(str(kind))} is not supported, only bert", where=origin.name)


NAME_A_MODEL = "name a folder or a hub id with a BERT model"


def _there(origin: Origin) -> str:
    files = origin.files()
    return f"; there are {shortened(files)}" if files else ""


def _copy_weights(origin: Origin, folder: str, work: Path) -> list[Path]:
    """Copies the weights; returns their files: model.safetensors, or its shards. Raises UserError (C01, C04)."""
    if origin.copy(folder + WEIGHTS):
        files = [WEIGHTS]
    elif origin.copy(folder + INDEX):
        files = _shards(read_object(work / INDEX, origin.name), origin.name)
        (work / INDEX).unlink()
        for file in files:
            if not origin.copy(folder + file):
                fail("C01", f"there is no {file}, which {INDEX} names", where=origin.name, fix="download it again")
    else:
        _refuse_without_weights(origin, folder)
    for file in files:
        _check_safetensors(work / file, origin.name)
    return [work / file for file in files]


def _shards(index: Mapping[str, Any], source: str) -> list[str]:
    names = index.get("weight_map")
    files = sorted({str(file) for file in names.values()}) if isinstance(names, dict) else []
    if not files or not all(FOLDER.fullmatch(file) and file.endswith(".safetensors") for file in files):
        fail("C01", f"{INDEX} does not name the files of the weights", where=source, fix="download it again")
    return files


def _check_safetensors(path: Path, source: str) -> None:
    """Raises UserError (C01) unless the file is valid safetensors of the size in its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        fix = "download it again; it may be a git-lfs pointer or a web page instead"
        fail("C01", f"{path.name} is not a complete safetensors file ({error})", where=source, fix=fix)


def _refuse_without_weights(origin: Origin, folder: str) -> NoReturn:
    """Raises UserError: C04 if only pickled weights exist, else C01."""
    if origin.has(folder + PICKLED) or origin.has(f"{folder}{PICKLED}.index.json"):
        what = f"the only weights are {PICKLED}, a pickle, which could execute code when it is opened"
        fix = (
            f"if you trust it, convert it to {WEIGHTS} with transformers: BertModel.from_pretrained(...)"
            f".save_pretrained(...); or choose a model that has {WEIGHTS}"
        )
        fail("C04", what, where=origin.name, fix=fix)
    fail("C01", f"there is no {WEIGHTS}{_there(origin)}", where=origin.name, fix=NAME_A_MODEL)


def _check_model(work: Path, shards: list[Path], source: str) -> None:
    """Applies every check of a later stage to weights and vocabulary, and leaves out the heads of other tasks.

    model.safetensors is written again only if tensors are left out or were in shards.
    """
    # Imported here, because torch takes a second.
    import torch

    from yourbert.core.storage import read_tensors, write_tensors
    from yourbert.model.encoder import EncoderConfig
    from yourbert.model.pretrained import encoder_tensors, load_tensors

    config = EncoderConfig.from_json(read_object(work / CONFIG, source), source)
    if config.type_vocab_size < 2:
        fail("C10", "type_vocab_size is 1; pairs of texts need 2", where=source, fix="choose a BERT checkpoint")
    tensors: dict[str, torch.Tensor] = {}
    for shard in shards:
        tensors |= read_tensors(shard)
    kept, notes = encoder_tensors(tensors)
    load_tensors(kept, config, source)
    for note in notes:
        logger.info("%s: %s", source, note)
    if kept.keys() != tensors.keys() or shards != [work / WEIGHTS]:
        for shard in shards:
            shard.unlink()
        write_tensors(work / WEIGHTS, kept, {"format": "pt"})
    longest = read_object(work / TOKENIZER, source).get("model_max_length")
    if type(longest) is int and 0 < longest < config.max_position_embeddings:
        logger.info("%s: made for texts of at most %s tokens; `max_length` of a task may be more", source, longest)
    pieces = Tokenizer.load(work).vocabulary_size
    if pieces > config.vocab_size:
        what = f"the tokenizer has {pieces} word pieces, but the model only {config.vocab_size} embeddings"
        fail("C05", what, where=source, fix=f"use the {VOCABULARY} that belongs to these weights")
    if pieces < config.vocab_size:
        logger.info("%s: %s word pieces for %s embeddings; the rest is unused", source, pieces, config.vocab_size)
