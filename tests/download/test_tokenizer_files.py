"""Every file of a stranger's tokenizer is obeyed, as `AutoTokenizer` obeys it, or the checkpoint is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.odd_texts import WORDS, odd_texts
from yourbert.core.errors import UserError
from yourbert.download.tokenizer_files import complete_tokenizer
from yourbert.tokens.tokenizer import Tokenizer

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789äöüßéżがか中文任务有人"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LATER = [f"##{character}" for character in CHARACTERS]
VOCABULARY = list(dict.fromkeys([*SPECIAL, "[unused0]", *CHARACTERS, *LATER, *"!?.,'\"()<>[]@#-_", *WORDS]))
USUAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
PLAIN = {**USUAL, "normalized": True, "special": False}
SIZE = len(VOCABULARY)
Files = Mapping[str, Any]


def fast(added: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """A tokenizer.json. added: content -> id and flags, beside those of the five special tokens."""
    specials = {t: {"id": VOCABULARY.index(t), **USUAL} for t in SPECIAL}
    ends = [{"SpecialToken": {"id": f"[{end}]", "type_id": n}} for end, n in (("CLS", 0), ("SEP", 0), ("SEP", 1))]
    texts = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    numbers = {t: {"id": t, "ids": [VOCABULARY.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    normalizer = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    whole: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"content": name, **flags} for name, flags in {**specials, **(added or {})}.items()],
        "normalizer": {"type": "BertNormalizer", **normalizer},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": [ends[0], texts[0], ends[1]],
            "pair": [ends[0], texts[0], ends[1], texts[1], ends[2]], "special_tokens": numbers,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", **model, "vocab": {p: n for n, p in enumerate(VOCABULARY)}},
    }  # fmt: skip
    for part, fields in changes.items():
        whole[part] = {**(whole[part] or {}), **fields} if isinstance(fields, dict) else fields
    return whole


def config(**settings: Any) -> dict[str, Any]:
    return {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **settings}


CONFIG, FAST = "tokenizer_config.json", "tokenizer.json"
SPECIAL_MAP, ADDED = "special_tokens_map.json", "added_tokens.json"
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast", **{f"{t[1:-1].lower()}_token": t for t in SPECIAL}}
GREEDY = {"goo": {"id": SIZE, **PLAIN}, "<url>": {"id": SIZE + 1, **PLAIN}, "Café": {"id": SIZE + 2, **PLAIN}}
ROWS = {
    str(flags["id"]): {"content": name, **{key: flag for key, flag in flags.items() if key != "id"}}
    for name, flags in GREEDY.items()
}
# name -> the files of the tokenizer beside vocab.txt, which is None where there is none
OBEYED: dict[str, Files] = {
    "uncased": {CONFIG: config()},
    "cased": {CONFIG: config(do_lower_case=False)},
    "accents are kept": {CONFIG: config(strip_accents=False)},
    "cased, accents are stripped": {CONFIG: config(do_lower_case=False, strip_accents=True)},
    "no spaces around Chinese": {CONFIG: config(do_lower_case=False, tokenize_chinese_chars=False)},
    "tokenizer.json alone": {
        "vocab.txt": None,
        CONFIG: config(strip_accents=False),
        FAST: fast(normalizer={"strip_accents": False}),
    },
    "only tokenizer.json says it": {
        CONFIG: GENERIC,
        FAST: fast(normalizer={"strip_accents": False, "lowercase": True}),
    },
    "only tokenizer.json, cased": {
        CONFIG: GENERIC,
        FAST: fast(normalizer={"handle_chinese_chars": False, "lowercase": False}),
    },
    "added in tokenizer.json": {"vocab.txt": None, CONFIG: config(), FAST: fast(GREEDY)},
    "added in tokenizer_config.json": {CONFIG: config(added_tokens_decoder=ROWS)},
    "added in both, cased": {
        CONFIG: config(do_lower_case=False, added_tokens_decoder=ROWS),
        FAST: fast(GREEDY, normalizer={"lowercase": False}),
    },
    "added in added_tokens.json": {CONFIG: config(), ADDED: {"<user>": SIZE, "bado": SIZE + 1}},
    "single words": {CONFIG: config(), FAST: fast({"goo": {"id": SIZE, **PLAIN, "single_word": True}})},
    "white space": {
        CONFIG: config(),
        FAST: fast({"\n": {"id": SIZE, **PLAIN}, "<a>": {"id": SIZE + 1, **USUAL, "lstrip": True}}),
    },
    "additional special tokens": {
        CONFIG: config(),
        SPECIAL_MAP: {"cls_token": "[CLS]", "additional_special_tokens": ["<e1>", "[unused0]"]},
    },
    "special tokens of other kinds": {
        CONFIG: config(extra_special_tokens=["<e1>"], bos_token="[CLS]", eos_token="<eos>")
    },
    "special tokens with flags": {
        CONFIG: config(),
        SPECIAL_MAP: {"mask_token": {"content": "[MASK]", **USUAL, "normalized": True}},
    },
    "never split": {CONFIG: config(never_split=["[CLS]"], do_basic_tokenize=True, strip_accents=None)},
    "padding and truncation for its users": {
        CONFIG: config(model_max_length=16, truncation_side="left"),
        FAST: fast(truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}),
    },
}
NAMES = ["goo", "<url>", "Café", "café", "<user>", "bado", "<e1>", "<eos>", "<a>", "[unused0]", "[MASK]"]


def write(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for name, content in {"vocab.txt": "".join(f"{piece}\n" for piece in VOCABULARY), **files}.items():
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def completed(folder: Path, files: Files) -> Path:
    complete_tokenizer(write(folder, files), "stranger", {})
    return folder


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OBEYED)
def test_the_ids_are_those_of_auto_tokenizer(tmp_path: Path, name: str, count: int) -> None:
    """Before the files are completed, and afterwards: what an export carries says the same."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(write(tmp_path / "theirs", OBEYED[name]))
    base = completed(tmp_path / "base", OBEYED[name])
    again = transformers.AutoTokenizer.from_pretrained(base)
    ours, texts = Tokenizer.load(base), odd_texts(count, NAMES)
    for text, (ids, _) in zip(texts, ours.encode(texts, None, 2000, "right")[0], strict=True):
        assert ids == theirs(text)["input_ids"], ascii(text)
        assert ids == again(text)["input_ids"], ascii(text)
    assert {path.name for path in base.iterdir()} == {"config.json", "vocab.txt", CONFIG}


REFUSED: dict[str, tuple[Files, str]] = {
    "case contradicts": ({CONFIG: config(do_lower_case=False), FAST: fast()}, "do_lower_case False, but"),
    "accents contradict": ({CONFIG: config(strip_accents=True), FAST: fast()}, "strip_accents True, but"),
    "a null contradicts": (
        {CONFIG: config(strip_accents=None), FAST: fast(normalizer={"strip_accents": False})},
        "None, but",
    ),
    "other pieces": (
        {CONFIG: config(), "vocab.txt": "\n".join(reversed(VOCABULARY)), FAST: fast()},
        "different word pieces",
    ),
    "Japanese": ({CONFIG: config(tokenizer_class="BertJapaneseTokenizer")}, "tokenizer_class is 'BertJapanese"),
    "code": ({CONFIG: config(auto_map={"AutoTokenizer": ["x.Y", None]})}, "code of its own"),
    "no basic tokenizer": ({CONFIG: config(do_basic_tokenize=False)}, "do_basic_tokenize is False"),
    "never split": ({CONFIG: config(never_split=["abc"])}, "never_split names 'abc'"),
    "split special tokens": ({CONFIG: config(split_special_tokens=True)}, "split_special_tokens"),
    "padding side": ({CONFIG: config(padding_side="left")}, "padding_side is 'left'"),
    "padding side in tokenizer.json": (
        {CONFIG: config(), FAST: fast(padding={"direction": "Left"})},
        "pads on the left",
    ),
    "not a switch": ({CONFIG: config(strip_accents="no")}, "should be true or false"),
    "other special tokens": ({CONFIG: config(cls_token="<s>")}, "cls_token is '<s>'"),
    "other special tokens in the map": (
        {CONFIG: config(), SPECIAL_MAP: {"sep_token": {"content": "</s>"}}},
        "sep_token is",
    ),
    "no [MASK]": ({CONFIG: config(), "vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n"}, r"lacks \[MASK\]"),
    "another model": ({CONFIG: config(), FAST: fast(model={"type": "Unigram"})}, "no WordPiece"),
    "another prefix": (
        {CONFIG: config(), FAST: fast(model={"continuing_subword_prefix": "@"})},
        "continuing_subword_prefix '@'",
    ),
    "longer words": (
        {CONFIG: config(), FAST: fast(model={"max_input_chars_per_word": 200})},
        "max_input_chars_per_word 200",
    ),
    "no cleaning": ({CONFIG: config(), FAST: fast(normalizer={"clean_text": False})}, "clean_text False"),
    "another normalizer": ({CONFIG: config(), FAST: fast(normalizer={"type": "Sequence"})}, "type 'Sequence'"),
    "no normalizer": ({CONFIG: config(), FAST: fast(normalizer=None)}, "has no normalizer"),
    "another pre-tokenizer": (
        {CONFIG: config(), FAST: fast(pre_tokenizer={"type": "Whitespace"})},
        "type 'Whitespace'",
    ),
    "no post-processor": ({CONFIG: config(), FAST: fast(post_processor=None)}, "post_processor"),
    "another post-processor": ({CONFIG: config(), FAST: fast(post_processor={"single": []})}, "post_processor"),
    "ids with a gap": (
        {CONFIG: config(), FAST: fast({"<a>": {"id": SIZE + 7, **PLAIN}})},
        f"has the id {SIZE + 7}, not {SIZE}",
    ),
    "ids contradict": (
        {CONFIG: config(), ADDED: {"<a>": 3}, FAST: fast({"<a>": {"id": SIZE, **PLAIN}})},
        "the id 3, another",
    ),
    "flags contradict": (
        {CONFIG: config(added_tokens_decoder=ROWS), FAST: fast({**GREEDY, "goo": {"id": SIZE, **USUAL}})},
        "contradict each other",
    ),
    "an added token that is none": ({CONFIG: config(), ADDED: {"<a>": "7b"}}, "added token '7b'"),
    "flags of another type": ({CONFIG: config(), FAST: fast({"<a>": {"id": SIZE, "lstrip": 1}})}, "not true or false"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_obeyed_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    files, said = REFUSED[name]
    with pytest.raises(UserError, match=said) as caught:
        completed(tmp_path / "base", files)
    (problem,) = caught.value.problems
    assert problem.code == "C05" and problem.where == "stranger" and str(problem).isprintable()


def test_a_class_in_config_json_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"C05.*BertJapaneseTokenizer"):
        complete_tokenizer(write(tmp_path, {CONFIG: {}}), "stranger", {"tokenizer_class": "BertJapaneseTokenizer"})


@pytest.mark.parametrize("files", [{CONFIG: config(model_max_length=512)}, {CONFIG: config(), FAST: fast()}])
def test_a_file_that_says_everything_stays_as_it_is(tmp_path: Path, files: Files) -> None:
    said = json.dumps(files[CONFIG])
    base = completed(tmp_path, files)
    assert (base / CONFIG).read_text() == said


def test_the_identity_of_a_tokenizer_covers_its_settings(tmp_path: Path) -> None:
    """Tokens made with other settings do not fit a model; for the usual settings it is that of vocab.txt."""
    identities = {
        name: Tokenizer.load(completed(tmp_path / str(number), files)).sha256
        for number, (name, files) in enumerate(OBEYED.items())
    }
    assert identities["uncased"] == identities["cased"] == identities["never split"]
    assert identities["tokenizer.json alone"] == identities["accents are kept"]
    for name in ("accents are kept", "no spaces around Chinese", "single words", "special tokens with flags"):
        assert list(identities.values()).count(identities[name]) <= 3 and identities[name] != identities["uncased"]
