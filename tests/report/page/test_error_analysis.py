"""Kinds of text, their scores, and the worst rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from yourbert.report.page.error_analysis import DevRows, mean_loss, slice_scores, slices


def test_kinds_of_text() -> None:
    texts = [["good film"], ["it isn't good"], ["not bad, but long " + "word " * 30], ["seen seen"]]
    found = {
        name.split(" (")[0]: mask.tolist() for name, mask in slices(texts, Counter(["good", "good", "seen", "seen"]))
    }
    assert found["with a negation"] == [False, True, True, False]
    assert found["with a contrast"] == [False, False, True, False]
    assert found["with a word that is rare in train"] == [True, True, True, False]
    assert found["short"] == [True, False, False, True]
    pairs = dict(slices([["a b c", "a b c"], ["a b", "x y"], ["a b", "a y"]], Counter()))
    (few,) = [mask.tolist() for name, mask in pairs.items() if name.startswith("few words")]
    assert few == [False, True, False]


def run_predictions(**given: Any) -> Any:
    from yourbert.report.load import RunPredictions

    facts = {"ids": ("x",), "scores": (0.5,), "status": "", "probabilities_SRC": None}
    return RunPredictions(**{**facts, **given})


def test_a_slices_score_is_that_of_its_rows() -> None:
    from tests.support import tiny

    labels_R = np.array([0, 1] * 20)
    predicted_SR = np.stack([np.where(np.arange(40) < 20, labels_R, 1 - labels_R)] * 2)
    mask_R = np.arange(40) < 20
    few_R = np.arange(40) < 5
    rows = DevRows([["x"]] * 40, {"easy": mask_R, "few": few_R})
    task = tiny.task(labels=("no", "yes"))
    (one,) = slice_scores(task, rows, run_predictions(predicted_SR=predicted_SR, labels_R=labels_R), 100, 0.95)
    assert (one.name, one.rows, one.score, one.rest) == ("easy", 20, 1.0, 0.0)


def test_the_worst_rows_are_those_whose_label_was_least_likely() -> None:
    from tests.support import tiny

    task = tiny.task(labels=("no", "yes"))
    probabilities_SRC = np.array([[[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]]])
    ours = run_predictions(
        predicted_SR=np.array([[0, 1, 0]]), labels_R=np.array([1, 1, 1]), probabilities_SRC=probabilities_SRC
    )
    assert np.argsort(-mean_loss(task, ours)).tolist() == [0, 2, 1]
    similarity = tiny.task("sim", "similarity")
    off = mean_loss(similarity, run_predictions(predicted_SR=np.array([[1.0, 4.0]]), labels_R=np.array([1.5, 1.0])))
    assert off.tolist() == [0.5, 3.0]
