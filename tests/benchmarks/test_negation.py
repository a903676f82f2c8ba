"""What a negation reaches is marked, and nothing else in a text is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.negation import marked
from benchmarks.techniques import tried
from tests.tokens.test_tokenizer import write_base
from yourbert.config.params import read_params
from yourbert.core.storage import read_array
from yourbert.report.page.error_analysis import is_negated
from yourbert.tokens.tokenize_task import tokenize_task

ROOT = Path(__file__).parents[2]
WORDS = ["not", "never", "n't", "Without", "good", "film", ",", ".", "--", "but", "lacks", "( ", ")", "\n", "nothing"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not good at all , but fine .", "not { good at all } , but fine ."),
        ("it does n't work without effort", "it does n't { work without effort }"),
        ("Nobody likes it though it isn't. Bad", "Nobody { likes it } though it isn't. Bad"),
        ("a knot in nothing", "a knot in nothing"),
        ("a fine film", "a fine film"),
    ],
)
def test_a_scope_ends_with_its_clause(text: str, told: str) -> None:
    assert " ".join(marked(text).split()) == told and is_negated([text]) == ("fine film" not in text)


@given(st.lists(st.sampled_from(WORDS)))
def test_only_braces_are_added(words: list[str]) -> None:
    text = " ".join(words)
    told = marked(text)
    assert told.replace("{", "").replace("}", "").split() == text.split()
    assert told.count("{") == told.count("}") and "{ }" not in " ".join(told.split())
    assert is_negated([text]) or told == text


def test_the_tokenizer_reads_the_marks(tmp_path: Path) -> None:
    data = read_params(ROOT / "params.yaml").tasks["sst"].data.model_copy(update={"max_length": 32})
    for name in (data.train, data.dev):
        rows = [f"{n}\ta film without good film\t{n % 2}" for n in range(4)]
        (tmp_path / name).write_text("\n".join(["id\tsentence\tsentiment", *rows]) + "\n")
    base = write_base(tmp_path / "base")
    lengths = []
    for technique in ("", "scopes marked"):
        with tried(technique):
            tokenize_task("sst", data, tmp_path, base, tmp_path / f"tokens{technique}")
        lengths.append(len(read_array(next((tmp_path / f"tokens{technique}" / "dev").glob("tokens*")))))
    assert lengths[1] == lengths[0] + 4 * 2
