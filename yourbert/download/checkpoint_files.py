"""The files of a Hugging Face BERT checkpoint: checks them, and derives missing tokenizer files.

Required are config.json, model.safetensors, vocab.txt and tokenizer_config.json with `do_lower_case`. The last two can
be derived from a tokenizer.json. Pickled weights are never opened, because unpickling executes code.
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
    """Raises UserError: C01 if config.json is missing or not JSON, C03 if the model is not a BERT."""
    if not path.is_file():
        fail("C01", f"there is no {CONFIG}", where=source, fix="name a folder or a hub id with a BERT model")
    kind = _json_object(path, source).get("model_type", "bert")
    if kind != "bert":
        fail("C03", f"model type {quoted(str(kind))} is not supported, only bert", where=source)


def check_weights(path: Path, source: str) -> None:
    """Raises UserError (C01) unless the file is valid safetensors of the size in its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        fix = "download it again; it may be a git-lfs pointer or a web page instead"
        fail("C01", f"{WEIGHTS} is not a complete safetensors file ({error})", where=source, fix=fix)


def refuse_without_weights(source: str, pickled: bool) -> NoReturn:
    """Raises UserError: C04 if only pickled weights exist, else C01."""
    if pickled:
        what = f"the only weights are {PICKLED}, a pickle, which could execute code when it is opened"
        fail("C04", what, where=source, fix=f"convert it to {WEIGHTS}, or choose a model that has {WEIGHTS}")
    fail("C01", f"there is no {WEIGHTS}", where=source, fix="name a folder or a hub id with a BERT model")


def complete_tokenizer(folder: Path, source: str) -> None:
    """Derives a missing vocab.txt and `do_lower_case` from tokenizer.json. Raises UserError (C01, C05)."""
    fast_file, vocabulary, tokenizer = folder / FAST_TOKENIZER, folder / VOCABULARY, folder / TOKENIZER
    fast = _json_object(fast_file, source) if fast_file.is_file() else {}
    if not vocabulary.is_file():
        write_text(vocabulary, "".join(f"{piece}\n" for piece in _word_pieces(fast, source)))
    settings = _json_object(tokenizer, source) if tokenizer.is_file() else {}
    if not isinstance(settings.get(LOWER), bool):
        normalizer = fast.get("normalizer") or {}
        lower = normalizer.get("lowercase") if isinstance(normalizer, dict) else None
        settings[LOWER] = lower if isinstance(lower, bool) else not _is_cased(vocabulary)
        write_json(tokenizer, settings)


def _word_pieces(fast: dict[str, Any], source: str) -> list[str]:
    """The word pieces of a tokenizer.json in the order of their ids, which must be 0, 1, 2, ..."""
    if not fast:
        fail("C05", f"there is neither {VOCABULARY} nor {FAST_TOKENIZER}", where=source, fix="choose a BERT model")
    model = fast.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict) or model.get("type", "WordPiece") != "WordPiece":
        fail("C05", f"{FAST_TOKENIZER} has no WordPiece vocabulary", where=source, fix="choose a BERT model")
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))) or any(
        re.search(r"[\r\n]", p) for p in pieces
    ):
        fail("C05", f"the vocabulary in {FAST_TOKENIZER} has gaps", where=source, fix="choose a BERT model")
    return pieces


def _is_cased(vocabulary: Path) -> bool:
    """Whether a word piece has an upper-case letter; special tokens such as [CLS] do not count."""
    lines = vocabulary.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line != line.lower() for line in lines if not re.fullmatch(r"\[.*\]|<.*>", line))


def _json_object(path: Path, source: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        fail("C01", f"{path.name} is not a readable JSON object", where=source, fix="download it again")
    return value
