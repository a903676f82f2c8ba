"""What others do with the tasks' gradients, or put on top of the encoder, is what it says, and trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import yourbert.finetuning.finetune
from benchmarks.switches import off
from benchmarks.techniques import LAYER_RATE, SHAPES, STEPPERS, WINDOW, DynamicAverage, Uncertainty, surgery, tried
from tests.support import tiny
from tests.tokens.test_tokenizer import write_base
from yourbert.inference.model_folder import load_model, save_model
from yourbert.inference.predict import predict
from yourbert.training.checkpoint import Resume
from yourbert.training.graph.graph_step import stepper_for
from yourbert.training.loop import train

TASKS = [tiny.tokens(tiny.task("mood")), tiny.tokens(tiny.task("same"))]
SETTINGS = tiny.training(epochs=2, dropout=0.0, head_dropout=0.0, lr=1e-2)


def learnt(technique: str, folder: Path, sampling: str = "joint") -> tuple[Any, dict[str, Any]]:
    """A model trained by a technique, as `finetune` trains it, and what that noted."""
    with tried(technique) as noted:
        made = tiny.learner(TASKS, SETTINGS, sampling=sampling)
        stepper = yourbert.finetuning.finetune.stepper_for(made, made.machine)
        with Resume(folder / "resume", 1e9) as resume:
            train(technique, made, SETTINGS, resume, stepper)
    return made, noted


def test_gradients_taken_apart_and_added_are_what_they_were(tmp_path: Path) -> None:
    with off("fused"):
        plain, nothing = learnt("", tmp_path / "plain")
    apart, noted = learnt("sum", tmp_path / "apart")
    for one, other in zip(plain.model.parameters(), apart.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert not nothing and noted["cosines"].keys() == {"mood, same"} and -1 < noted["cosines"]["mood, same"] < 1
    assert yourbert.finetuning.finetune.stepper_for is stepper_for, "put back"


@pytest.mark.parametrize("technique", [*STEPPERS, *SHAPES])
def test_each_of_them_learns(technique: str, tmp_path: Path) -> None:
    made, _ = learnt(technique, tmp_path)
    with tried(technique):
        untrained = tiny.learner(TASKS, SETTINGS, sampling="joint")
        for one in (untrained, made):
            one.model.eval()
        before, after = untrained.evaluate(), made.evaluate()
        assert sum(after.values()) > sum(before.values()) + 0.2, (before, after)
        tasks = {name: one.task for name, one in made.tokens.items()}
        save_model(tmp_path / "model", made.model, tasks, write_base(tmp_path / "base"), {"run": "x", "seed": 1})
        loaded, _ = load_model(tmp_path / "model", made.machine)
        split = made.tokens["mood"].splits["dev"]
        said = [predict(model.eval(), "mood", split, made.machine) for model in (made.model, loaded)]
    assert (said[0] == said[1]).all()


def test_a_learnt_mean_begins_as_the_mean() -> None:
    said = []
    for technique in ("", "attention pooling"):
        with tried(technique):
            made = tiny.learner(TASKS, tiny.training(pooling="mean"))
            said.append(torch.as_tensor(predict(made.model.eval(), "mood", TASKS[0].splits["dev"], made.machine)))
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)


def test_the_encoder_waits_for_the_heads(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    with tried("heads first"):
        made = tiny.learner(TASKS, tiny.training(epochs=20, lr=1e-2), sampling="joint")
        before = {name: p.detach().clone() for name, p in made.model.named_parameters()}

        def after_a_tenth(run: Any) -> Any:
            stepper = made_by(run)
            take = stepper.step

            def step() -> tuple[int, int]:
                if stepper._step + 1 > 0.1 * run.steps:
                    raise Ended
                return take()  # type: ignore[no-any-return]

            stepper.step = step
            return stepper

        made_by = yourbert.finetuning.finetune.stepper_for(made, made.machine)
        with pytest.raises(Ended), Resume(tmp_path / "resume", 1e9) as resume:
            train("x", made, made.settings, resume, after_a_tenth)
    moved = {name for name, p in made.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("heads.") for name in moved)


OPPOSED = torch.tensor([[1.0, 1.0], [-3.0, 0.0]])
LOSSES = torch.tensor([1.0, 0.1])


def test_surgery_leaves_no_task_worse() -> None:
    pytest.importorskip("torchjd", reason="torchjd is an extra: pip install -e .[bench]")
    assert (OPPOSED @ OPPOSED.sum(0)).min() < 0
    for name in ("PCGrad", "MGDA"):
        assert (OPPOSED @ surgery(name)(OPPOSED, LOSSES)).min() > -1e-4, name


def test_uncertainty_raises_the_task_whose_loss_is_small() -> None:
    combine = Uncertainty()
    first = combine(torch.eye(2), LOSSES)
    for _ in range(200):
        weights = combine(torch.eye(2), LOSSES)
    torch.testing.assert_close(first, torch.ones(2))
    assert weights[1] > 5 * weights[0] and weights[0] == pytest.approx(1, abs=0.05)


def test_the_dynamic_average_raises_the_task_that_stands_still() -> None:
    combine = DynamicAverage()
    falling = torch.linspace(1.0, 0.1, 3 * WINDOW)

    def weights(loss: float) -> Tensor:
        return combine(torch.eye(2), torch.tensor([loss, 1.0]))

    for step, loss in enumerate(falling.tolist()):
        last = weights(loss)
        if step < 2 * WINDOW:
            torch.testing.assert_close(last, torch.ones(2))
    assert last[1] > last[0] and last.sum() == pytest.approx(2)


def test_a_lower_layer_moves_less(tmp_path: Path) -> None:
    """AdamW's first step moves a weight by its rate, however large the gradient."""
    with tried("layer rates"):
        settings = tiny.training(epochs=1, dropout=0.0, head_dropout=0.0, lr=1e-3, warmup=0.0, weight_decay=0.0)
        made = tiny.learner(TASKS[:1], settings)
        before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
        stepper_by = yourbert.finetuning.finetune.stepper_for(made, made.machine)
        moved: dict[str, float] = {}

        def noting(run: Any) -> Any:
            stepper = stepper_by(run)
            take = stepper.step

            def step() -> tuple[int, int]:
                taken = take()
                if not moved:
                    moved.update({n: float((p - before[n]).detach().abs().max()) for n, p in run.learning.items()})
                return taken  # type: ignore[no-any-return]

            stepper.step = step
            return stepper

        with Resume(tmp_path / "resume", 1e9) as resume:
            train("x", made, settings, resume, noting)
    for part, depth in (("embeddings.word", 0), ("layers.0.qkv.weight", 1), ("layers.1.qkv.weight", 2)):
        moves = [move for name, move in moved.items() if name.startswith(f"encoder.{part}")]
        assert moves == [pytest.approx(1e-3 * LAYER_RATE ** (3 - depth), rel=0.01)], part
    heads = [move for name, move in moved.items() if name.startswith("heads.")]
    assert max(heads) == pytest.approx(1e-3, rel=0.01)
