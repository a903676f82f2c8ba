"""`yourbert explain`: the weights add up to the score, are of whole words, and rank the decisive word first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.deploy.test_batch import Command, yourbert  # noqa: F401 - a fixture
from tests.support.predicting import DATA, TASKS, saved
from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError
from yourbert.deploy.batch import open_explainer
from yourbert.evaluation import explain
from yourbert.evaluation.explain import format_explanation
from yourbert.model.multitask import Model
from yourbert.runtime.machine import prepare

MACHINE = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
ROWS = {"mood": ["good film was very bad"], "sim": ["good film", "very bad film"], "same": ["good film", "bad"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("explain"), TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_the_weights_add_up_to_the_score(folder: Path, name: str) -> None:
    """Of each text of a pair, beside the other; every kind of head."""
    found = open_explainer(folder, name, MACHINE).explain(ROWS[name])
    assert len(found.empty) == len(ROWS[name])
    for number, empty in enumerate(found.empty):
        own = sum(word.weight for word in found.words if word.number == number)
        assert found.score == pytest.approx(empty + own, abs=max(1e-4, 0.02 * abs(found.score - empty)))
    assert found.gap < 0.02 * max(1.0, abs(found.score))


@pytest.mark.parametrize("name", TASKS)
def test_a_long_text_is_integrated_in_parts(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same weights; a text of 512 word pieces took 13 GB when all points were read at once."""
    explainer = open_explainer(folder, name, MACHINE)
    whole = explainer.explain(ROWS[name])
    monkeypatch.setattr(explain, "TOKENS_AT_ONCE", 50)
    parts = explainer.explain(ROWS[name])
    assert [w.weight for w in parts.words] == pytest.approx([w.weight for w in whole.words], rel=1e-3, abs=1e-5)


def test_word_pieces_are_joined_to_words_in_order(folder: Path) -> None:
    found = open_explainer(folder, "mood", MACHINE).explain(["notgoodly film"])
    assert "".join(word.text for word in found.words) == "notgoodlyfilm"
    pair = open_explainer(folder, "sim", MACHINE).explain(ROWS["sim"])
    assert [(word.text, word.number) for word in pair.words][:3] == [("good", 0), ("film", 0), ("very", 1)]


def test_the_decisive_word_has_the_largest_weight(folder: Path) -> None:
    """A model that looks at nothing but the embedding of one word, along one direction."""
    explainer = open_explainer(folder, "mood", MACHINE)
    model: Model = explainer.model
    bad = explainer.tokenizer.tokens(range(explainer.tokenizer.vocabulary_size)).index("bad")
    with torch.no_grad():
        for layer in model.encoder.layers:
            for linear in (layer.attention_out, layer.narrow):
                linear.weight.zero_()
                linear.bias.zero_()
        model.encoder.embeddings.word[bad] += 5 * torch.sign(model.heads["mood"].linear.weight[0])
        model.encoder.embeddings.position.zero_()
    found = explainer.explain(["good film was very bad a b c"])
    assert found.answer == DATA["mood"].labels[0] and max(found.words, key=lambda word: word.weight).text == "bad"
    assert found.without_first < found.without_random, "and leaving it out changes most"


def test_the_command(folder: Path, yourbert: Command) -> None:  # noqa: F811
    status, printed, _ = yourbert("explain", folder, "good film", "--task", "mood", "--json")
    found = json.loads(printed)
    assert status == 0 and [word["text"] for word in found["words"]] == ["good", "film"]
    status, printed, _ = yourbert("explain", folder, "good film", "bad", "--task", "sim")
    assert status == 0 and printed.startswith("answer: ") and "text 2" in printed and "random words" in printed


@pytest.mark.parametrize(
    ("texts", "task", "says"),
    [
        (["a"], "sim", "I04.*reads two texts, not 1"),
        (["a", "b"], "mood", "I04.*one text"),
        ([" "], "mood", "I01"),
        (["\udcff"], "mood", "D08"),
    ],
)
def test_invalid_texts_are_refused(folder: Path, texts: list[str], task: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_explainer(folder, task, MACHINE).explain(texts)


def test_a_text_of_one_unknown_word(folder: Path) -> None:
    found = open_explainer(folder, "mood", MACHINE).explain(["\u2603"])
    assert len(found.words) == 1 and format_explanation(found)
