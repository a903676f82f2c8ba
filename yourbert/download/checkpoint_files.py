"""What a stock BERT folder holds, and how one that lacks a file is completed or refused.

Four files make a model: config.json, model.safetensors, vocab.txt and tokenizer_config.json with `do_lower_case`.
The last two can be read off a tokenizer.json. Weights in a pickle are never opened: unpickling runs their code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from yourbert.core.errors import fail, quoted
from yourbert.core.storage import write_json, write_text

CONFIG, WEIGHTS, VOCABULARY, TOKENIZER = "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"
FILES = (CONFIG, WEIGHTS, VOCABULARY, TOKENIZER)
FAST_TOKENIZER, PICKLED = "tokenizer.json", "pytorch_model.bin"
LOWER = "do_lower_case"


def check_config(path: Path, source: str) -> None:
    """Raises UserError: C01 if config.json is missing or no JSON, C03 if it is not a BERT's."""
    if not path.is_file():
        fail("C01", f"there is no {CONFIG}", where=source, fix="name a folder or a hub id that holds a BERT model")
    kind = _json_object(path, source).get("model_type", "bert")
    if kind != "bert":
        fail("C03", f"a model of type {quoted(str(kind))}; only BERT models are read", where=source)


def check_weights(path: Path, source: str) -> None:
    """Raises UserError (C01) unless the file is safetensors with as many bytes as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        fix = "fetch it again; a file of git-lfs or a web page may stand in its place"
        fail("C01", f"{WEIGHTS} is not a whole safetensors file ({error})", where=source, fix=fix)


def refuse_without_weights(source: str, pickled: bool) -> NoReturn:
    if pickled:
        what = f"only {PICKLED} is there, a pickle, which could run code when it is opened"
        fail("C04", what, where=source, fix=f"convert it to {WEIGHTS}, or choose a model that has it")
    fail("C01", f"there is no {WEIGHTS}", where=source, fix="name a folder or a hub id that holds a BERT model")


def complete(folder: Path, source: str) -> None:
    """Makes vocab.txt and `do_lower_case` where they are missing. Raises UserError (C01, C05) if it cannot."""
    fast_file, vocabulary, tokenizer = folder / FAST_TOKENIZER, folder / VOCABULARY, folder / TOKENIZER
    fast = _json_object(fast_file, source) if fast_file.is_file() else {}
    if not vocabulary.is_file():
        write_text(vocabulary, "".join(f"{piece}\n" for piece in _pieces(fast, source)))
    settings = _json_object(tokenizer, source) if tokenizer.is_file() else {}
    if not isinstance(settings.get(LOWER), bool):
        normalizer = fast.get("normalizer") or {}
        known = normalizer.get("lowercase") if isinstance(normalizer, dict) else None
        settings[LOWER] = known if isinstance(known, bool) else not _has_capitals(vocabulary)
        write_json(tokenizer, settings)


def _pieces(fast: dict[str, Any], source: str) -> list[str]:
    """The word pieces of a tokenizer.json in the order of their numbers, which have no gap."""
    if not fast:
        fail("C05", f"there is neither {VOCABULARY} nor {FAST_TOKENIZER}", where=source, fix="choose a BERT model")
    model = fast.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict) or model.get("type", "WordPiece") != "WordPiece":
        fail("C05", f"{FAST_TOKENIZER} holds no WordPiece vocabulary", where=source, fix="choose a BERT model")
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))) or any(
        re.search(r"[\r\n]", p) for p in pieces
    ):
        fail("C05", f"the vocabulary in {FAST_TOKENIZER} has gaps", where=source, fix="choose a BERT model")
    return pieces


def _has_capitals(vocabulary: Path) -> bool:
    """Whether the word pieces were made from text with capitals; [CLS] and its like do not count."""
    lines = vocabulary.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line != line.lower() for line in lines if not re.fullmatch(r"\[.*\]|<.*>", line))


def _json_object(path: Path, source: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        fail("C01", f"{path.name} is not a readable JSON object", where=source, fix="fetch it again")
    return value
