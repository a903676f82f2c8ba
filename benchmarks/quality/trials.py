"""One training of a question: what it is told, what must be there before it, where it is kept.

A trial is a model of params.yaml, one seed and a way to train it. Its name follows from what decides
its result, so that questions share what they have in common and nothing is trained twice. What it goes on from, an
encoder trained on text or another run's model of the same seed, is a trial of its own. What a trial answered on dev is
kept as a small record in the repository, so that a question can be answered over several days and machines.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import machine
from yourbert.config.schema import Mixture, Params, Pretrain, Runtime, SequentialModel, TaskData, Training
from yourbert.core.errors import fail, nearest
from yourbert.core.storage import read_json, sha256_of, write_json

PURPOSE = "questions"
MLM = "mlm"


@dataclass(frozen=True)
class Way:
    """What differs from params.yaml: keys of `Training`, of `Mixture`, and of `TaskData` for every pair of texts.

    plain: in fp32 without any speed trick. pretrain: keys of `Pretrain` for a pretraining on the run's own text before.
    further_text: and on the text of --text. alone: for a multi-task model, each task's single-task model
    instead. fresh: a sequential model's tasks, trained from the weights that a mixture starts from; otherwise its
    `init_from` is trained as params.yaml has it.
    """

    name: str
    changes: Mapping[str, Any]
    plain: bool = False
    pretrain: Mapping[str, Any] | None = None
    further_text: bool = False
    alone: bool = False
    fresh: bool = False


@dataclass(frozen=True)
class Setup:
    """Where weights and corpus are. work, records: where trainings and what they answered are kept.

    epochs: instead of those of params.yaml; text: see `Way`.
    """

    base: Path
    corpus: Path
    work: Path
    records: Path
    epochs: int | None = None
    text: Path | None = None


@dataclass(frozen=True)
class Trial:
    run: str
    seed: int
    way: Way
    place: Path
    record: Path
    mixture: Mixture
    settings: Training
    data: dict[str, TaskData]
    runtime: Runtime
    pretrain: Pretrain | None = None
    after: Trial | None = None
    facts: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def trained(self) -> bool:
        """Whether its model lies here, for those that go on from it."""
        return (self.place / "metrics.json").exists()

    @property
    def known(self) -> bool:
        """Whether it is known what it answers."""
        return self.record.exists()

    @property
    def model(self) -> Path:
        return self.place / "model"

    @property
    def seconds(self) -> float:
        """What it took, with what had to be there before it."""
        own: float = read_json(self.record)["seconds"]
        return own + (self.after.seconds if self.after else 0.0)

    def answers(self, task: str) -> npt.NDArray[Any]:
        """The class indexes or similarities of the dev rows."""
        return np.array(read_json(self.record)["dev"][task].split(), dtype=np.float64)


def trial(run: str, seed: int, way: Way, params: Params, setup: Setup) -> Trial:
    """A trial and those before it. Raises UserError (P05, P07): a run unknown or impossible, a missing text."""
    known = [*params.tasks, *params.multitask]
    if run not in known:
        fail("P05", f"no model '{run}' (there are {', '.join(known)}){nearest(run, known)}", where="--runs")
    if way.further_text and setup.text is None:
        fail("P07", f"the way '{way.name}' needs further text", where="--text", fix="name a .txt or .txt.gz file")
    mixture, settings, data = _told(run, way, params, setup.epochs)
    runtime = params.runtime().model_copy(update={"num_threads": 1} | ({"precision": "fp32"} if way.plain else {}))
    after = None
    if isinstance(mixture, SequentialModel) and not way.fresh:
        if way.pretrain is not None:
            what = f"'{run}' starts from '{mixture.init_from}', so the way '{way.name}' has no base to pretrain"
            fail("P05", what, where="--runs", fix="ask it of a task or a mixture")
        after = trial(mixture.init_from, seed, Way(mixture.init_from, {}), params, setup)
    elif way.pretrain is not None:
        after = _pretraining(run, way, params, setup, data)
    facts = {
        "mixture": _facts(mixture), "settings": settings.model_dump(exclude_defaults=True), "plain": way.plain,
        "tasks": {task: _facts(facts) for task, facts in data.items()},
    } | ({"after": after.facts} if after else {})  # fmt: skip
    return Trial(
        run, seed, way, *_places(setup, run, seed, facts), mixture, settings, data, runtime, None, after, facts
    )


def _told(run: str, way: Way, params: Params, epochs: int | None) -> tuple[Mixture, Training, dict[str, TaskData]]:
    """The mixture, the settings and the tasks of a run, with the way's changes and, if given, other epochs."""
    changes = dict(way.changes) | ({"epochs": epochs, "min_steps": 0} if epochs else {})
    mixture = params.mixture(run)
    keys = (Mixture.model_fields.keys() - Training.model_fields.keys(), Training.model_fields, TaskData.model_fields)
    own, settings, data = ({key: value for key, value in changes.items() if key in of} for of in keys)
    assert own.keys() | settings.keys() | data.keys() == changes.keys(), "a way changes what there is"
    told = {task: params.tasks[task].data for task in mixture.tasks}
    read = {task: facts.model_copy(update=data) if len(facts.text) == 2 else facts for task, facts in told.items()}
    return mixture.model_copy(update=own), params.training(run).model_copy(update=settings), read


def _pretraining(run: str, way: Way, params: Params, setup: Setup, data: dict[str, TaskData]) -> Trial:
    assert way.pretrain is not None, "asked for by the way"
    text = str(setup.text.resolve()) if way.further_text and setup.text else ""
    block = params.pretrain.model_copy(update={"enabled": True, "extra_text": text, **way.pretrain})
    changed = params.model_copy(update={"pretrain": block})
    facts = {
        "pretrain": block.model_dump(exclude={"extra_text"}),
        "settings": changed.pretraining().model_dump(exclude_defaults=True),
        "text": sha256_of(Path(text)) if text else "",
        "tasks": {task: _facts(facts) for task, facts in data.items()},
    }  # fmt: skip
    places = _places(setup, run, MLM, facts)
    runtime = params.runtime().model_copy(update={"num_threads": 1})
    mixture = Mixture(tasks=[*data], sampling="proportional")
    return Trial(run, block.seed, way, *places, mixture, changed.pretraining(), data, runtime, block, None, facts)


def _facts(block: Mixture | TaskData) -> dict[str, Any]:
    """What stands in no other facts, without defaults, so that a key that is added later changes no name."""
    return block.model_dump(exclude_defaults=True, exclude={"name", "init_from", *Training.model_fields})


def _places(setup: Setup, run: str, seed: int | str, facts: dict[str, Any]) -> tuple[Path, Path]:
    from yourbert.training.checkpoint import fingerprint

    name = f"{run}-{seed}-{fingerprint(facts)[:12]}"
    return setup.work / name, setup.records / f"{name}.json"


def train(one: Trial, params: Params, setup: Setup) -> None:
    """Trains in this process, after what must be there before, and evaluates; metrics and record are written last."""
    from benchmarks.switches import SWITCHES, off
    from yourbert.evaluation.evaluate import evaluate
    from yourbert.finetuning.finetune import finetune
    from yourbert.pretraining.pretrain import pretrain
    from yourbert.tokens.tokenize_task import tokenize_task

    place, base = one.place, one.after.model if one.after else setup.base
    for task, facts in one.data.items():
        tokenize_task(task, facts, setup.corpus, setup.base, place / "tokens" / task)
    if one.pretrain is not None:
        pretrain(
            one.pretrain, one.settings, one.runtime, one.seed, base, place / "tokens", one.model,
            place / "metrics.json", place / "cost.json",
        )  # fmt: skip
    else:
        with off(*(SWITCHES if one.way.plain else ())):
            finetune(
                f"{PURPOSE}: {place.name}", one.mixture, one.settings, one.runtime, one.seed, base,
                place / "tokens", one.model, place / "curve.csv", place / "cost.json", setup.base,
            )  # fmt: skip
        evaluate(
            one.model, place / "tokens", params.evaluate, one.runtime, place / "answers", place / "metrics.json",
            place / "confusion.csv",
        )  # fmt: skip
    shutil.rmtree(place / "tokens")
    _keep(one)


def _keep(one: Trial) -> None:
    """Writes the record of what was trained."""
    from yourbert.evaluation.predictions import read_predictions

    dev = {}
    for task in () if one.pretrain else one.mixture.tasks:
        read = read_predictions(one.place / "answers" / f"{task}-dev.csv", one.data[task].to_task(task))
        dev[task] = " ".join(f"{answer:g}" for answer in read.predicted_R)
    facts = machine.facts("cpu")
    record = {
        "run": one.run, "seed": one.seed, "way": one.way.name, "seconds": read_json(one.place / "cost.json")["seconds"],
        "revision": facts["revision"], "processor": facts["processor"], "told": one.facts, "dev": dev,
    }  # fmt: skip
    write_json(one.record, record)
