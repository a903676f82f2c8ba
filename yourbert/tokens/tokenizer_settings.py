"""The settings of a BERT tokenizer, as tokenizer_config.json of transformers names them.

Every setting that can change the ids of a text is applied, or refused where this tokenizer has no such choice. All
other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, TypeGuard

from yourbert.core.errors import cleaned, fail

SPECIAL_TOKENS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
ROLES = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}  # "unk_token": "[UNK]"
LOWER_CASE, ACCENTS, CHINESE, ADDED = "do_lower_case", "strip_accents", "tokenize_chinese_chars", "added_tokens_decoder"
FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
# The classes of transformers that are this tokenizer, without "Fast" at the end.
CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "PreTrainedTokenizer", "TokenizersBackend")
# Settings with one supported value. Sequences are not padded here, so that positions always start at the first token.
ONLY: Mapping[str, Any] = {
    "do_basic_tokenize": True,
    "clean_text": True,
    "wordpieces_prefix": "##",
    "split_special_tokens": False,
    "padding_side": "right",
}
FIX = "choose a checkpoint with the tokenizer of BERT"


@dataclass(frozen=True)
class NamedToken:
    """A token that is found by its name in a text, whatever is around it. The flags are those of `tokenizers`.

    lstrip, rstrip: it takes the white space beside it. normalized: it is looked for in the normalized text.
    single_word: only where no letter or digit is beside it.
    """

    content: str
    id: int
    lstrip: bool = False
    normalized: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = True

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "id"}


@dataclass(frozen=True)
class TokenizerSettings:
    """How a text becomes ids, apart from the vocabulary.

    strip_accents: None means as `lower_case`. tokenize_chinese_chars: whether each CJK character is a word. named:
    tokens that are found by name, without those of `SPECIAL_TOKENS` that have the usual flags.
    """

    lower_case: bool
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    named: tuple[NamedToken, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The settings as `BertTokenizer` of transformers reads them."""
        named: dict[str, Any] = {str(token.id): token.to_json() for token in self.named}
        switches = {LOWER_CASE: self.lower_case, ACCENTS: self.strip_accents, CHINESE: self.tokenize_chinese_chars}
        return switches | ({ADDED: named} if named else {})


def read_settings(config: Mapping[str, Any], vocabulary: Mapping[str, int], where: str) -> TokenizerSettings:
    """Reads a tokenizer_config.json. vocabulary: word piece -> id. Raises UserError (C05) for what is not supported."""
    check_vocabulary(vocabulary, where)
    check_class(config, where)
    check_roles(config, where)
    for key, supported in ONLY.items():
        if config.get(key, supported) not in (supported, None):
            refuse(f"{key} is {said(config[key])}; only {said(supported)} is supported", where)
    named = named_tokens(config.get(ADDED), vocabulary, where)
    if unknown := _never_split(config) - {*SPECIAL_TOKENS, *(token.content for token in named)}:
        refuse(f"never_split names {said(sorted(unknown)[0])}, which is no added token", where)
    lower, accents, chinese = config.get(LOWER_CASE), config.get(ACCENTS), config.get(CHINESE)
    for key, value in ((LOWER_CASE, lower), (ACCENTS, accents), (CHINESE, chinese)):
        if not (value is None or isinstance(value, bool)):
            refuse(f"{key} is {said(value)}; it should be true or false", where)
    unusual = tuple(token for token in named if not is_usual(token))
    return TokenizerSettings(lower is not False, accents, chinese is not False, unusual)


def refuse(what: str, where: str) -> NoReturn:
    """Raises UserError (C05)."""
    fail("C05", f"the tokenizer is not supported: {what}", where=where, fix=FIX)


def said(value: object) -> str:
    """A value of a file as Python writes it, short enough for a message."""
    return cleaned(repr(value))


def check_vocabulary(vocabulary: Mapping[str, int], where: str) -> None:
    """Raises UserError (C05) if a special token of BERT is missing."""
    if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        fail("C05", f"the vocabulary lacks {', '.join(missing)}", where=where, fix="use the vocab.txt of a BERT model")


def check_class(config: Mapping[str, Any], where: str) -> None:
    """Raises UserError (C05) if tokenizer_config.json or config.json names a tokenizer of another kind."""
    kind, code = config.get("tokenizer_class"), config.get("auto_map")
    if kind is not None and not (isinstance(kind, str) and kind.removesuffix("Fast") in CLASSES):
        refuse(f"tokenizer_class is {said(kind)}", where)
    if isinstance(code, list) or (isinstance(code, dict) and "AutoTokenizer" in code):
        refuse("auto_map names code of its own", where)


def check_roles(config: Mapping[str, Any], where: str) -> None:
    """Raises UserError (C05) if a special token of BERT has another name."""
    for role, token in ROLES.items():
        value = config.get(role)
        name = value.get("content") if isinstance(value, dict) else value
        if name not in (token, None):
            refuse(f"{role} is {said(name)}; only {said(token)} is supported", where)


def is_usual(token: NamedToken) -> bool:
    """Whether this is one of `SPECIAL_TOKENS`, looked for in the text as it is given."""
    return token.content in SPECIAL_TOKENS and not token.normalized and not token.single_word


def named_tokens(stock: object, vocabulary: Mapping[str, int], where: str) -> tuple[NamedToken, ...]:
    """Reads `added_tokens_decoder`: id -> flags. Raises UserError (C05)."""
    if stock is None:
        return ()
    if not isinstance(stock, dict):
        refuse(f"{ADDED} is not an object", where)
    tokens = [named_token(entry, number, where) for number, entry in stock.items()]
    return checked_tokens(tokens, vocabulary, where)


def named_token(entry: object, number: object, where: str) -> NamedToken:
    """One added token as transformers writes it. Raises UserError (C05)."""
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        number = int(number)
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not is_text(content) or type(number) is not int:
        refuse(f"added token {said(number)} is {said(entry)}", where)
    special = entry.get("special", content in SPECIAL_TOKENS)
    flags = {name: entry.get(name, False) for name in FLAGS}
    flags |= {"special": special, "normalized": entry.get("normalized", not special)}
    if not all(isinstance(value, bool) for value in flags.values()):
        refuse(f"the flags of the added token {said(content)} are not true or false", where)
    return NamedToken(content, number, **flags)


def is_text(value: object) -> TypeGuard[str]:
    """Whether this is a string with characters, all of which UTF-8 has."""
    return isinstance(value, str) and value != "" and value.encode(errors="ignore").decode() == value


def checked_tokens(tokens: Collection[NamedToken], vocabulary: Mapping[str, int], where: str) -> tuple[NamedToken, ...]:
    """The tokens in the order of their ids, each once.

    Raises UserError (C05) if two entries for a token differ, or if its id is not the one that `tokenizers` gives it:
    the vocabulary's, else the next one after the vocabulary.
    """
    by_content: dict[str, NamedToken] = {}
    for token in tokens:
        other = by_content.setdefault(token.content, token)
        if other != token:
            refuse(f"its files contradict each other about the added token {said(token.content)}", where)
    ordered = sorted(by_content.values(), key=lambda token: token.id)
    new = [token for token in ordered if token.content not in vocabulary]
    expected = {token.content: len(vocabulary) + number for number, token in enumerate(new)}
    for token in ordered:
        right = expected.get(token.content, vocabulary.get(token.content))
        if token.id != right:
            refuse(f"the added token {said(token.content)} has the id {token.id}, not {right}", where)
    return tuple(ordered)


def _never_split(config: Mapping[str, Any]) -> set[str]:
    names = config.get("never_split")
    return {str(name) for name in names} if isinstance(names, list) else set()
