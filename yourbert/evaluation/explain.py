"""Which words an answer rests on: integrated gradients (Sundararajan et al. 2017), with a check that it is true.

A text is read at many points on the way from one in which every word is [PAD] to itself; the gradients on that way,
times what each word piece adds, say how much of the answer's score each one brings. They add up to the score above that
of the empty text; of a pair, each text is emptied by itself beside the other. Whether they point at what matters is
tested: without the words that they name first the answer should change more than without others (comprehensiveness;
DeYoung et al. 2020).

Shapes: N points, T tokens of one point, E hidden width, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yourbert.core.errors import fail
from yourbert.core.seeding import rng_for
from yourbert.core.tasks import Task
from yourbert.core.text import is_empty, is_text
from yourbert.evaluation.metrics import Floats
from yourbert.inference.predict import to_device
from yourbert.model.multitask import Model
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import Batch, gather
from yourbert.tokens.packing import PackedSplit, pack
from yourbert.tokens.tokenizer import CONTINUES, Tokenizer

POINTS = 64
TOKENS_AT_ONCE = 2048
LEFT_OUT = 0.2  # the share of words that the check leaves out
DRAWS = 20  # of as many words by chance


@dataclass(frozen=True)
class Word:
    """text: as the model reads it. number: of the row's texts, from 0. weight: what it adds to the answer's score."""

    text: str
    number: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """answer: a label, or a similarity. score: its log-odds against all other labels, or itself.

    empty: the score where one text, then the other, has no words; with that text's weights it adds up to `score`, but
    for `gap` at most.
    left_out: how many words the check leaves out. without_first, without_random: the score then, without those that
    weigh most for the answer, and without as many by chance, the mean.
    """

    answer: str
    score: float
    empty: list[float]
    gap: float
    words: list[Word]
    left_out: int
    without_first: float
    without_random: float


class Explainer:
    """Explains rows of one task of a model, best in fp32. points: how many on the way from the empty text."""

    def __init__(self, model: Model, task: Task, tokenizer: Tokenizer, machine: Machine, points: int = POINTS) -> None:
        self.model, self.task, self.tokenizer, self.machine = model, task, tokenizer, machine
        self.points = points

    def explain(self, texts: Sequence[str]) -> Explanation:
        """Explains the answer to a row of one text, or of two. Raises UserError (I01, I04) for no such row."""
        task = self.task
        if len(texts) != 1 + task.pair:
            wanted = "two texts" if task.pair else "one text"
            what = f"task '{task.name}' reads {wanted}, not {len(texts)}"
            fail("I04", what, where="command line", fix=f"give {wanted}")
        if not all(map(is_text, texts)):
            fail("D08", "a text is not UTF-8", where="command line", fix="check how the terminal encodes it")
        if any(map(is_empty, texts)):
            fail("I01", "a text is empty", where="command line", fix="give it words")
        return self.explain_row(pack(self.tokenizer, task, [texts]), 0)

    def explain_row(self, split: PackedSplit, row: int) -> Explanation:
        """Explains the answer to a row of a split."""
        batch = gather(split, np.array([row]))
        chosen = self._chosen(batch)
        words, of_T, number_T = self._words(batch)
        weights_T, empty, gap, score = np.zeros(len(of_T)), [], 0.0, 0.0
        for number in range(1 + self.task.pair):
            own_T, score, without = self._integrated(batch, chosen, number_T == number)
            weights_T += own_T
            empty.append(without)
            gap = max(gap, abs(score - without - float(own_T.sum())))
        weights_W = np.bincount(of_T[of_T >= 0], weights_T[of_T >= 0], minlength=len(words))
        left_out = max(1, round(LEFT_OUT * len(words)))
        first = np.argsort(-weights_W, kind="stable")[:left_out]
        rng = rng_for(0, "explain", *map(int, batch.tokens_T))
        others = [rng.choice(len(words), left_out, replace=False) for _ in range(DRAWS)]
        without_first, *without_others = self._without(batch, of_T, [first, *others], chosen)
        return Explanation(
            answer=self._answer(batch, chosen),
            score=score,
            empty=empty,
            gap=gap,
            words=[Word(text, number, float(w)) for (text, number), w in zip(words, weights_W, strict=True)],
            left_out=left_out,
            without_first=without_first,
            without_random=float(np.mean(without_others)),
        )

    def _scores(self, batch: Batch, embedded_TE: Tensor | None = None) -> Tensor:
        scores_BC: Tensor = self.model(self.task.name, to_device(batch, self.machine), None, embedded_TE)
        return scores_BC.float()

    def _chosen(self, batch: Batch) -> int:
        with torch.no_grad():
            return int(self._scores(batch)[0].argmax())

    def _answer(self, batch: Batch, chosen: int) -> str:
        if self.task.labels:
            return self.task.labels[chosen]
        with torch.no_grad():
            return f"{float(self.model.heads[self.task.name].predict(self._scores(batch))[0]):.3f}"

    def _score(self, scores_BC: Tensor, chosen: int) -> Tensor:
        """[B]: the log-odds of a class, or the similarity on the task's scale."""
        if not self.task.labels:
            return self.model.heads[self.task.name].predict(scores_BC)
        others_BC = torch.cat([scores_BC[:, :chosen], scores_BC[:, chosen + 1 :]], dim=1)
        return scores_BC[:, chosen] - torch.logsumexp(others_BC, dim=1)

    def _integrated(self, batch: Batch, chosen: int, own_T: npt.NDArray[np.bool_]) -> tuple[Floats, float, float]:
        """What each of some tokens adds to the score, the score, and that without them."""
        real, size = self._emptied(batch, own_T), len(batch.tokens_T)
        with torch.no_grad():
            whole_TE, empty_TE = (self._embedded(one)[:size] for one in (batch, real))
            ends = [float(self._score(self._scores(one), chosen)[0]) for one in (batch, real)]
        step_TE, slopes_TE = whole_TE - empty_TE, torch.zeros_like(whole_TE)
        way_N = (torch.arange(self.points, device=whole_TE.device) + 0.5) / self.points
        # Of a long text not all points at once: their activations would fill the memory.
        for part_N in torch.split(way_N, max(1, TOKENS_AT_ONCE // size)):
            path_NTE = (empty_TE + part_N[:, None, None] * step_TE).requires_grad_()
            slopes_TE += self._slopes(batch, path_NTE, chosen)
        weights_T = (slopes_TE / self.points * step_TE).sum(-1)
        return weights_T.double().cpu().numpy(), ends[0], ends[1]

    def _slopes(self, batch: Batch, path_NTE: Tensor, chosen: int) -> Tensor:
        """[T, E]: the gradients of the score at some points, added up."""
        copies = _copies(batch, len(path_NTE))
        packed = to_device(copies, self.machine)
        filler_FE = path_NTE.new_zeros(len(packed.tokens_T) - path_NTE.shape[:2].numel(), path_NTE.shape[2])
        scores_BC = self._scores(copies, torch.cat([path_NTE.flatten(0, 1), filler_FE]))
        (slopes_NTE,) = torch.autograd.grad(self._score(scores_BC, chosen).sum(), path_NTE)
        return slopes_NTE.sum(0)

    def _embedded(self, batch: Batch) -> Tensor:
        return self.model.encoder.embed(to_device(batch, self.machine), None)

    def _emptied(self, batch: Batch, without_T: npt.NDArray[np.bool_]) -> Batch:
        """The row with [PAD] in the place of these tokens, but for its frame."""
        frame_T = np.isin(batch.tokens_T, self.tokenizer.special_ids)
        return replace(batch, tokens_T=np.where(without_T & ~frame_T, self.tokenizer.pad_id, batch.tokens_T))

    def _words(self, batch: Batch) -> tuple[list[tuple[str, int]], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each word with the number of its text; for each token its word, -1 for the frame, and its text."""
        words: list[tuple[str, int]] = []
        of_T = np.full(len(batch.tokens_T), -1)
        sequence_T = np.searchsorted(batch.offsets, np.arange(len(batch.tokens_T)), side="right") - 1
        number_T = np.maximum(sequence_T, batch.segments_T)
        pieces = self.tokenizer.tokens(batch.tokens_T.tolist())
        for at, (token, piece) in enumerate(zip(batch.tokens_T.tolist(), pieces, strict=True)):
            if token in self.tokenizer.special_ids and token != self.tokenizer.unk_id:
                continue
            if piece.startswith(CONTINUES) and at and of_T[at - 1] >= 0:
                text, number = words[-1]
                words[-1] = text + piece.removeprefix(CONTINUES), number
            else:
                words.append((piece, int(number_T[at])))
            of_T[at] = len(words) - 1
        return words, of_T, number_T

    def _without(
        self, batch: Batch, of_T: npt.NDArray[np.int64], choices: Sequence[npt.NDArray[np.int64]], chosen: int
    ) -> list[float]:
        """The score without the words of each choice, all of them in one batch."""
        rows = [self._emptied(batch, np.isin(of_T, words)).tokens_T for words in choices]
        many = replace(_copies(batch, len(choices)), tokens_T=np.concatenate(rows))
        with torch.no_grad():
            scores: list[float] = self._score(self._scores(many), chosen).tolist()
        return scores


def _copies(batch: Batch, count: int) -> Batch:
    """The one row of a batch, many times over."""
    lengths = np.tile(np.diff(batch.offsets), count)
    return Batch(
        tokens_T=np.tile(batch.tokens_T, count),
        segments_T=np.tile(batch.segments_T, count),
        positions_T=np.tile(batch.positions_T, count),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        rows_B=np.zeros(count, np.int64),
        labels_B=None,
    )


def format_explanation(found: Explanation) -> str:
    """An explanation for people: a line for each word, with a bar as long as it weighs."""
    most = max(abs(word.weight) for word in found.words) or 1.0
    several = len({word.number for word in found.words}) > 1
    wide = max(len(word.text) for word in found.words)
    empty = " or ".join(f"{score:+.2f}" for score in found.empty)
    lines = [f"answer: {found.answer} (score {found.score:+.2f}; of an empty text {empty})"]
    for before, word in zip([None, *found.words], found.words, strict=False):
        if several and (before is None or before.number != word.number):
            lines.append(f"text {word.number + 1}")
        bar = ("+" if word.weight > 0 else "-") * round(20 * abs(word.weight) / most)
        lines.append(f"  {word.text:<{wide}} {word.weight:+7.2f} {bar}".rstrip())
    lines.append(
        f"without the {found.left_out} that weigh most: score {found.without_first:+.2f}; "
        f"without {found.left_out} by chance: {found.without_random:+.2f}"
    )
    return "\n".join(lines)
