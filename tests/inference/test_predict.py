"""Predictions are in the order of the rows, and equal on every device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.conftest import TASKS
from tests.support import tiny
from tests.support.gpu import machine_of, on_a_gpu
from yourbert.inference.model_folder import place_model
from yourbert.inference.predict import predict, to_device
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.tokens.batching import gather


def test_order_of_rows_does_not_matter(saved: tuple[Model, Path]) -> None:
    model, _ = saved
    split = tiny.split(TASKS["mood"], 40, 5)
    together = predict(model, "mood", split, tiny.MACHINE)
    for row in (0, 17, 39):
        alone = model("mood", to_device(gather(split, np.array([row])), tiny.MACHINE), None)
        np.testing.assert_allclose(model.heads["mood"].predict(alone).detach().numpy()[0], together[row], atol=1e-5)


@on_a_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("auto", 0.03)])
@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_gpu_and_cpu_predictions_agree(precision: str, tolerance: float, encoding: str) -> None:
    task = tiny.task("sim", "similarity", encoding=encoding)
    split, answers = tiny.split(task, 64, 3), []
    for machine in (tiny.MACHINE, machine_of(precision=precision)):
        encoder = random_encoder(tiny.CONFIG, torch.Generator().manual_seed(1))
        model = place_model(Model(encoder, [task], "cls", 0.0, torch.Generator().manual_seed(2)), machine).eval()
        answers.append(predict(model, task.name, split, machine))
    np.testing.assert_allclose(answers[1], answers[0], atol=5 * tolerance)
