"""The tokenizer of a stranger's checkpoint: five files of transformers become vocab.txt and tokenizer_config.json.

transformers saved a tokenizer in a different set of files with each version, and its classes obey different ones of
them. Here every file that is present is read. What one of them says explicitly is applied; what this tokenizer cannot
do, and files that contradict each other, are refused (C05).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yourbert.core.errors import fail
from yourbert.core.storage import write_json, write_text
from yourbert.tokens.tokenizer import CONFIG, CONTINUATION, MAX_WORD_LENGTH, VOCABULARY, read_vocabulary
from yourbert.tokens.tokenizer_settings import (
    ACCENTS,
    ADDED,
    CHINESE,
    LOWER_CASE,
    ROLES,
    NamedToken,
    check_class,
    check_roles,
    check_vocabulary,
    checked_tokens,
    is_text,
    is_usual,
    named_token,
    named_tokens,
    read_settings,
    refuse,
    said,
)

logger = logging.getLogger("yourbert")
FAST, SPECIAL_MAP, ADDED_FILE = "tokenizer.json", "special_tokens_map.json", "added_tokens.json"
TOKENIZER_FILES = (VOCABULARY, CONFIG, FAST, SPECIAL_MAP, ADDED_FILE)
BERT = "BertTokenizer"
EXTRA = ("additional_special_tokens", "extra_special_tokens")
# Keys of the normalizer in tokenizer.json, and their names in tokenizer_config.json.
NORMALIZER = {"lowercase": LOWER_CASE, "strip_accents": ACCENTS, "handle_chinese_chars": CHINESE}
IF_MISSING: Mapping[str, bool | None] = {LOWER_CASE: None, ACCENTS: None, CHINESE: True}
# The parts of tokenizer.json, with the values of their fields that are supported.
PARTS: Mapping[str, Mapping[str, Any]] = {
    "normalizer": {"type": "BertNormalizer", "clean_text": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {
        "unk_token": "[UNK]",
        "continuing_subword_prefix": CONTINUATION,
        "max_input_chars_per_word": MAX_WORD_LENGTH,
    },
}
ENDS = ("[CLS]", "[SEP]")
PAIR = [
    {kind: {"id": name, "type_id": segment}}
    for kind, name, segment in (
        ("SpecialToken", "[CLS]", 0),
        ("Sequence", "A", 0),
        ("SpecialToken", "[SEP]", 0),
        ("Sequence", "B", 1),
        ("SpecialToken", "[SEP]", 1),
    )
]


def complete_tokenizer(folder: Path, source: str, stock: Mapping[str, Any]) -> None:
    """Writes vocab.txt and tokenizer_config.json from the tokenizer's files in `folder`, and removes the others.

    stock: config.json. A file that says everything already stays as it is. Raises UserError (C01, C05).
    """
    fast, config, special, added = (read_object(folder / f, source) for f in (FAST, CONFIG, SPECIAL_MAP, ADDED_FILE))
    vocabulary = _vocabulary(folder / VOCABULARY, fast, source)
    check_vocabulary(vocabulary, source)
    check_class(stock, source)
    check_roles(special, source)
    if fast:
        _check_parts(fast, vocabulary, source)
        config |= _normalizer(fast["normalizer"], config, source)
    if config.get(LOWER_CASE) is None:
        config[LOWER_CASE] = not _is_cased(vocabulary)
        kept = "are lower-cased" if config[LOWER_CASE] else "keep their upper case"
        logger.info("%s: no file has %s; by its vocabulary, texts %s", source, LOWER_CASE, kept)
    stated = named_tokens(config.get(ADDED), vocabulary, source)
    tokens = [*stated, *_fast_tokens(fast, source)]
    tokens += _by_name(tokens, vocabulary, added, (config, special), source)
    merged = [token for token in checked_tokens(tokens, vocabulary, source) if not is_usual(token)]
    if merged != [token for token in stated if not is_usual(token)]:
        config[ADDED] = {str(token.id): token.to_json() for token in merged}
    read_settings(config, vocabulary, source)
    if str(config.get("tokenizer_class", BERT)).removesuffix("Fast") != BERT:
        config["tokenizer_class"] = BERT  # the other classes need more than the two files
    if config != read_object(folder / CONFIG, source):
        write_json(folder / CONFIG, config)
    for file in (FAST, SPECIAL_MAP, ADDED_FILE):
        (folder / file).unlink(missing_ok=True)


def _vocabulary(path: Path, fast: Mapping[str, Any], source: str) -> dict[str, int]:
    """The word pieces of vocab.txt, which is written from tokenizer.json where it is missing."""
    pieces = _word_pieces(fast, source) if fast else None
    if path.is_file():
        vocabulary = read_vocabulary(path, source)
        if pieces is not None and vocabulary != {piece: number for number, piece in enumerate(pieces)}:
            refuse(f"{VOCABULARY} and {FAST} have different word pieces", source)
        return vocabulary
    if pieces is None:
        fail("C05", f"there is neither {VOCABULARY} nor {FAST}", where=source, fix="choose a BERT model")
    write_text(path, "".join(f"{piece}\n" for piece in pieces))
    return read_vocabulary(path, source)


def _word_pieces(fast: Mapping[str, Any], source: str) -> list[str]:
    """The word pieces of a tokenizer.json in the order of their ids, which must be 0, 1, 2, ..."""
    model = fast.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict) or model.get("type", "WordPiece") != "WordPiece":
        fail("C05", f"{FAST} has no WordPiece vocabulary", where=source, fix="choose a BERT model")
    pieces = sorted(vocabulary, key=lambda piece: str(vocabulary[piece]).zfill(10))
    readable = all((is_text(piece) or piece == "") and not re.search(r"[\r\n]", piece) for piece in pieces)
    if not readable or [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        fail("C05", f"the vocabulary in {FAST} has gaps", where=source, fix="choose a BERT model")
    return pieces


def _check_parts(fast: Mapping[str, Any], vocabulary: Mapping[str, int], source: str) -> None:
    """Refuses normalizers and other parts of a tokenizer.json that are not BERT's."""
    for part, supported in PARTS.items():
        given = fast.get(part)
        if not isinstance(given, dict):
            refuse(f"{FAST} has no {part}", source)
        for field, value in supported.items():
            if given.get(field, value if field != "type" else None) != value:
                refuse(f"the {part} in {FAST} has {field} {said(given.get(field))}, not {said(value)}", source)
    if not _is_bert_template(fast.get("post_processor"), vocabulary):
        refuse(f"the post_processor in {FAST} does not make [CLS] A [SEP] B [SEP]", source)
    padding = fast.get("padding")
    if isinstance(padding, dict) and padding.get("direction", "Right") != "Right":
        refuse(f"{FAST} pads on the left", source)


def _is_bert_template(processor: object, vocabulary: Mapping[str, int]) -> bool:
    """Whether a post-processor makes [CLS] A [SEP] B [SEP], with B and its [SEP] in the second segment."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "BertProcessing":
        return [processor.get("cls"), processor.get("sep")] == [[token, vocabulary[token]] for token in ENDS]
    numbers = processor.get("special_tokens")
    return processor.get("type") == "TemplateProcessing" and (
        [processor.get(kind) for kind in ("single", "pair")] == [PAIR[:3], PAIR]
        and isinstance(numbers, dict)
        and all(isinstance(n := numbers.get(t), dict) and n.get("ids") == [vocabulary[t]] for t in ENDS)
    )


def _normalizer(normalizer: Mapping[str, Any], config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What the normalizer of a tokenizer.json adds to tokenizer_config.json."""
    found: dict[str, Any] = {}
    for field, key in NORMALIZER.items():
        value, given = normalizer.get(field, key != ACCENTS or None), config.get(key)
        if not isinstance(value, bool) and (value is not None or key != ACCENTS):
            refuse(f"the normalizer in {FAST} has {field} {said(value)}", source)
        # A null in place of `strip_accents` is a value: as `do_lower_case`.
        if given != value and (given is not None or (key == ACCENTS and key in config)):
            refuse(f"{CONFIG} has {key} {said(given)}, but {FAST} has {field} {said(value)}", source)
        if given is None and value != IF_MISSING[key]:
            found[key] = value
    return found


def _is_cased(vocabulary: Mapping[str, int]) -> bool:
    """Whether a word piece has an upper-case letter; special tokens such as [CLS] do not count."""
    return any(piece != piece.lower() for piece in vocabulary if not re.fullmatch(r"\[.*\]|<.*>", piece))


def _fast_tokens(fast: Mapping[str, Any], source: str) -> Iterator[NamedToken]:
    entries = fast.get("added_tokens") or []
    if not isinstance(entries, list):
        refuse(f"added_tokens in {FAST} is not a list", source)
    for entry in entries:
        yield named_token(entry, entry.get("id") if isinstance(entry, dict) else None, source)


def _by_name(
    known: list[NamedToken],
    vocabulary: Mapping[str, int],
    added: Mapping[str, Any],
    others: tuple[Mapping[str, Any], ...],
    source: str,
) -> Iterator[NamedToken]:
    """The added tokens that are only named: those of added_tokens.json, and special ones of two other files."""
    ids = dict(vocabulary) | {token.content: token.id for token in known}
    special = {name: flags for other in others for name, flags in _special_names(other, source)}
    described = {token.content for token in known}
    for content, number in added.items():
        if ids.setdefault(content, number) != number:
            refuse(f"{ADDED_FILE} gives {said(content)} the id {said(number)}, another file {ids[content]}", source)
        if content not in described and content not in special:
            yield named_token({"content": content}, number, source)
    for content, flags in special.items():
        if content not in described:
            number = ids.setdefault(content, len(ids))
            yield named_token({"normalized": False, **flags, "content": content, "special": True}, number, source)


def _special_names(config: Mapping[str, Any], source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The special tokens that tokenizer_config.json or special_tokens_map.json names, each with the flags given."""
    values = [value for key, value in config.items() if key in ROLES or key.endswith("_token")]
    for key in EXTRA:
        extra = config.get(key) or []
        values += extra.values() if isinstance(extra, dict) else extra if isinstance(extra, list) else [extra]
    for value in values:
        flags = value if isinstance(value, dict) else {"content": value}
        if isinstance(value, bool) or flags.get("content") is None:
            continue
        if not is_text(flags["content"]):
            refuse(f"a special token is {said(value)}", source)
        yield flags["content"], {name: flag for name, flag in flags.items() if name != "__type"}


def read_object(path: Path, source: str) -> dict[str, Any]:
    """The JSON object in a file, {} if there is no such file. Raises UserError (C01)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        fail("C01", f"{path.name} is not a readable JSON object", where=source, fix="download it again")
    return value
