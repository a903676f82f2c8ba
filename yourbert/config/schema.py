"""The blocks of params.yaml as frozen, typed values, each documented beside its keys.

Top-level training keys hold for every run; a task, a mixture or a chain may override any of them under its own name,
so `-S lr=1e-5` reaches all runs and `-S tasks.sst.lr=3e-5` one. `yourbert/config/params.py` reads and checks the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from yourbert.core.tasks import METRICS, Kind, Metric, PairEncoding, Pooling, Task, Truncation

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]
LabelText = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) in (int, float) else v)]
OnBadRow = Literal["error", "drop"]
OnOverlap = Literal["warn", "error"]
Precision = Literal["auto", "fp32", "bf16"]
# Told apart before they are checked, so that a wrong value is one problem.
OwnLayers = Annotated[
    Annotated[int, Field(ge=1), Tag("[number]")] | Annotated[Literal["all"], Tag("[word]")],
    Discriminator(lambda value: "[word]" if isinstance(value, str) else "[number]"),
]
BUNDLED, CS224N = "bundled", "cs224n"  # what `corpus` may say beside a folder
Sampling = Literal["joint", "round_robin", "proportional", "temperature", "annealed"]


class Block(BaseModel):
    """A block of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Training(Block):
    """How one model is trained.

    tuning: "full" moves every weight, "head" only the last layer on a frozen encoder. pooling: a text's vector is
    BERT's pooled first token ("cls") or the mean of its tokens ("mean"). lr: the highest learning rate of the schedule.
    batch_size: rows a step, per task. epochs: passes over the rows. min_steps: where those have fewer optimizer steps,
    whole passes are added until there are as many, as suits few rows. dropout: inside the encoder; head_dropout: before
    the last layer. schedule: after the warmup the rate falls linearly to 0, or stays. warmup: share of all steps in
    which the rate climbs. weight_decay: of matrices, not of biases and norms. clip: largest norm of the gradient, 0 for
    none. class_weights:
    "balanced" lets every class of a task count alike. patience: evaluations without a better dev score before stopping,
    0 for never. order: how the first pass meets the rows, a curriculum or not (`yourbert/finetuning/curriculum.py`).
    consistency: a second look at the rows must not change the answers: another draw of dropout (R-Drop), or embeddings
    shifted a little ("adversarial", SMART); of a whole model. consistency_weight: how much that counts in the loss.
    """

    tuning: Literal["full", "head"]
    pooling: Pooling
    lr: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    epochs: Annotated[int, Field(ge=1)]
    min_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    dropout: Share
    head_dropout: Share
    schedule: Literal["linear", "constant"]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(ge=0)]
    class_weights: Literal["none", "balanced"]
    patience: Annotated[int, Field(ge=0)]
    order: Literal["shuffled", "short_first", "easy_first"]
    consistency: Literal["none", "dropout", "adversarial"]
    consistency_weight: Annotated[float, Field(ge=0)]


class Overriding(Block):
    """A block that may also hold any key of `Training`, where one task or mixture differs from the top level.

    An empty value means no difference; `-S tasks.sst.lr=3e-5` can then fill it.
    """

    model_config = ConfigDict(extra="allow")


class TaskData(Block):
    """What `tokenize` must know of a task: files of the corpus, their columns, what the labels may be.

    kind: whether a row's answer is one of several labels or a number. train, dev, test: a file of the corpus, by name
    or URL; test may be absent, and lack labels. text: the columns of the text, or of the two of a pair. label: the
    column of the answer. id: the column that names a row; without one rows are counted. labels: the label texts of a
    classification, in order. range: the two ends of a similarity scale. encoding: a pair is read in one input ("cross")
    or as two ("bi"; a similarity is then their cosine). metric: the score that chooses the epoch and heads the report;
    accuracy or pearson, by default. max_length: tokens of one input, at most. truncate: which end of a long text stays.
    on_bad_row: whether a row that cannot be used stops the work or is left out and counted. on_overlap: whether dev or
    test rows that stand in train too are a warning or an error.
    """

    kind: Kind
    train: str
    dev: str
    test: str | None = None
    text: Annotated[list[str], Field(min_length=1, max_length=2)]
    label: str
    id: str | None = None
    labels: list[LabelText] | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    encoding: PairEncoding = "cross"
    metric: Metric | None = None
    max_length: Annotated[int, Field(ge=8)] = 128
    truncate: Truncation = "head"
    on_bad_row: OnBadRow = "error"
    on_overlap: OnOverlap = "warn"

    def problems(self) -> list[str]:
        """What is wrong between the keys of this block."""
        found = []
        if self.kind == "classification" and len(self.labels or []) < 2:
            found.append("a classification needs `labels`, at least two of them")
        if self.labels and len(set(self.labels)) < len(self.labels):
            found.append("`labels` names one label twice")
        if self.kind == "similarity" and (self.range is None or self.range[0] >= self.range[1]):
            found.append("a similarity needs `range`, its lowest and highest value")
        if self.kind == "similarity" and len(self.text) != 2:
            found.append("a similarity needs two columns in `text`")
        if self.kind == "classification" and self.range is not None:
            found.append("`range` belongs to a similarity")
        if self.kind == "similarity" and self.labels is not None:
            found.append("`labels` belong to a classification")
        if self.encoding == "bi" and len(self.text) != 2:
            found.append("encoding 'bi' needs two columns in `text`")
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            found.append(f"a {self.kind} has the metrics {', '.join(METRICS[self.kind])}, not {self.metric}")
        return found

    def facts(self, name: str) -> Task:
        low, high = self.range or (0.0, 1.0)
        return Task(
            name=name,
            kind=self.kind,
            labels=tuple(self.labels or ()),
            low=float(low),
            high=float(high),
            pair=len(self.text) == 2,
            encoding=self.encoding,
            metric=self.metric or METRICS[self.kind][0],
            max_length=self.max_length,
            truncate=self.truncate,
            columns=tuple(self.text),
            id_column=self.id,
        )


class TaskBlock(Overriding):
    data: TaskData


class Mixture(Overriding):
    """Tasks that one model learns together.

    tasks: their names. sampling: "joint" takes a batch of every task each step and sums their losses; the others take
    one task a step, in turn, in proportion to rows, to rows^(1/temperature), or annealed from proportional towards
    equal shares. temperature: of the rule of that name; the higher, the more alike the shares. row_limit: rows of one
    task that count, at most, when an epoch is planned, 0 for all; a task with more gives other rows in each epoch.
    weights: a task's factor in the loss, 1 where absent. poolings: a task's own `pooling`, where it is not that of the
    model. own_layers: of a chain, for a task how many of the encoder's last layers it has for itself, with the pooler
    if it reads that. Where there are such tasks, only they learn, with these layers and their heads; all else stays as
    it comes, other tasks and what layers they have had for themselves before, too. They begin as copies of what stands
    there in `init`; "all", which share the word table and no more, begin as the pretrained ones.
    select: whose dev score chooses the epoch to keep, "mean" (over all tasks, each on 0..1) or that of one task.
    """

    tasks: Annotated[list[str], Field(min_length=1)]
    sampling: Sampling
    temperature: Annotated[float, Field(ge=1)] = 2.0
    row_limit: Annotated[int, Field(ge=0)] = 0
    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    poolings: dict[str, Pooling] = {}
    own_layers: dict[str, OwnLayers] = {}
    select: str = "mean"

    @property
    def learns(self) -> list[str]:
        """The tasks that training moves."""
        return [task for task in self.tasks if task in self.own_layers] or self.tasks


class Chain(Mixture):
    """A model that goes on from another: with its encoder, and its heads of the same tasks.

    name: of the new model. init: the task, mixture or chain above it whose model with the same seed it starts from.
    """

    name: Name
    init: Name


class Pretrain(Block):
    """Masked-language-model training on the tasks' own training text before fine-tuning.

    enabled: whether it is done at all. seed: of its own, as all models start from its one encoder. text: a file or
    folder of further text (.txt, .txt.gz), one passage a line; "" for none. mask_rate: the share of word pieces to
    guess. max_length: tokens of one passage; a
    longer one is cut into several. lr, batch_size, epochs, warmup, weight_decay, dropout: as for any training.
    """

    enabled: bool
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    text: str
    lr: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    dropout: Share
    mask_rate: Annotated[float, Field(gt=0, lt=1)]
    max_length: Annotated[int, Field(ge=8)]


class Evaluate(Block):
    """How a model is judged on dev and test.

    bootstrap: resamples behind every interval. confidence: the share an interval covers. explained: how many of each
    task's worst dev rows are explained word by word, for the report's page; 0 for none. submission: for a task, the
    second word of the heading of its hand-in file; tasks not named get no such file.
    """

    bootstrap: Annotated[int, Field(ge=100)]
    explained: Annotated[int, Field(ge=0)] = 0
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    submission: dict[str, str]


class Report(Block):
    """permutations: draws of the paired test. alpha: the level at which a difference counts as real."""

    permutations: Annotated[int, Field(ge=100)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]


class Runtime(Block):
    """Where to compute.

    device: "auto" takes a GPU where there is one. precision: "auto" takes bf16 where the processor computes faster in
    it. threads: 0 for one per physical core. deterministic: whether a GPU, too, must give the same bytes each time,
    which is slower; a CPU always does. ranks: processes that train one model together, each on a GPU of its own, or on
    its share of the threads. They change the order of sums and, with dropout, the masks; nothing else. Under torchrun
    its own number holds.
    """

    device: Literal["auto", "cpu", "cuda"]
    precision: Precision
    threads: Annotated[int, Field(ge=0)]
    deterministic: bool
    ranks: Annotated[int, Field(ge=1, le=1024)] = 1


class Params(Training, Runtime):
    """All of params.yaml."""

    model: str
    corpus: str
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    tasks: Annotated[dict[Name, TaskBlock], Field(min_length=1)]
    mixtures: dict[Name, Mixture]
    chains: list[Chain]
    pretrain: Pretrain
    evaluate: Evaluate
    report: Report

    @property
    def shared(self) -> dict[str, Mixture]:
        """Every model that is not a task's own, by name: the mixtures, then the chains."""
        return {**self.mixtures, **{chain.name: chain for chain in self.chains}}

    def training(self, run: str) -> Training:
        """How the model named `run` is trained: the top-level keys with the run's own overrides."""
        top = {key: getattr(self, key) for key in Training.model_fields}
        return Training.model_validate(top | self.overrides(run))

    def mixture(self, run: str) -> Mixture:
        """What the model named `run` learns; one task is a mixture of one."""
        return self.shared.get(run) or Mixture(tasks=[run], sampling="proportional")

    def init_of(self, run: str) -> str | None:
        """The model that the one named `run` goes on from; None for one that starts from the encoder."""
        return next((chain.init for chain in self.chains if chain.name == run), None)

    def own_layers(self, run: str) -> dict[str, OwnLayers]:
        """How many last layers tasks have for themselves in the model named `run`, with those that came with `init`."""
        of: dict[str, dict[str, OwnLayers]] = {}
        for chain in self.chains:
            kept = {task: number for task, number in of.get(chain.init, {}).items() if task in chain.tasks}
            of[chain.name] = kept | chain.own_layers
        return of.get(run, {})

    def pooling_of(self, run: str, task: str) -> Pooling:
        """What a task reads in the model named `run`, whether its overrides are valid or not."""
        return self.mixture(run).poolings.get(task) or self.overrides(run).get("pooling", self.pooling)

    def overrides(self, run: str) -> dict[str, Any]:
        """The training keys that the model named `run` has for itself."""
        block: Overriding = self.tasks[run] if run in self.tasks else self.shared[run]
        return {key: value for key, value in (block.model_extra or {}).items() if value is not None}

    def pretraining(self) -> Training:
        """The training keys of `pretrain` in the form the training loop takes; those it lacks are the top level's."""
        own = self.pretrain.model_dump(include=set(Training.model_fields))
        unused = {
            "tuning": "full", "pooling": "mean", "head_dropout": 0.0, "patience": 0,
            "class_weights": "none", "order": "shuffled", "consistency": "none", "consistency_weight": 0.0,
        }  # fmt: skip
        return Training.model_validate({"schedule": self.schedule, "clip": self.clip} | own | unused)

    def runtime(self, ranks: int = 1) -> Runtime:
        """Where to compute: a stage that trains asks for `ranks` processes, any other for one."""
        return Runtime(**{key: getattr(self, key) for key in Runtime.model_fields} | {"ranks": ranks})
