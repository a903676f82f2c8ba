"""Where in the encoder a skill sits: grafting a few tailored weights onto the encoder it came from.

A mask chooses weights; those take their tailored values, all others keep the ones of the encoder before. The question
is how few carry the score. Two masks are compared at each size: the weights that moved most, and one that is learnt
from there by descending the task's loss (Panigrahi et al. 2023, "Task-specific skill localization in fine-tuned
language models"). The task's head always stays the tailored one. Masks of several tasks tell whether skills overlap.

Shapes: N weights of the encoder in one row, R rows, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from yourbert.config.schema import Runtime
from yourbert.core.errors import fail
from yourbert.core.storage import write_csv
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import calibration, calibration_error, score
from yourbert.finetuning.losses import loss_sum
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import predict, to_device
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.report.charts import COLOURS, canvas, save
from yourbert.runtime.machine import Machine, generator, prepare
from yourbert.tokens.batching import BatchSampler
from yourbert.tokens.packing import PackedSplit, open_tokens_for

LOGGER = logging.getLogger("yourbert")
# How far a weight's mark lies from the border of the mask before it is learnt: sigmoid(4) is 0.98.
FIRM = 4.0
LEARNING_RATE = 0.3
SEED = 0
STROKES = {"learnt": "-", "moved": ":"}  # of a mask's lines in the charts


@dataclass(frozen=True, kw_only=True)
class Grafted:
    """What a model with grafted weights scores. calibration: the expected error of its confidence, where it has one."""

    score: float
    calibration: float | None


Line = tuple[str, str, float, Grafted]  # task, mask, share, what it scores
Overlap = tuple[str, str, float, float]  # task, other task, share, overlap of their learnt masks


class Graft:
    """A model whose encoder can take any mixture of the weights before and after tailoring."""

    def __init__(self, tailored: Model, before: Mapping[str, Tensor], machine: Machine) -> None:
        self.model, self.machine = tailored, machine
        self.parameters = {f"encoder.{name}": p for name, p in tailored.encoder.named_parameters() if name in before}
        self.before = {name: before[name.removeprefix("encoder.")].to(p.device) for name, p in self.parameters.items()}
        self.moved = {name: p.detach() - self.before[name] for name, p in self.parameters.items()}

    @property
    def weights(self) -> int:
        return sum(moved.numel() for moved in self.moved.values())

    def most_moved(self, share: float) -> Tensor:
        """mask_N of the share of weights that tailoring moved farthest."""
        return _largest(self._row({name: moved.abs() for name, moved in self.moved.items()}), self._count(share))

    def learnt(self, task: Task, train: PackedSplit, share: float, steps: int, lr: float, seed: int) -> Tensor:
        """mask_N of the same size, moved from `most_moved` by `steps` of gradient descent on the task's loss."""
        marks_N = torch.where(self.most_moved(share), FIRM, -FIRM).requires_grad_()
        optimizer = torch.optim.Adam([marks_N], lr)
        sampler = BatchSampler(train, 16, seed, f"skills {task.name}")
        for number in range(steps):
            batch = sampler.batch(number)
            labels_B = torch.from_numpy(batch.labels_B).to(self.machine.device)
            given = (task.name, to_device(batch, self.machine), None)
            scores = torch.func.functional_call(self.model, self.weights_of(torch.sigmoid(marks_N)), given)
            loss = loss_sum(task, scores, labels_B) / len(batch.rows_B)
            (marks_N.grad,) = torch.autograd.grad(loss, marks_N)
            optimizer.step()
        return _largest(marks_N.detach(), self._count(share))

    def score(self, task: Task, dev: PackedSplit, mask_N: Tensor) -> Grafted:
        """The dev score with the mask's weights tailored and all others as before."""
        assert dev.labels is not None, "a dev split has labels"
        tailored = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._put(self.weights_of(mask_N.float()))
        try:
            answers = predict(self.model.eval(), task.name, dev, self.machine)
        finally:
            self._put(tailored)
        labels_R = np.asarray(dev.labels)
        return Grafted(
            score=score(task, answers, labels_R).get(task.metric, 0.0),
            calibration=calibration_error(calibration(answers, labels_R)) if task.labels else None,
        )

    def _count(self, share: float) -> int:
        return max(1, round(share * self.weights))

    def weights_of(self, mask_N: Tensor) -> dict[str, Tensor]:
        """The encoder's weights by name: tailored where the mask is 1, as before where it is 0, between in between."""
        parts = torch.split(mask_N, [moved.numel() for moved in self.moved.values()])
        return {
            name: self.before[name] + part.view_as(moved) * moved
            for (name, moved), part in zip(self.moved.items(), parts, strict=True)
        }

    def _row(self, weights: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([one.reshape(-1) for one in weights.values()])

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(weights[name])


def _largest(marks_N: Tensor, count: int) -> Tensor:
    mask_N = torch.zeros(len(marks_N), dtype=torch.bool, device=marks_N.device)
    mask_N[torch.topk(marks_N, count).indices] = True
    return mask_N


def overlap(one_N: Tensor, other_N: Tensor) -> float:
    """The share of one mask's weights that stand in another; of two masks drawn by chance, the other's share of all."""
    return float((one_N & other_N).sum() / one_N.sum())


def localise(
    models: Sequence[Path],
    encoder: Path,
    tokens: Path,
    shares: Sequence[float],
    steps: int,
    runtime: Runtime,
    out: Path,
) -> tuple[list[Line], list[Overlap]]:
    """Grafts each model's tasks at each share, and compares the masks of all; writes skills.csv and overlap.csv.

    models: model folders that were tailored from the encoder folder `encoder`. tokens: the tasks' tokens.
    Raises UserError (C01, C06) for folders that do not belong together.
    """
    machine = prepare(runtime)
    lines: list[Line] = []
    learnt: dict[tuple[str, float], Tensor] = {}
    for folder in models:
        model, tasks = load_model(folder, machine)
        if model.task_specific_layers:
            what = "its tasks do not share all layers"
            fail("P05", what, where=str(folder), fix="name the model that it went on from")
        before = load_encoder(encoder, 0.0, generator(0, "pooler")).encoder
        weights = {name: p.detach() for name, p in before.named_parameters()}
        own = dict(model.encoder.named_parameters())
        if any(name in weights and weights[name].shape != p.shape for name, p in own.items()):
            fail("C06", f"this model does not come from {encoder}", where=str(folder), fix="train it again")
        graft = Graft(model, weights, machine)
        for name, task in tasks.items():
            opened = open_tokens_for(tokens / name, encoder)
            opened.check_same(task, folder)
            train, dev = opened.splits["train"], opened.splits["dev"]
            run = _named(f"{folder.parent.name}:{name}" if len(tasks) > 1 else name, [line[0] for line in lines])
            whole_N = torch.ones(graft.weights, dtype=torch.bool, device=machine.device)
            lines.append((run, "all", 1.0, graft.score(task, dev, whole_N)))
            lines.append((run, "none", 0.0, graft.score(task, dev, ~whole_N)))
            for share in shares:
                LOGGER.info("%s: %g of %d weights", run, share, graft.weights)
                mask_N = graft.learnt(task, train, share, steps, LEARNING_RATE, SEED)
                lines.append((run, "moved", share, graft.score(task, dev, graft.most_moved(share))))
                lines.append((run, "learnt", share, graft.score(task, dev, mask_N)))
                learnt[run, share] = mask_N
    runs = dict.fromkeys(run for run, _ in learnt)
    pairs = [(one, two, share, overlap(mask_N, learnt[two, share])) for (one, share), mask_N in learnt.items()
             for two in runs]  # fmt: skip
    _write(out, lines, pairs)
    return lines, pairs


def _named(run: str, known: Sequence[str]) -> str:
    """A name that is free: models of one task with several seeds are "sst", "sst 2" and so on."""
    names = (run, *(f"{run} {number}" for number in range(2, len(known) + 3)))
    return next(name for name in names if name not in known)


def _write(out: Path, lines: Sequence[Line], pairs: Sequence[Overlap]) -> None:
    cells = [
        (run, kind, share, f"{g.score:.5f}", "" if g.calibration is None else f"{g.calibration:.5f}")
        for run, kind, share, g in lines
    ]
    write_csv(out / "skills.csv", ("task", "weights", "share", "dev", "calibration_error"), cells)
    write_csv(out / "overlap.csv", ("task", "other", "share", "overlap"), [(*p[:3], f"{p[3]:.5f}") for p in pairs])


def draw_kept(lines: Sequence[Line], path: Path) -> None:
    """The dev score and the calibration error against the share of grafted weights; beside them the whole model's."""
    figure, panels = canvas(8, 3.6, columns=2)
    for run, colour in zip(dict.fromkeys(run for run, *_ in lines), COLOURS * len(lines), strict=False):
        for axes, value in zip(panels, ("score", "calibration"), strict=True):
            own = [(mask, share, getattr(one, value)) for name, mask, share, one in lines if name == run]
            for kind, stroke in STROKES.items():
                points = sorted((share, y) for mask, share, y in own if mask == kind and y is not None)
                if points:
                    axes.plot(*zip(*points, strict=True), stroke, marker=".", color=colour, label=f"{run}, {kind}")
            for mask, _, y in own:
                if mask == "all" and y is not None:
                    axes.axhline(y, color=colour, linewidth=0.7, alpha=0.6)
    for axes, what in zip(panels, ("dev score", "calibration error"), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel("share of the encoder's weights that are grafted")
        axes.set_ylabel(f"{what}; thin lines: the whole model")
    panels[0].legend(fontsize=7)
    save(figure, path)


def draw_overlap(pairs: Sequence[Overlap], path: Path) -> None:
    """A matrix for each share: how much of the row's learnt mask the column's holds; by chance, the share."""
    shares = list(dict.fromkeys(share for _, _, share, _ in pairs))
    runs = list(dict.fromkeys(one for one, *_ in pairs))
    found = {(one, two, share): value for one, two, share, value in pairs}
    size = 1 + 0.45 * len(runs)
    figure, panels = canvas(size * len(shares), size, columns=len(shares))
    for axes, share in zip([panels] if len(shares) == 1 else panels, shares, strict=True):
        matrix = [[found[one, two, share] for two in runs] for one in runs]
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        for row, values in enumerate(matrix):
            for column, value in enumerate(values):
                tone = "white" if value > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=tone)
        axes.set_xticks(range(len(runs)), runs, rotation=90)
        axes.set_yticks(range(len(runs)), runs)
        axes.set_title(f"{share:.4g} of the weights", fontsize=8)
    save(figure, path)
