"""Skill localization: which few fine-tuned weights of the encoder carry a task's score.

A mask selects weights of the encoder. A grafted model has the fine-tuned values of those and the values before
fine-tuning of all others; the task's head is always the fine-tuned one. Two masks are compared at each size: the
weights that moved most, and a mask trained from there on the task's loss (Panigrahi et al. 2023, "Task-specific skill
localization in fine-tuned language models"). The overlap of two tasks' masks says whether they use the same weights.

Shapes: N all weights of the encoder, flattened and concatenated; R rows; C classes.
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

logger = logging.getLogger("yourbert")
# The initial logits of a trained mask are +4 and -4: sigmoid(4) is 0.98.
INITIAL_LOGIT = 4.0
LEARNING_RATE = 0.3
SEED = 0
LINE_STYLES = {"learnt": "-", "moved": ":"}  # of the masks in the charts


@dataclass(frozen=True, kw_only=True)
class GraftScore:
    """score: the task's metric on dev. calibration: the expected calibration error; None for a similarity."""

    score: float
    calibration: float | None


Line = tuple[str, str, float, GraftScore]  # task, mask, share of the weights, scores
Overlap = tuple[str, str, float, float]  # task, other task, share of the weights, overlap of their trained masks


class Graft:
    """A model whose encoder can combine the weights from before and after fine-tuning."""

    def __init__(self, tuned: Model, before: Mapping[str, Tensor], machine: Machine) -> None:
        self.model, self.machine = tuned, machine
        self.parameters = {f"encoder.{name}": p for name, p in tuned.encoder.named_parameters() if name in before}
        self.before = {name: before[name.removeprefix("encoder.")].to(p.device) for name, p in self.parameters.items()}
        self.moved = {name: p.detach() - self.before[name] for name, p in self.parameters.items()}

    @property
    def num_weights(self) -> int:
        return sum(moved.numel() for moved in self.moved.values())

    def most_moved(self, share: float) -> Tensor:
        """mask_N: the share of the weights that fine-tuning changed most."""
        return _top_mask(torch.cat([moved.abs().reshape(-1) for moved in self.moved.values()]), self._count(share))

    def trained_mask(self, task: Task, train: PackedSplit, share: float, steps: int, lr: float, seed: int) -> Tensor:
        """mask_N of the same size: `most_moved` is the start of `steps` of Adam on the task's loss."""
        logits_N = torch.where(self.most_moved(share), INITIAL_LOGIT, -INITIAL_LOGIT).requires_grad_()
        optimizer = torch.optim.Adam([logits_N], lr)
        sampler = BatchSampler(train, 16, seed, f"skills {task.name}")
        for number in range(steps):
            batch = sampler.batch(number)
            labels_B = torch.from_numpy(batch.labels_B).to(self.machine.device)
            arguments = (task.name, to_device(batch, self.machine), None)
            # The soft mask sigmoid(logits) blends the weights; the gradient reaches the logits through the blend.
            scores = torch.func.functional_call(self.model, self.blend(torch.sigmoid(logits_N)), arguments)
            loss = loss_sum(task, scores, labels_B) / len(batch.rows_B)
            (logits_N.grad,) = torch.autograd.grad(loss, logits_N)
            optimizer.step()
        return _top_mask(logits_N.detach(), self._count(share))

    def score(self, task: Task, dev: PackedSplit, mask_N: Tensor) -> GraftScore:
        """Scores dev with the masked weights fine-tuned and all others as before."""
        assert dev.labels is not None, "a dev split has labels"
        tuned = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._set_weights(self.blend(mask_N.float()))
        try:
            outputs = predict(self.model.eval(), task.name, dev, self.machine)
        finally:
            self._set_weights(tuned)
        labels_R = np.asarray(dev.labels)
        return GraftScore(
            score=score(task, outputs, labels_R).get(task.metric, 0.0),
            calibration=calibration_error(calibration(outputs, labels_R)) if task.labels else None,
        )

    def _count(self, share: float) -> int:
        return max(1, round(share * self.num_weights))

    def blend(self, mask_N: Tensor) -> dict[str, Tensor]:
        """Weights by name: fine-tuned where the mask is 1, as before where it is 0, interpolated in between."""
        parts = torch.split(mask_N, [moved.numel() for moved in self.moved.values()])
        return {
            name: self.before[name] + part.view_as(moved) * moved
            for (name, moved), part in zip(self.moved.items(), parts, strict=True)
        }

    @torch.no_grad()
    def _set_weights(self, weights: Mapping[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(weights[name])


def _top_mask(values_N: Tensor, count: int) -> Tensor:
    mask_N = torch.zeros(len(values_N), dtype=torch.bool, device=values_N.device)
    mask_N[torch.topk(values_N, count).indices] = True
    return mask_N


def overlap(one_N: Tensor, other_N: Tensor) -> float:
    """The share of one mask that the other contains. Of random masks it is the other's share of all weights."""
    return float((one_N & other_N).sum() / one_N.sum())


def localize_skills(
    models: Sequence[Path],
    encoder: Path,
    tokens: Path,
    shares: Sequence[float],
    steps: int,
    runtime: Runtime,
    out: Path,
) -> tuple[list[Line], list[Overlap]]:
    """Scores grafts of each model's tasks at each share and compares their masks; writes skills.csv and overlap.csv.

    models: model folders that were fine-tuned from the encoder folder `encoder`. tokens: the folder of the tasks'
    tokens. Raises UserError: C01, C12 for a damaged folder, C06 for folders that do not belong together, P05 for a
    model with task-specific layers.
    """
    machine = prepare(runtime)
    lines: list[Line] = []
    masks: dict[tuple[str, float], Tensor] = {}
    for folder in models:
        model, tasks = load_model(folder, machine)
        if model.task_specific_layers:
            what = "models with task-specific layers are not supported"
            fail("P05", what, where=str(folder), fix="name the model that its `init_from` names")
        before = load_encoder(encoder, 0.0, generator(0, "pooler")).encoder
        weights = {name: p.detach() for name, p in before.named_parameters()}
        shapes = {name: p.shape for name, p in model.encoder.named_parameters()}
        if any(name in shapes and shapes[name] != p.shape for name, p in weights.items()):
            fail("C06", f"this model was not fine-tuned from {encoder}", where=str(folder), fix="train it again")
        graft = Graft(model, weights, machine)
        for name, task in tasks.items():
            opened = open_tokens_for(tokens / name, encoder)
            opened.check_task(task, folder)
            train, dev = opened.splits["train"], opened.splits["dev"]
            run = _unique_name(f"{folder.parent.name}:{name}" if len(tasks) > 1 else name, [line[0] for line in lines])
            all_N = torch.ones(graft.num_weights, dtype=torch.bool, device=machine.device)
            lines.append((run, "all", 1.0, graft.score(task, dev, all_N)))
            lines.append((run, "none", 0.0, graft.score(task, dev, ~all_N)))
            for share in shares:
                logger.info("%s: %g of %d weights", run, share, graft.num_weights)
                mask_N = graft.trained_mask(task, train, share, steps, LEARNING_RATE, SEED)
                lines.append((run, "moved", share, graft.score(task, dev, graft.most_moved(share))))
                lines.append((run, "learnt", share, graft.score(task, dev, mask_N)))
                masks[run, share] = mask_N
    runs = dict.fromkeys(run for run, _ in masks)
    pairs = [(run, other, share, overlap(mask_N, masks[other, share])) for (run, share), mask_N in masks.items()
             for other in runs]  # fmt: skip
    _write(out, lines, pairs)
    return lines, pairs


def _unique_name(run: str, known: Sequence[str]) -> str:
    """Numbers a repeated name: models of one task with several seeds are "sst", "sst 2" and so on."""
    names = (run, *(f"{run} {number}" for number in range(2, len(known) + 3)))
    return next(name for name in names if name not in known)


def _write(out: Path, lines: Sequence[Line], pairs: Sequence[Overlap]) -> None:
    cells = [
        (run, kind, share, f"{g.score:.5f}", "" if g.calibration is None else f"{g.calibration:.5f}")
        for run, kind, share, g in lines
    ]
    write_csv(out / "skills.csv", ("task", "weights", "share", "dev", "calibration_error"), cells)
    write_csv(out / "overlap.csv", ("task", "other", "share", "overlap"), [(*p[:3], f"{p[3]:.5f}") for p in pairs])


def draw_scores(lines: Sequence[Line], path: Path) -> None:
    """Plots dev score and calibration error against the share of grafted weights; thin lines: the fine-tuned model."""
    figure, panels = canvas(8, 3.6, columns=2)
    for run, colour in zip(dict.fromkeys(run for run, *_ in lines), COLOURS * len(lines), strict=False):
        for axes, value in zip(panels, ("score", "calibration"), strict=True):
            of_run = [(mask, share, getattr(scores, value)) for name, mask, share, scores in lines if name == run]
            for kind, style in LINE_STYLES.items():
                points = sorted((share, y) for mask, share, y in of_run if mask == kind and y is not None)
                if points:
                    axes.plot(*zip(*points, strict=True), style, marker=".", color=colour, label=f"{run}, {kind}")
            for mask, _, y in of_run:
                if mask == "all" and y is not None:
                    axes.axhline(y, color=colour, linewidth=0.7, alpha=0.6)
    for axes, what in zip(panels, ("dev score", "calibration error"), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel("share of the encoder's weights that are grafted")
        axes.set_ylabel(f"{what}; thin lines: the whole model")
    panels[0].legend(fontsize=7)
    save(figure, path)


def draw_overlap(pairs: Sequence[Overlap], path: Path) -> None:
    """Draws a matrix per share: the share of the row's trained mask that the column's mask contains."""
    shares = list(dict.fromkeys(share for _, _, share, _ in pairs))
    runs = list(dict.fromkeys(run for run, *_ in pairs))
    values = {(run, other, share): value for run, other, share, value in pairs}
    size = 1 + 0.45 * len(runs)
    figure, panels = canvas(size * len(shares), size, columns=len(shares))
    for axes, share in zip([panels] if len(shares) == 1 else panels, shares, strict=True):
        matrix = [[values[run, other, share] for other in runs] for run in runs]
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        for row, line in enumerate(matrix):
            for column, value in enumerate(line):
                tone = "white" if value > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=tone)
        axes.set_xticks(range(len(runs)), runs, rotation=90)
        axes.set_yticks(range(len(runs)), runs)
        axes.set_title(f"{share:.4g} of the weights", fontsize=8)
    save(figure, path)
