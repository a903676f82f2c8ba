"""Attribution of a prediction to words: integrated gradients (Sundararajan et al. 2017), with a faithfulness check.

The gradients of the score are integrated along the straight line from the embeddings of a baseline text, in which every
word is [PAD], to those of the text. The attributions of a text add up to its score minus that of the baseline
(completeness). For a pair each text has its own baseline, beside the unchanged other text. The check: removing the top
words should lower the score more than removing equally many random words (comprehensiveness; DeYoung et al. 2020).

Shapes: N integration steps, T tokens of the row, E hidden width, W words, B copies of the row, C classes.
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
from yourbert.tokens.tokenizer import CONTINUATION, Tokenizer

INTEGRATION_STEPS = 64
TOKENS_AT_ONCE = 2048
REMOVED_SHARE = 0.2  # of the words, in the check
RANDOM_SETS = 20  # of equally many words, in the check


@dataclass(frozen=True)
class Word:
    """A word of an explained text.

    text: as tokenized. number: 0 for the first text of the row, 1 for the second. weight: what it adds to the score.
    """

    text: str
    number: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The contributions of the words to a prediction, by integrated gradients, with a deletion test.

    prediction: the predicted label or similarity. score: the label's log-odds against all others, or the similarity.
    words: all words with their weights; a positive weight supports the prediction.

    baseline_scores: for each text the score with all of its words masked. A baseline score plus the weights of the text
    equals `score`, to within `completeness_gap`. num_removed: the number of words that the deletion test removes.
    score_without_top, score_without_random: the score without the words of the largest weights, and the mean score
    without as many random words.
    """

    prediction: str
    score: float
    baseline_scores: list[float]
    completeness_gap: float
    words: list[Word]
    num_removed: int
    score_without_top: float
    score_without_random: float


class Explainer:
    """Explains predictions of one task. model: in fp32. steps: of the integral; more are more exact."""

    def __init__(
        self, model: Model, task: Task, tokenizer: Tokenizer, machine: Machine, steps: int = INTEGRATION_STEPS
    ) -> None:
        self.model, self.task, self.tokenizer, self.machine = model, task, tokenizer, machine
        self.steps = steps

    def explain(self, texts: Sequence[str]) -> Explanation:
        """Explains the prediction for one text, or a pair. Raises UserError (D08, I01, I04) for invalid texts."""
        task = self.task
        if len(texts) != 1 + task.pair:
            wanted = "two texts" if task.pair else "one text"
            what = f"task '{task.name}' reads {wanted}, not {len(texts)}"
            fail("I04", what, where="command line", fix=f"give {wanted}")
        if not all(map(is_text, texts)):
            fail("D08", "a text is not UTF-8", where="command line", fix="check how the terminal encodes it")
        if any(map(is_empty, texts)):
            fail("I01", "a text is empty", where="command line", fix="write a text")
        return self.explain_row(pack(self.tokenizer, task, [texts]), 0)

    def explain_row(self, split: PackedSplit, row: int) -> Explanation:
        """Explains the prediction for a row of a split."""
        batch = gather(split, np.array([row]))
        predicted = self._predicted(batch)
        words, word_T, number_T = self._words(batch)
        weights_T, baselines, gap, score = np.zeros(len(word_T)), [], 0.0, 0.0
        for number in range(1 + self.task.pair):
            text_T, score, baseline = self._integrate(batch, predicted, number_T == number)
            weights_T += text_T
            baselines.append(baseline)
            gap = max(gap, abs(score - baseline - float(text_T.sum())))
        weights_W = np.bincount(word_T[word_T >= 0], weights_T[word_T >= 0], minlength=len(words))
        num_removed = max(1, round(REMOVED_SHARE * len(words)))
        top = np.argsort(-weights_W, kind="stable")[:num_removed]
        rng = rng_for(0, "explain", *map(int, batch.tokens_T))
        random_sets = [rng.choice(len(words), num_removed, replace=False) for _ in range(RANDOM_SETS)]
        score_without_top, *without_others = self._scores_without(batch, word_T, [top, *random_sets], predicted)
        return Explanation(
            prediction=self._prediction(batch, predicted),
            score=score,
            baseline_scores=baselines,
            completeness_gap=gap,
            words=[Word(text, number, float(w)) for (text, number), w in zip(words, weights_W, strict=True)],
            num_removed=num_removed,
            score_without_top=score_without_top,
            score_without_random=float(np.mean(without_others)),
        )

    def _scores(self, batch: Batch, embedded_TE: Tensor | None = None) -> Tensor:
        scores_BC: Tensor = self.model(self.task.name, to_device(batch, self.machine), None, embedded_TE)
        return scores_BC.float()

    def _predicted(self, batch: Batch) -> int:
        with torch.no_grad():
            return int(self._scores(batch)[0].argmax())

    def _prediction(self, batch: Batch, predicted: int) -> str:
        if self.task.labels:
            return self.task.labels[predicted]
        with torch.no_grad():
            return f"{float(self.model.heads[self.task.name].predict(self._scores(batch))[0]):.3f}"

    def _score(self, scores_BC: Tensor, predicted: int) -> Tensor:
        """scores_BC -> [B]: the log-odds of the predicted class, or the similarity on the task's scale."""
        if not self.task.labels:
            return self.model.heads[self.task.name].predict(scores_BC)
        others_BC = torch.cat([scores_BC[:, :predicted], scores_BC[:, predicted + 1 :]], dim=1)
        return scores_BC[:, predicted] - torch.logsumexp(others_BC, dim=1)

    def _integrate(self, batch: Batch, predicted: int, text_T: npt.NDArray[np.bool_]) -> tuple[Floats, float, float]:
        """weights_T of the tokens of one text, the score, and the score of its baseline."""
        baseline, size = self._mask_tokens(batch, text_T), len(batch.tokens_T)
        with torch.no_grad():
            text_TE, baseline_TE = (self._embed(row)[:size] for row in (batch, baseline))
            ends = [float(self._score(self._scores(row), predicted)[0]) for row in (batch, baseline)]
        difference_TE, gradients_TE = text_TE - baseline_TE, torch.zeros_like(text_TE)
        # The midpoint rule: its error falls with the square of the number of steps.
        alphas_N = (torch.arange(self.steps, device=text_TE.device) + 0.5) / self.steps
        # Not all steps of a long text at once: the activations of 64 x 512 tokens would take 13 GB.
        for some_N in torch.split(alphas_N, max(1, TOKENS_AT_ONCE // size)):
            path_NTE = (baseline_TE + some_N[:, None, None] * difference_TE).requires_grad_()
            gradients_TE += self._gradients(batch, path_NTE, predicted)
        weights_T = (gradients_TE / self.steps * difference_TE).sum(-1)
        return weights_T.double().cpu().numpy(), ends[0], ends[1]

    def _gradients(self, batch: Batch, path_NTE: Tensor, predicted: int) -> Tensor:
        """[T, E]: the gradients of the score at some points of the path, summed."""
        copies = _copies(batch, len(path_NTE))
        packed = to_device(copies, self.machine)
        # A packed batch is padded to a round number of tokens, whose embeddings are read too.
        padding_PE = path_NTE.new_zeros(len(packed.tokens_T) - path_NTE.shape[:2].numel(), path_NTE.shape[2])
        scores_BC = self._scores(copies, torch.cat([path_NTE.flatten(0, 1), padding_PE]))
        (gradients_NTE,) = torch.autograd.grad(self._score(scores_BC, predicted).sum(), path_NTE)
        return gradients_NTE.sum(0)

    def _embed(self, batch: Batch) -> Tensor:
        return self.model.encoder.embed(to_device(batch, self.machine), None)

    def _mask_tokens(self, batch: Batch, mask_T: npt.NDArray[np.bool_]) -> Batch:
        """The row with the masked tokens replaced by [PAD]; special tokens are kept."""
        special_T = np.isin(batch.tokens_T, self.tokenizer.special_ids)
        return replace(batch, tokens_T=np.where(mask_T & ~special_T, self.tokenizer.pad_id, batch.tokens_T))

    def _words(self, batch: Batch) -> tuple[list[tuple[str, int]], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Words with the number of their text; word_T, -1 for special tokens; number_T, the text of each token."""
        words: list[tuple[str, int]] = []
        word_T = np.full(len(batch.tokens_T), -1)
        sequence_T = np.searchsorted(batch.offsets, np.arange(len(batch.tokens_T)), side="right") - 1
        number_T = np.maximum(sequence_T, batch.segments_T)
        pieces = self.tokenizer.tokens(batch.tokens_T.tolist())
        for at, (token, piece) in enumerate(zip(batch.tokens_T.tolist(), pieces, strict=True)):
            if token in self.tokenizer.special_ids and token != self.tokenizer.unk_id:
                continue
            if piece.startswith(CONTINUATION) and at and word_T[at - 1] >= 0:
                text, number = words[-1]
                words[-1] = text + piece.removeprefix(CONTINUATION), number
            else:
                words.append((piece, int(number_T[at])))
            word_T[at] = len(words) - 1
        return words, word_T, number_T

    def _scores_without(
        self, batch: Batch, word_T: npt.NDArray[np.int64], removed: Sequence[npt.NDArray[np.int64]], predicted: int
    ) -> list[float]:
        """The score of the row without each of several sets of words, computed in one batch."""
        rows = [self._mask_tokens(batch, np.isin(word_T, words)).tokens_T for words in removed]
        copies = replace(_copies(batch, len(removed)), tokens_T=np.concatenate(rows))
        with torch.no_grad():
            scores: list[float] = self._score(self._scores(copies), predicted).tolist()
        return scores


def _copies(batch: Batch, count: int) -> Batch:
    """A batch of `count` copies of the one row."""
    lengths = np.tile(np.diff(batch.offsets), count)
    return Batch(
        tokens_T=np.tile(batch.tokens_T, count),
        segments_T=np.tile(batch.segments_T, count),
        positions_T=np.tile(batch.positions_T, count),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        rows_B=np.zeros(count, np.int64),
        labels_B=None,
    )


def format_explanation(explanation: Explanation) -> str:
    """An explanation as text: a line per word, with a bar of the length of its weight."""
    e, words = explanation, explanation.words
    largest = max(abs(word.weight) for word in words) or 1.0
    pair = len({word.number for word in words}) > 1
    width = max(len(word.text) for word in words)
    baseline = " or ".join(f"{score:+.2f}" for score in e.baseline_scores)
    lines = [f"prediction: {e.prediction} (score {e.score:+.2f}; with all words masked {baseline})"]
    for before, word in zip([None, *words], words, strict=False):
        if pair and (before is None or before.number != word.number):
            lines.append(f"text {word.number + 1}")
        bar = ("+" if word.weight > 0 else "-") * round(20 * abs(word.weight) / largest)
        lines.append(f"  {word.text:<{width}} {word.weight:+7.2f} {bar}".rstrip())
    lines.append(
        f"score without the top {e.num_removed}: {e.score_without_top:+.2f}; "
        f"without {e.num_removed} random words: {e.score_without_random:+.2f}"
    )
    return "\n".join(lines)
