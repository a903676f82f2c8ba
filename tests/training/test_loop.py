"""The loop: it learns, it repeats, an interrupted run ends in the same weights, and a broken step moves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import tiny
from yourbert.config.schema import Training
from yourbert.core.cost import Cost
from yourbert.core.errors import UserError
from yourbert.evaluation.metrics import score
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.predict import predict
from yourbert.tokens.batching import Batch
from yourbert.tokens.packing import pieces_in
from yourbert.training.checkpoint import Resume, fingerprint
from yourbert.training.history import Outcome
from yourbert.training.loop import StepLoss
from yourbert.training.optimizer import decay_after


def run(folder: Path, learner: TaskLearner, settings: Training, seconds: float = 1e9) -> Outcome:
    with Resume(folder / "resume", seconds) as resume:
        return tiny.trained(learner, settings, resume)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def mood() -> TaskLearner:
    return tiny.learner([tiny.tokens(tiny.task())], tiny.training(epochs=6))


def pair_of_tasks(settings: Training, **mixture: object) -> TaskLearner:
    tasks = [tiny.tokens(tiny.task()), tiny.tokens(tiny.task("sim", "similarity"), 64)]
    return tiny.learner(tasks, settings, **mixture)


def test_it_learns(tmp_path: Path) -> None:
    learner = mood()
    outcome = run(tmp_path, learner, learner.settings)
    assert outcome.best > 0.9
    assert outcome.steps_done == 6 * 12
    assert [line[1] for line in outcome.curve] == list(range(1, 7))
    assert outcome.cost.seconds > 0 and outcome.cost.cpu_seconds > 0 and outcome.cost.joules > 0


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


def test_it_leaves_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    learner = mood()
    outcome = run(tmp_path, learner, learner.settings)
    learner.model.eval()
    best = max(line[4] for line in outcome.curve if line[1])
    assert learner.evaluate()["mood"] == best == outcome.best


@pytest.mark.parametrize(("select", "best"), [("mean", 2), ("mood", 1), ("sim", 3)])
def test_the_declared_score_chooses_the_epoch(
    tmp_path: Path, select: str, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = pair_of_tasks(tiny.training(), select=select)
    # A correlation of r counts as (r + 1) / 2.
    told = iter([{"mood": 0.9, "sim": 0.0}, {"mood": 0.8, "sim": 0.4}, {"mood": 0.1, "sim": 0.8}])
    monkeypatch.setattr(learner, "evaluate", lambda: next(told))
    assert run(tmp_path, learner, learner.settings).best_epoch == best


@pytest.mark.parametrize(("told", "says"), [
    ([0.9, 0.8, 0.7], "the weights of epoch 1 of 3 are kept; dev did not get better after the first"),
    ([0.7, 0.9, 0.8], "the weights of epoch 2 of 3 are kept"),
    ([0.7, 0.8, 0.9], None),
])  # fmt: skip
def test_which_epoch_is_kept_is_said(
    tmp_path: Path,
    told: list[float],
    says: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = tiny.learner([tiny.tokens(tiny.task())], tiny.training())
    scores = iter(told)
    monkeypatch.setattr(learner, "evaluate", lambda: {"mood": next(scores)})
    with caplog.at_level("INFO", "yourbert"):
        run(tmp_path, learner, learner.settings)
    kept = [message for message in caplog.messages if "are kept" in message]
    assert kept == ([f"tiny: {says}"] if says else [])


@pytest.mark.parametrize("sampling", ["joint", "annealed"])
def test_same_seed_same_bytes(tmp_path: Path, sampling: str) -> None:
    ended = []
    for _ in range(2):
        learner = pair_of_tasks(tiny.training(epochs=2), sampling=sampling)
        run(tmp_path, learner, learner.settings)
        ended.append(weights(learner.model))
    assert same(*ended)


def test_a_limited_task_reads_other_rows_in_each_epoch() -> None:
    learner = pair_of_tasks(tiny.training(epochs=3), row_limit=32)
    numbers = [
        batch for epoch in range(3) for step in learner.schedule(epoch) for name, batch in step if name == "mood"
    ]
    assert learner.steps(0) == 32 // 8 + 32 // 8
    assert numbers == list(range(3 * 4)), "12 batches of 8: each of the 96 rows once"


def test_every_step_draws_its_own_dropout() -> None:
    seeds = []
    for _ in range(2):
        learner, drawn = mood(), []
        for step in (0, 1, 0):
            next(learner.losses(0, step))
            drawn.append(learner.rng.initial_seed())
        seeds.append(drawn)
    assert seeds[0] == seeds[1] and seeds[0][0] == seeds[0][2] != seeds[0][1]


class CutOff(Exception):
    pass


class Interrupted(TaskLearner):
    """A learner whose process dies, or is asked to stop by a signal, at a given step or evaluation (from 0)."""

    dies_at = 10**9
    asked_at = 10**9
    asked_while_evaluating = 10**9
    asks: tuple[int, ...] = (signal.SIGTERM,)

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        self.steps_taken = [*getattr(self, "steps_taken", []), step]
        if step == self.dies_at:
            raise CutOff
        if step == self.asked_at:
            self.ask()
        yield from super().losses(epoch, step, micro_batches)

    def evaluate(self) -> dict[str, float]:
        self.evaluations = getattr(self, "evaluations", -1) + 1
        if self.evaluations == self.asked_while_evaluating:
            self.ask()
        return super().evaluate()

    def ask(self) -> None:
        for number in self.asks:
            os.kill(os.getpid(), number)


def interrupted(settings: Training, mixture: dict[str, object] | None = None, **when: object) -> Interrupted:
    learner = pair_of_tasks(settings, **(mixture or {}))
    learner.__class__ = Interrupted
    assert isinstance(learner, Interrupted)
    for name, value in when.items():
        setattr(learner, name, value)
    return learner


@pytest.mark.parametrize("dies_at", [3, 10, 13, 24, 30])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_interrupted_is_uninterrupted(tmp_path: Path, dies_at: int, sampling: str) -> None:
    """An epoch of the two tasks has 10 (joint) or 20 steps: cut in the first epoch, at its end, and later."""
    settings = tiny.training(epochs=4)
    whole = pair_of_tasks(settings, sampling=sampling)
    expected = run(tmp_path / "whole", whole, settings)

    with pytest.raises(CutOff):
        run(tmp_path / "cut", interrupted(settings, {"sampling": sampling}, dies_at=dies_at), settings, seconds=0)
    again = interrupted(settings, {"sampling": sampling})
    outcome = run(tmp_path / "cut", again, settings, seconds=0)
    assert again.steps_taken == [*range(dies_at, expected.steps)], "no step is taken twice"
    assert same(weights(again.model), weights(whole.model))
    assert outcome == expected
    assert not (tmp_path / "cut" / "resume").exists(), "the state goes when the run succeeds"


@pytest.mark.parametrize(
    ("when", "asks", "ends", "goes_on_at"),
    [
        ({"asked_at": 3}, (signal.SIGTERM,), SystemExit, 4),
        ({"asked_at": 13}, (signal.SIGINT,), KeyboardInterrupt, 14),
        ({"asked_at": 19}, (signal.SIGTERM,), SystemExit, 20),
        ({"asked_while_evaluating": 1}, (signal.SIGTERM,), SystemExit, 20),
        ({"asked_while_evaluating": 0}, (signal.SIGINT,), KeyboardInterrupt, 10),
    ],
)
def test_asked_to_stop_it_saves_and_goes_on_from_there(
    tmp_path: Path, when: dict[str, object], asks: tuple[int, ...], ends: type[BaseException], goes_on_at: int
) -> None:
    """Though no minute has passed: at the end of the step, in an evaluation at once."""
    settings, mixture = tiny.training(epochs=4), {"sampling": "joint"}
    whole = pair_of_tasks(settings, sampling="joint")
    expected = run(tmp_path / "whole", whole, settings)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ends) as caught:
        run(tmp_path / "cut", interrupted(settings, mixture, **when, asks=asks), settings)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + signal.SIGTERM
    again = interrupted(settings, mixture)
    outcome = run(tmp_path / "cut", again, settings)
    assert again.steps_taken == [*range(goes_on_at, expected.steps)]
    assert same(weights(again.model), weights(whole.model)) and outcome == expected
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_asked_twice_it_stops_at_once(tmp_path: Path) -> None:
    settings = tiny.training()
    learner = interrupted(settings, asked_at=3, asks=(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, learner, settings)
    assert not (tmp_path / "resume" / "state.safetensors").exists(), "the step was not finished, so nothing was saved"


class Cramped(Interrupted):
    """A learner on a machine that cannot read more than a few rows at once."""

    most = 3
    error: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def _total(self, name: str, batch: Batch) -> Tensor:
        total = super()._total(name, batch)
        if len(batch.rows_B) > self.most:
            raise self.error
        return total


ALLOCATOR = RuntimeError("[enforce fail at alloc_cpu.cpp:131] DefaultCPUAllocator: can't allocate memory: you tried")


def cramped(settings: Training, mixture: dict[str, object], **when: object) -> Interrupted:
    learner = interrupted(settings, mixture, **when)
    learner.__class__ = Cramped
    return learner


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ALLOCATOR])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_short_of_memory_batches_are_read_in_pieces_to_the_same_result(
    tmp_path: Path, sampling: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Without dropout, whose draws are others; batches of 8 in pieces of 4, then of 2."""
    settings, mixture = tiny.training(dropout=0.0, head_dropout=0.0), {"sampling": sampling}
    whole = pair_of_tasks(settings, sampling=sampling)
    expected = run(tmp_path / "whole", whole, settings)
    learner = cramped(settings, mixture, error=error)
    with caplog.at_level("WARNING"):
        outcome = run(tmp_path / "cramped", learner, settings)
    assert [line.split("read in ")[1][0] for line in caplog.messages] == ["2", "4"]
    assert outcome.micro_batches == 4 and outcome.tokens == expected.tokens
    for one, other in zip(outcome.curve, expected.curve, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    for name, p in weights(whole.model).items():
        torch.testing.assert_close(weights(learner.model)[name], p, atol=2e-4, rtol=1e-3)


def test_an_interrupted_run_remembers_in_how_many_pieces_it_read(tmp_path: Path) -> None:
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


def test_another_error_is_no_lack_of_memory(tmp_path: Path) -> None:
    settings = tiny.training()
    with pytest.raises(RuntimeError, match="another"):
        run(tmp_path, cramped(settings, {}, error=RuntimeError("another")), settings)


def test_a_run_that_goes_on_counts_what_it_cost_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "yourbert.training.loop.Meter.read", lambda meter: Cost(seconds=10.0, joules=3.0, measured=False)
    )
    settings = tiny.training(epochs=4)
    with pytest.raises(CutOff):
        run(tmp_path, interrupted(settings, {"sampling": "joint"}, dies_at=25), settings, seconds=0)
    cost = run(tmp_path, pair_of_tasks(settings, sampling="joint"), settings, seconds=0).cost
    assert cost == Cost(seconds=20.0, joules=6.0, measured=False)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_restricted_to_the_word_pieces_in_use_a_model_learns_the_same(tmp_path: Path, schedule: str) -> None:
    """Dense training decays the rows that no text reads; the restricted one must end with them as small."""
    settings = tiny.training(weight_decay=0.5, lr=1e-2, epochs=2, schedule=schedule)
    task = tiny.tokens(tiny.task())
    ended, best = [], []
    for restricted in (False, True):
        learner = tiny.learner([task], settings)
        pieces = pieces_in(task.splits.values()) if restricted else np.arange(tiny.VOCABULARY)
        with learner.model.encoder.embeddings.restricted(pieces) as table:
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


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Resume(tmp_path / "x"), pytest.raises(UserError, match="trained already by process"), Resume(tmp_path / "x"):
        pass


def test_fingerprints_tell_runs_apart() -> None:
    facts = {"lr": 1e-5, "tokens": {"sst": "abc"}}
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items())))
    assert fingerprint(facts) != fingerprint({**facts, "lr": 2e-5})


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    settings = tiny.training()
    learner = mood()
    with torch.no_grad():
        learner.model.encoder.embeddings.word[10].fill_(float("inf"))
    before = weights(learner.model)
    with pytest.raises(UserError, match=r"T01 tiny: .* at step 1, epoch 1 \(lr \S+; mood: \d+(, \d+){7}\)") as caught:
        run(tmp_path, learner, settings)
    assert caught.value.exit_code == 6
    assert same(before, weights(learner.model))


def test_patience_stops_early(tmp_path: Path) -> None:
    settings = tiny.training(epochs=50, patience=2)
    learner = tiny.learner([tiny.tokens(tiny.task())], settings)
    outcome = run(tmp_path, learner, settings)
    assert outcome.epoch == outcome.best_epoch + 2 < 50


def test_a_frozen_encoder_stays_as_it_was(tmp_path: Path) -> None:
    settings = tiny.training(tuning="head", lr=1e-2, epochs=10)
    learner = tiny.learner([tiny.tokens(tiny.task())], settings)
    learner.model.eval()
    before, untrained = weights(learner.model.encoder), learner.evaluate()
    outcome = run(tmp_path, learner, settings)
    assert same(before, weights(learner.model.encoder))
    assert outcome.parameters == 32 * 3 + 3
    assert outcome.best > untrained["mood"]


def test_frozen_features_give_the_scores_of_the_whole_model(tmp_path: Path) -> None:
    settings = tiny.training(tuning="head", lr=1e-2)
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
    """Two tasks in one step: each loss is a mean over its own labels, and weights multiply it."""
    settings = tiny.training(dropout=0.0, head_dropout=0.0)
    plain = list(pair_of_tasks(settings, sampling="joint").losses(0, 0))
    weighted = list(pair_of_tasks(settings, sampling="joint", weights={"sim": 3.0}).losses(0, 0))
    assert [p.task for p in plain] == ["mood", "sim"]
    assert weighted[0].loss.item() == pytest.approx(plain[0].loss.item())
    assert weighted[1].loss.item() == pytest.approx(3 * plain[1].loss.item())
