"""Whatever stands in a file, its reader makes sense of it or says in one line why not; nothing else ever comes out.

The properties of single readers stand beside their other tests; here each reader meets bytes that nobody wrote for it,
and good files with something else in one place.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.corpus.test_rows import similarity, task
from tests.support import tiny
from tests.support.closure import ROOT
from tests.support.odd_texts import odd_texts
from tests.support.stock_models import FAST, FILES, PIECES, SPECIAL, TENSORS
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.core.storage import read_array, read_json, read_tensors, write_json, write_manifest
from yourbert.corpus.rows import SplitRows, check_file
from yourbert.deploy.inputs import open_input
from yourbert.doctor.state import state_troubles
from yourbert.download.mirrors import fetch_model
from yourbert.download.tokenizer_files import PAIR
from yourbert.download.wheel import unpack
from yourbert.evaluation.predictions import read_predictions
from yourbert.inference.model_folder import load_model, save_model
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder, random_encoder
from yourbert.tokens.packing import open_tokens
from yourbert.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.integration

ODD = odd_texts(20, ["<a>", "good", "[MASK]"])
COUNTS = [500, pytest.param(10_000, marks=pytest.mark.slow)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TABLE_TEXT = st.text(st.sampled_from("ab01.-\t,;\"'\r\n\0\ufeff\u2028\u202e é{}[]:"), max_size=200)
BYTES = (
    st.binary(max_size=200) | TABLE_TEXT.map(str.encode) | TABLE_TEXT.map(lambda t: gzip.compress(t.encode(), mtime=0))
)


def each(count: int, kinds: int) -> int:
    """Examples for each of several kinds: all of them in the slow suite, their share of the others."""
    return count if count >= 10_000 else count // kinds + 1


def holds(count: int, strategy: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    quiet = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    quiet(given(strategy)(check))()


@contextmanager
def only_a_users_error() -> Iterator[None]:
    """What the block raises has a line for every problem, printable and without its traceback."""
    try:
        yield
    except UserError as error:
        assert all(line.isprintable() and line.startswith("YB-") for line in map(str, error.problems)), str(error)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.jsonl", "t.csv.gz", "t.jsonl.gz", "t.parquet"])
def test_tables(tmp_path: Path, name: str, count: int) -> None:
    path, label = tmp_path / name, "label"

    def check(content: bytes) -> None:
        path.write_bytes(b"id\ttext\tlabel\n" + content if len(content) % 2 else content)
        for data in (task(label=label), similarity()):
            found = check_file(path, "t", data, "train")
            assert all(problem.code[0] == "D" and str(problem).isprintable() for problem in found)

    holds(each(count, 6), BYTES, check)


CELLS = st.text(max_size=12) | st.integers() | st.floats() | st.booleans() | st.none() | st.dates() | st.decimals()
ANY_CELLS = CELLS | st.binary(max_size=8) | st.lists(st.integers(), max_size=2) | JSON
LABEL = st.sampled_from(["0", "1", "2", 0, 1.0, True, None, "nan", "three", "\u0661"]) | ANY_CELLS
NAMES = ("id", "text", "label")


def write_table(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """Writes a table as a program would: every cell quoted where its form needs it."""
    if path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(NAMES, row, strict=True)), default=str) + "\n" for row in rows)
    elif path.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = dict(zip(NAMES, zip(*rows, strict=True), strict=True))
        try:
            pq.write_table(pa.table({name: pa.array(cells) for name, cells in columns.items()}), path)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):  # a column of parquet has one type
            pq.write_table(pa.table({name: pa.array(list(map(str, cells))) for name, cells in columns.items()}), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([NAMES, *rows])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.jsonl", "t.parquet"])
def test_of_the_rows_of_a_table_none_is_lost(tmp_path: Path, name: str, count: int) -> None:
    """Every row is used or rejected, and predicted or refused."""
    path = tmp_path / name
    asked = tiny.task("mood", columns=("text",), id_column="id")

    def check(rows: list[tuple[Any, ...]]) -> None:
        rows = [(number, *row) for number, row in enumerate(rows)]
        write_table(path, rows)
        for data in (task(on_invalid_row="drop"), task(on_invalid_row="drop", id=None)):
            found = SplitRows(path, "t", data, "train")
            with only_a_users_error():
                list(found)
            assert found.counts.rows_read == found.counts.rows_used + found.counts.rejected.total() == len(rows)
        with only_a_users_error():
            assert len(list(open_input(str(path), asked, (), None, io.BytesIO()))) == len(rows)

    row = st.tuples(ANY_CELLS.filter(storable), LABEL.filter(storable))
    holds(each(count, 4), st.lists(row, min_size=1, max_size=6), check)


def storable(cell: Any) -> bool:
    """Whether a cell can be written to every kind of table: as UTF-8, without NUL and CR, which csv cannot keep."""
    text = str(cell)
    return not any("\ud800" <= c <= "\udfff" for c in text) and "\0" not in text and "\r" not in text


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.jsonl"])
def test_what_predict_reads(tmp_path: Path, name: str, count: int) -> None:
    path, pairs = tmp_path / name, tiny.task("sim", "similarity", columns=("text", "label"))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with only_a_users_error():
            for _ in open_input(str(path), pairs, (), None, io.BytesIO()):
                pass

    holds(each(count, 3), BYTES, check)


SHIPPED = (ROOT / "params.yaml").read_text().splitlines()


@pytest.mark.parametrize("count", COUNTS)
def test_params(tmp_path: Path, count: int) -> None:
    """Any text, and the shipped file with one line another one."""
    path = tmp_path / "params.yaml"
    scalar = st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
    scalar |= st.sampled_from(["!!python/name:os", "&a", "*a", "[", "{}", "[]", "|", "? x", "null", "'1'", "- 1"])
    line = st.tuples(st.integers(0, len(SHIPPED) - 1), scalar, st.booleans())

    def changed(one: tuple[int, str, bool]) -> str:
        at, value, keeps_key = one
        key = SHIPPED[at].partition(":")[0] + ": " if keeps_key else ""
        return "\n".join([*SHIPPED[:at], key + value, *SHIPPED[at + 1 :]])

    def check(text: str) -> None:
        path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
        with only_a_users_error():
            read_params(path)

    holds(count, st.text(max_size=60) | line.map(changed), check)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places_in(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places_in(inner, (*path, index))


def with_another(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_another(value[path[0]], path[1:], other)
    return copy


SETTINGS = {
    "tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False,
    "padding_side": "right", "never_split": ["[CLS]"], "added_tokens_decoder": {"6": {"content": "<a>", **SPECIAL}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of ours, small and whole."""
    place = tmp_path_factory.mktemp("fuzz")
    base = place / "base"
    base.mkdir()
    (base / "vocab.txt").write_text("".join(f"{t}\n" for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")))
    write_json(base / "tokenizer_config.json", SETTINGS)
    rng = torch.Generator().manual_seed(1)
    tasks = {"mood": tiny.task(), "sim": tiny.task("sim", "similarity")}
    model = Model(random_encoder(tiny.CONFIG, rng), tasks.values(), "mean", 0.1, rng)
    save_model(place / "model", model, tasks, base, {"seed": 1})
    return place / "model"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["model.json", "config.json", "tokenizer_config.json", "manifest.json"])
def test_the_facts_of_a_model(folder: Path, name: str, count: int) -> None:
    """One value another one, with a manifest that fits, as a hand that meant it would leave it."""
    whole = (folder / name).read_bytes()
    facts = json.loads(whole)

    def check(change: tuple[tuple[Any, ...], Any]) -> None:
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(with_another(facts, *change)), encoding="utf-8", errors="surrogatepass")
        if name != "manifest.json":
            write_manifest(folder)
        with only_a_users_error():
            load_model(folder, tiny.MACHINE)
        with only_a_users_error():
            Tokenizer.load(folder).encode(ODD, None, 99, "right")

    try:
        holds(each(count, 4), st.tuples(st.sampled_from([*places_in(facts)]), JSON), check)
    finally:
        (folder / name).write_bytes(whole)
        write_manifest(folder)


ADDED = [*FAST["added_tokens"], {"content": "good", "id": PIECES.index("good"), **SPECIAL}]
TEMPLATE = {
    "type": "TemplateProcessing", "single": PAIR[:3], "pair": PAIR,
    "special_tokens": {t: {"id": t, "ids": [PIECES.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
}  # fmt: skip
STRANGERS: dict[str, Any] = {
    "config.json": {**json.loads(FILES["config.json"]), "vocab_size": len(PIECES), "tokenizer_class": "BertTokenizer"},
    "tokenizer_config.json": {**SETTINGS, "do_lower_case": False, "cls_token": {"content": "[CLS]"},
                              "added_tokens_decoder": {"5": {"content": "good", **SPECIAL, "normalized": True}}},
    "tokenizer.json": {**FAST, "added_tokens": ADDED, "padding": {"direction": "Right"}, "post_processor": TEMPLATE},
    "special_tokens_map.json": {"cls_token": "[CLS]", "additional_special_tokens": ["good"], "eos_token": "[SEP]"},
    "added_tokens.json": {"good": 5, "[MASK]": 4},
    "modules.json": [{"path": "0_BERT", "type": "x.Transformer"}],
    "model.safetensors.index.json": {"weight_map": dict.fromkeys(TENSORS, "a.safetensors")},
}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [*STRANGERS, "vocab.txt", "model.safetensors"])
def test_a_strangers_checkpoint(tmp_path: Path, name: str, count: int) -> None:
    """It is refused in one line, or every later stage can work with what `download` made of it."""
    place = tmp_path / "mine"
    for file, content in FILES.items():
        (place / "0_BERT" / file).parent.mkdir(parents=True, exist_ok=True)
        (place / "0_BERT" / file).write_bytes(content)
        (place / file).write_bytes(content)
    if name == "model.safetensors.index.json":
        (place / "model.safetensors").rename(place / "a.safetensors")
    if name == "modules.json":
        (place / "config.json").unlink()
    if name == "tokenizer.json":
        (place / "vocab.txt").unlink()
        (place / "tokenizer_config.json").unlink()

    def use(content: bytes) -> None:
        (place / name).write_bytes(content)
        with tempfile.TemporaryDirectory(dir=tmp_path) as work:
            base = Path(work) / "base"
            fetch_model(str(place), base, tmp_path / "cache")
            size = load_encoder(base, 0.0, torch.Generator()).encoder.config.vocab_size
            tokenizer = Tokenizer.load(base)
            ids = [i for (one, _) in tokenizer.encode(ODD, None, 99, "right")[0] for i in one]
            assert max(ids) < tokenizer.vocabulary_size <= size

    def check(content: bytes) -> None:
        with only_a_users_error():
            use(content)

    if name in STRANGERS:
        whole = STRANGERS[name]
        use(json.dumps(whole).encode())
        changed = st.tuples(st.sampled_from([*places_in(whole)]), JSON).map(lambda change: with_another(whole, *change))
        contents = changed.map(lambda value: json.dumps(value).encode(errors="surrogatepass")) | BYTES
    else:
        edits = st.tuples(st.integers(0, len(FILES[name])), st.binary(max_size=3), st.integers(0, 3))
        contents = BYTES | edits.map(lambda e: FILES[name][: e[0]] + e[1] + FILES[name][e[0] + e[2] :])
    holds(each(count, 9), contents, check)


@pytest.mark.parametrize("count", COUNTS)
def test_weights_of_any_header(tmp_path: Path, count: int) -> None:
    write_json(tmp_path / "config.json", tiny.CONFIG.to_json())
    tensor = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "I64", "BOOL", "F8_E4M3", "X"]),
            "shape": st.lists(st.integers(-1, 2**64), max_size=3),
            "data_offsets": st.lists(st.integers(0, 2**64), max_size=3),
        }
    )
    header = (st.dictionaries(st.text(max_size=8), tensor, max_size=3) | JSON).map(lambda h: json.dumps(h).encode())
    content = st.tuples(header | st.binary(max_size=64), st.binary(max_size=64)).map(
        lambda both: struct.pack("<Q", len(both[0])) + both[0] + both[1]
    )

    def check(content: bytes) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        with only_a_users_error():
            read_tensors(tmp_path / "model.safetensors")
        with only_a_users_error():
            load_encoder(tmp_path, 0.0, torch.Generator())

    holds(count, content | st.binary(max_size=100), check)


@pytest.mark.parametrize("count", COUNTS)
def test_json_arrays_and_predictions(tmp_path: Path, count: int) -> None:
    described, path = tiny.task(), tmp_path / "any"
    rows = st.lists(st.lists(st.sampled_from(["bad", "good", "0.5", "nan", "", "x"]), max_size=7), max_size=4)
    table = rows.map(lambda rows: "id,label,prediction,p_bad,p_fair,p_good\n" + "\n".join(map(",".join, rows)))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        for read in (read_json, read_array, lambda p: read_predictions(p, described)):
            with only_a_users_error():
                read(path)

    arrays = st.binary(max_size=80).map(lambda tail: b"\x93NUMPY\x01\x00" + tail)
    holds(count, BYTES | arrays | table.map(str.encode) | JSON.map(lambda v: json.dumps(v).encode()), check)


@pytest.mark.parametrize("count", COUNTS)
def test_the_facts_of_tokens(tmp_path: Path, count: int) -> None:
    facts = tiny.task().to_json() | {"vocabulary_sha256": "x", "lower_case": True}

    def check(change: tuple[tuple[Any, ...], Any]) -> None:
        text = json.dumps(with_another(json.loads(json.dumps(facts)), *change))
        (tmp_path / "task.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        with only_a_users_error():
            open_tokens(tmp_path)

    holds(count, st.tuples(st.sampled_from([*places_in(json.loads(json.dumps(facts)))]), JSON), check)


@pytest.mark.parametrize("count", COUNTS)
def test_archives(tmp_path: Path, count: int) -> None:
    def check(content: bytes) -> None:
        (tmp_path / "x.whl").write_bytes(content)
        with only_a_users_error(), tempfile.TemporaryDirectory(dir=tmp_path) as place:
            unpack(tmp_path / "x.whl", {"model/config.json": 1000}, Path(place))

    holds(
        count, st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"PK\x03\x04" + b + b"PK\x05\x06"), check
    )


@pytest.mark.parametrize("count", COUNTS)
def test_what_the_doctor_looks_at(tmp_path: Path, count: int) -> None:
    """DVC's own files, of any content, are whole or a trouble with a name."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)

    def check(content: bytes) -> None:
        for place in (".dvc/tmp/rwlock", "dvc.lock"):
            (tmp_path / place).write_bytes(content)
        assert all(str(trouble).isprintable() for trouble in state_troubles(tmp_path))

    holds(each(count, 5), BYTES | JSON.map(lambda value: json.dumps(value).encode()), check)
