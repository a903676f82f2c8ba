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
    explanation = open_explainer(folder, name, MACHINE).explain(ROWS[name])
    assert len(explanation.baseline_scores) == len(ROWS[name])
    for number, empty in enumerate(explanation.baseline_scores):
        own = sum(word.weight for word in explanation.words if word.number == number)
        assert explanation.score == pytest.approx(empty + own, abs=max(1e-4, 0.02 * abs(explanation.score - empty)))
    assert explanation.completeness_gap < 0.02 * max(1.0, abs(explanation.score))


@pytest.mark.parametrize("name", TASKS)
def test_a_long_text_is_integrated_in_parts(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same weights; a text of 512 word pieces took 13 GB when all points were read at once."""
    explainer = open_explainer(folder, name, MACHINE)
    whole = explainer.explain(ROWS[name])
    monkeypatch.setattr(explain, "TOKENS_AT_ONCE", 50)
    parts = explainer.explain(ROWS[name])
    assert [w.weight for w in parts.words] == pytest.approx([w.weight for w in whole.words], rel=1e-3, abs=1e-5)


def test_word_pieces_are_joined_to_words_in_order(folder: Path) -> None:
    explanation = open_explainer(folder, "mood", MACHINE).explain(["notgoodly film"])
    assert "".join(word.text for word in explanation.words) == "notgoodlyfilm"
    pair = open_explainer(folder, "sim", MACHINE).explain(ROWS["sim"])
    assert [(word.text, word.number) for word in pair.words][:3] == [("good", 0), ("film", 0), ("very", 1)]


def test_the_decisive_word_has_the_largest_weight(folder: Path) -> None:
    """A model that looks at nothing but the embedding of one word, along one direction."""
    explainer = open_explainer(folder, "mood", MACHINE)
    model: Model = explainer.model
    bad = explainer.tokenizer.tokens(range(explainer.tokenizer.vocabulary_size)).index("bad")
    with torch.no_grad():
        for layer in model.encoder.layers:
            for linear in (layer.attention_out, layer.output):
                linear.weight.zero_()
                linear.bias.zero_()
        model.encoder.embeddings.word[bad] += 5 * torch.sign(model.heads["mood"].linear.weight[0])
        model.encoder.embeddings.position.zero_()
    explanation = explainer.explain(["good film was very bad a b c"])
    assert (
        explanation.prediction == DATA["mood"].labels[0]
        and max(explanation.words, key=lambda word: word.weight).text == "bad"
    )
    assert explanation.score_without_top < explanation.score_without_random, "and leaving it out changes most"


def test_the_command(folder: Path, yourbert: Command) -> None:  # noqa: F811
    status, stdout, _ = yourbert("explain", folder, "good film", "--task", "mood", "--json")
    explanation = json.loads(stdout)
    assert status == 0 and [word["text"] for word in explanation["words"]] == ["good", "film"]
    status, stdout, _ = yourbert("explain", folder, "good film", "bad", "--task", "sim")
    assert status == 0 and stdout.startswith("prediction: ") and "text 2" in stdout and "random words" in stdout


@pytest.mark.parametrize(
    ("texts", "task", "message"),
    [
        (["a"], "sim", "I04.*reads two texts, not 1"),
        (["a", "b"], "mood", "I04.*one text"),
        ([" "], "mood", "I01"),
        (["\udcff"], "mood", "D08"),
    ],
)
def test_invalid_texts_are_refused(folder: Path, texts: list[str], task: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_explainer(folder, task, MACHINE).explain(texts)


def test_a_text_of_one_unknown_word(folder: Path) -> None:
    explanation = open_explainer(folder, "mood", MACHINE).explain(["\u2603"])
    assert len(explanation.words) == 1 and format_explanation(explanation)
