"""The losses of a step: dropout seeds, micro-batches, and the weights that they train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import tiny
from tests.support.interrupted import CutOff, Interrupted, interrupted, mood, pair_of_tasks, run
from tests.support.tiny import same, weights
from yourbert.config.schema import Training
from yourbert.core.errors import UserError
from yourbert.evaluation.metrics import score
from yourbert.inference.predict import predict
from yourbert.tokens.batching import Batch
from yourbert.tokens.packing import used_token_ids
from yourbert.training.optimizer import decay_after


def test_a_restricted_table_loses_nothing_when_training_raises() -> None:
    learner = mood()
    embeddings = learner.model.encoder.embeddings
    before = embeddings.word.detach().clone()
    with pytest.raises(CutOff), embeddings.restricted(np.array([2, 10, 11])), torch.no_grad():
        embeddings.word[2] += 1  # of [PAD], 2, 10 and 11 the third
        raise CutOff
    moved = torch.zeros(tiny.VOCABULARY, dtype=torch.bool)
    moved[10] = True
    assert torch.equal(embeddings.word.detach(), before + moved[:, None])
    assert embeddings.restriction is None and embeddings.word.requires_grad


def test_a_limited_task_reads_other_rows_in_each_epoch() -> None:
    learner = pair_of_tasks(tiny.training(epochs=3), max_examples_per_task=32)
    numbers = [
        batch for epoch in range(3) for step in learner.schedule(epoch) for name, batch in step if name == "mood"
    ]
    assert learner.steps(0) == 32 // 8 + 32 // 8
    assert numbers == list(range(3 * 4)), "12 batches of 8: each of the 96 rows once"


def test_every_step_has_its_own_dropout_seed() -> None:
    seeds = []
    for _ in range(2):
        learner, drawn = mood(), []
        for step in (0, 1, 0):
            next(learner.losses(0, step))
            drawn.append(learner.rng.initial_seed())
        seeds.append(drawn)
    assert seeds[0] == seeds[1] and seeds[0][0] == seeds[0][2] != seeds[0][1]


class Cramped(Interrupted):
    """A learner that is out of memory above a few rows."""

    most = 3
    error: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def _loss_sum(self, name: str, batch: Batch) -> Tensor:
        total = super()._loss_sum(name, batch)
        if len(batch.rows_B) > self.most:
            raise self.error
        return total


ALLOCATOR = RuntimeError("[enforce fail at alloc_cpu.cpp:131] DefaultCPUAllocator: can't allocate memory: you tried")


def cramped(settings: Training, mixture: dict[str, object], **when: object) -> Interrupted:
    learner = interrupted(settings, mixture, **when)
    learner.__class__ = Cramped
    return learner


@pytest.mark.integration
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ALLOCATOR])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_out_of_memory_batches_are_split_into_micro_batches_to_the_same_result(
    tmp_path: Path, sampling: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Batches of 8 rows in micro-batches of 4, then of 2; without dropout, whose masks would differ."""
    settings, mixture = tiny.training(dropout=0.0, head_dropout=0.0), {"sampling": sampling}
    whole = pair_of_tasks(settings, sampling=sampling)
    expected = run(tmp_path / "whole", whole, settings)
    learner = cramped(settings, mixture, error=error)
    with caplog.at_level("WARNING"):
        outcome = run(tmp_path / "cramped", learner, settings)
    assert [line.split("split into ")[1][0] for line in caplog.messages] == ["2", "4"]
    assert outcome.micro_batches == 4 and outcome.tokens == expected.tokens
    for one, other in zip(outcome.curve, expected.curve, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    for name, p in weights(whole.model).items():
        torch.testing.assert_close(weights(learner.model)[name], p, atol=2e-4, rtol=1e-3)


def test_an_interrupted_run_keeps_its_number_of_micro_batches(tmp_path: Path) -> None:
    settings, mixture = tiny.training(epochs=4), {"sampling": "joint"}
    whole = cramped(settings, mixture)
    expected = run(tmp_path / "whole", whole, settings)
    with pytest.raises(CutOff):
        run(tmp_path / "cut", cramped(settings, mixture, dies_at=13), settings, seconds=0)
    again = interrupted(settings, mixture)
    assert run(tmp_path / "cut", again, settings) == expected and expected.micro_batches == 4
    assert same(weights(again.model), weights(whole.model))


def test_a_row_that_does_not_fit_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    settings = tiny.training()
    with pytest.raises(
        UserError, match=r"R08 tiny: out of memory at step 1, epoch 1 \(mood: .*halve batch_size"
    ) as caught:
        run(tmp_path, cramped(settings, {"sampling": "joint"}, most=0), settings)
    assert caught.value.exit_code == 7


def test_another_error_is_not_taken_for_out_of_memory(tmp_path: Path) -> None:
    settings = tiny.training()
    with pytest.raises(RuntimeError, match="another"):
        run(tmp_path, cramped(settings, {}, error=RuntimeError("another")), settings)


@pytest.mark.integration
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_table_of_the_used_tokens_gives_the_same_model(tmp_path: Path, schedule: str) -> None:
    """Full training decays the rows of unused tokens; training with a shrunk table must give the same values."""
    settings = tiny.training(weight_decay=0.5, lr=1e-2, epochs=2, schedule=schedule)
    task = tiny.tokens(tiny.task())
    ended, best = [], []
    for restricted in (False, True):
        learner = tiny.learner([task], settings)
        ids = used_token_ids(task.splits.values()) if restricted else np.arange(tiny.VOCABULARY)
        with learner.model.encoder.embeddings.restricted(ids) as table:
            assert (len(learner.model.encoder.embeddings.word) < tiny.VOCABULARY) == restricted
            outcome = run(tmp_path, learner, settings)
            table.decay = decay_after(outcome.best_step, outcome.steps, settings)
        ended.append(weights(learner.model))
        best.append(outcome.best)
    assert ended[0].keys() == ended[1].keys()
    for name, dense in ended[0].items():
        torch.testing.assert_close(ended[1][name], dense, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    unread = torch.arange(3, 10)
    assert not torch.equal(
        ended[0]["encoder.embeddings.word"][unread],
        weights(tiny.learner([task], settings).model)["encoder.embeddings.word"][unread],
    )
    assert best[0] == best[1]


def test_a_frozen_encoder_stays_as_it_was(tmp_path: Path) -> None:
    settings = tiny.training(freeze_encoder=True, lr=1e-2, epochs=10)
    learner = tiny.learner([tiny.tokens(tiny.task())], settings)
    learner.model.eval()
    before, untrained = weights(learner.model.encoder), learner.evaluate()
    outcome = run(tmp_path, learner, settings)
    assert same(before, weights(learner.model.encoder))
    assert outcome.parameters == 32 * 3 + 3
    assert outcome.best > untrained["mood"]


def test_frozen_features_give_the_scores_of_the_whole_model(tmp_path: Path) -> None:
    settings = tiny.training(freeze_encoder=True, lr=1e-2)
    learner = tiny.learner([tiny.tokens(tiny.task("sim", "similarity", encoding="bi"))], settings)
    run(tmp_path, learner, settings)
    learner.model.eval()
    tokens = learner.tokens["sim"]
    whole = predict(learner.model, "sim", tokens.splits["dev"], tiny.MACHINE)
    assert tokens.splits["dev"].labels is not None
    assert learner.evaluate()["sim"] == pytest.approx(
        score(tokens.task, whole, tokens.splits["dev"].labels)["pearson"], abs=1e-5
    )


def test_the_loss_is_divided_once_by_the_labels_of_the_step() -> None:
    """With two tasks in one step each loss is the mean over its labels times its weight."""
    settings = tiny.training(dropout=0.0, head_dropout=0.0)
    plain = list(pair_of_tasks(settings, sampling="joint").losses(0, 0))
    weighted = list(pair_of_tasks(settings, sampling="joint", loss_weights={"sim": 3.0}).losses(0, 0))
    assert [p.task for p in plain] == ["mood", "sim"]
    assert weighted[0].loss.item() == pytest.approx(plain[0].loss.item())
    assert weighted[1].loss.item() == pytest.approx(3 * plain[1].loss.item())
