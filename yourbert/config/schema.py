"""The blocks of params.yaml as frozen, typed models; every key has its type, limits and description at its field.

Top-level training keys hold for every run. A task, a mixture or a sequential model may override any of them in its
block, so `-S lr=1e-5` reaches all runs and `-S tasks.sst.lr=3e-5` reaches one. `yourbert/config/params.py` reads and
checks the file; `yourbert/config/reference.py` writes the reference and the JSON schema from the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model

from yourbert.core.tasks import METRICS, Kind, Metric, PairEncoding, Pooling, Quoting, Task, TruncationSide
from yourbert.core.text import label_key

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def own_text(value: object) -> object:
    """A label, name or column as it is spelled in the file, although YAML reads a number or a boolean."""
    if isinstance(value, bool):
        return str(value).lower()
    return getattr(value, "text", str(value)) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(own_text)]
LabelText = Annotated[str, BeforeValidator(own_text, json_schema_input_type=str | int | float | bool)]
OnInvalidRow = Literal["error", "drop"]
OnLeakage = Literal["warn", "error"]
Precision = Literal["auto", "fp32", "bf16"]
Sampling = Literal["joint", "round_robin", "proportional", "temperature", "annealed"]
# The discriminator picks one branch before validation, so that a wrong value is one problem, not two.
TaskSpecificLayers = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag("[number]")] | Annotated[Literal["all"], Tag("[word]")],
    Discriminator(lambda value: "[word]" if isinstance(value, str) else "[number]"),
]
BUNDLED, CS224N = "bundled", "cs224n"  # the values of `corpus` that are not a folder
PRETRAINED_ON_QUORA = "all-MiniLM-L6-v2"  # the part of `model` that names a checkpoint pretrained on Quora pairs


class Block(BaseModel):
    """A block of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Training(Block):
    """How one model is fine-tuned."""

    freeze_encoder: bool = Field(
        description="Whether to train only the output layers on a frozen encoder (a linear probe), or every weight."
    )
    pooling: Pooling = Field(
        description="The vector of a text: `cls` is BERT's pooled first token, `mean` the mean over its tokens."
    )
    lr: float = Field(gt=0, le=1, description="Peak learning rate.")
    batch_size: int = Field(ge=1, le=65536, description="Rows per optimizer step; with `sampling: joint`, per task.")
    epochs: int = Field(ge=1, le=10_000, description="Passes over the training rows.")
    min_steps: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Minimum number of optimizer steps; if `epochs` gives fewer, whole epochs are added.",
    )
    dropout: Fraction = Field(description="Dropout rate inside the encoder.")
    head_dropout: Fraction = Field(description="Dropout rate before the output layer.")
    schedule: Literal["linear", "constant"] = Field(
        description="Learning rate after the warmup: `linear` decays to 0, `constant` stays at its peak."
    )
    warmup_ratio: Fraction = Field(
        description="Share of all optimizer steps in which the learning rate rises to its peak."
    )
    weight_decay: Fraction = Field(description="AdamW weight decay of matrices; biases and layer norms have none.")
    max_grad_norm: float = Field(ge=0, le=1e6, description="Maximum norm of the gradient; 0 turns clipping off.")
    class_weights: Literal["none", "balanced"] = Field(
        description="`balanced` weights the loss so that every class of a task counts the same."
    )
    early_stopping_patience: int = Field(
        ge=0,
        le=10_000,
        description="Evaluations without a better dev score before training stops early; 0 never stops early.",
    )
    curriculum: Literal["none", "length", "difficulty"] = Field(
        description="Order of the rows in the first epoch: shuffled, short rows first (`length`), or easy rows first "
        "(`difficulty`; `yourbert/finetuning/curriculum.py`). Later epochs are shuffled."
    )
    regularizer: Literal["none", "r_drop", "smart"] = Field(
        description="Penalty on predictions that change under another dropout mask (`r_drop`) or under a small "
        "adversarial shift of the embeddings (`smart`). Ignored with `freeze_encoder: true`."
    )
    regularizer_weight: float = Field(ge=0, le=1000, description="Weight of `regularizer` in the loss.")


def optional(model: type[Block]) -> type[Block]:
    """A model with the same keys, in which every key may be absent or empty and is then None."""
    fields: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        kind: Any = field.annotation
        fields[key] = (Annotated[kind | None, *field.metadata, Field(description=field.description)], None)
    return create_model(f"Optional{model.__name__}", __base__=Block, **fields)


class TrainingOverrides(optional(Training), Block):  # type: ignore[misc]
    """A block that may hold any key of `Training`, which then applies to its model alone.

    An empty value changes nothing; `-S tasks.sst.lr=3e-5` can then fill it.
    """


class TaskData(Block):
    """The files of a task, their columns, and the values of its labels."""

    kind: Kind = Field(description="Whether a row's label is one of several classes or a number.")
    train: Text = Field(description="Training file: a file name in the corpus, or a URL.")
    dev: Text = Field(description="Dev file: a file name in the corpus, or a URL.")
    test: Text | None = Field(
        default=None, description="Test file: a file name in the corpus, or a URL. It may lack labels."
    )
    text: list[Text] = Field(min_length=1, max_length=2, description="The column of the text, or both of a text pair.")
    label: Text = Field(description="The column of the label.")
    id: Text | None = Field(
        default=None, description="The column that identifies a row; without one, rows are numbered."
    )
    quoting: Quoting = Field(
        default="standard",
        description="Whether quotes enclose fields of a csv or tsv file, or are plain characters (`none`).",
    )
    labels: list[LabelText] | None = Field(
        default=None, description="The labels of a classification, in the order of their class indices."
    )
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="The lowest and highest value of a similarity."
    )
    encoding: PairEncoding = Field(
        default="cross",
        description="A text pair is one input (`cross`) or two (`bi`); a similarity with `bi` is the cosine of both.",
    )
    metric: Metric | None = Field(
        default=None,
        description="The score that chooses the best epoch and comes first in the report; if empty, `accuracy` or "
        "`pearson`.",
    )
    max_length: int = Field(
        default=128, ge=8, le=1_000_000, description="Maximum number of tokens of one input; the rest is truncated."
    )
    truncation_side: TruncationSide = Field(
        default="right", description="The part of a long text that is cut off: its end, its beginning or its middle."
    )
    on_invalid_row: OnInvalidRow = Field(
        default="error", description="Whether an invalid row stops the run or is dropped and counted."
    )
    on_leakage: OnLeakage = Field(
        default="warn", description="Whether dev or test rows that also occur in train are a warning or an error."
    )

    def problems(self) -> list[str]:
        """Messages about contradictions between the keys of this block."""
        messages = []
        if self.kind == "classification" and len(self.labels or []) < 2:
            messages.append("a classification needs `labels`, at least two of them")
        keys: dict[str, str] = {}
        for text in self.labels or ():
            if not text.strip():
                messages.append("a label in `labels` is blank")
            elif (other := keys.setdefault(label_key(text), text)) is not text:
                messages.append(f"`labels` has {text!r} and {other!r}, which are the same label")
        files = [file for file in (self.train, self.dev, self.test) if file is not None]
        if len(set(files)) < len(files):
            messages.append("`train`, `dev` and `test` must be different files")
        if self.kind == "similarity" and (self.range is None or self.range[0] >= self.range[1]):
            messages.append("a similarity needs `range`, its lowest and highest value")
        if self.kind == "similarity" and len(self.text) != 2:
            messages.append("a similarity needs two columns in `text`")
        if self.kind == "classification" and self.range is not None:
            messages.append("`range` is only valid for a similarity")
        if self.kind == "similarity" and self.labels is not None:
            messages.append("`labels` is only valid for a classification")
        if self.encoding == "bi" and len(self.text) != 2:
            messages.append("encoding 'bi' needs two columns in `text`")
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            messages.append(f"a {self.kind} has the metrics {', '.join(METRICS[self.kind])}, not {self.metric}")
        return messages

    def to_task(self, name: str) -> Task:
        """The description of the task that later stages and the model folder use."""
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
            truncation_side=self.truncation_side,
            columns=tuple(self.text),
            id_column=self.id,
            quoting=self.quoting,
        )


class TaskBlock(TrainingOverrides):
    """One task: its data, and training keys for its single-task model."""

    data: TaskData = Field(description="The files of the task, their columns, and the values of its labels.")


class Mixture(TrainingOverrides):
    """One model trained on several tasks together, and training keys for this model."""

    tasks: list[Text] = Field(min_length=1, description="Names of the tasks.")
    sampling: Sampling = Field(
        description="The tasks of an optimizer step: `joint` takes a batch of every task and sums the losses; the "
        "others take one task per step, in turn (`round_robin`), in proportion to its rows (`proportional`), to "
        "rows^(1/temperature) (`temperature`), or from proportional towards equal shares (`annealed`)."
    )
    temperature: float = Field(
        default=2.0,
        ge=1,
        le=1000,
        description="For `sampling: temperature`; a higher value makes the shares of the tasks more equal.",
    )
    max_examples_per_task: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Maximum number of rows for which a task counts in an epoch, 0 for all; a larger task contributes "
        "other rows in each epoch.",
    )
    loss_weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        default={}, description="Loss weight of a task; 1 if absent."
    )
    task_pooling: dict[str, Pooling] = Field(
        default={}, description="`pooling` of single tasks, if not that of the model."
    )
    task_specific_layers: dict[str, TaskSpecificLayers] = Field(
        default={},
        description="Only in a sequential model: the number of last encoder layers that a task does not share, with "
        "the pooler if it uses that. Only these tasks are trained, with these layers and their heads; all other "
        "weights are frozen. The layers are initialized from `init_from`; with `all`, which shares only the word "
        "embeddings, from the pretrained encoder.",
    )
    model_selection_metric: str = Field(
        default="mean",
        description="The dev score that chooses the best epoch: `mean` over all tasks, each scaled to 0..1, or a "
        "task's name.",
    )

    @property
    def trained_tasks(self) -> list[str]:
        """The tasks that are trained: those with task-specific layers, or all if there are none."""
        return [task for task in self.tasks if task in self.task_specific_layers] or self.tasks


class SequentialModel(Mixture):
    """A mixture whose training starts from another model: its encoder, and its heads of the same tasks."""

    name: Name = Field(description="Name of the new model.")
    init_from: Name = Field(
        description="The task, mixture or earlier sequential model whose weights of the same seed it starts from."
    )


class Pretrain(Block):
    """Masked-language-model training on the training texts of all tasks, before fine-tuning."""

    enabled: bool = Field(description="Whether to pretrain.")
    seed: Seed = Field(description="Seed of the pretraining; all models start from this one encoder.")
    extra_text: str = Field(
        description="File or folder of additional text (`.txt`, `.txt.gz`), one passage per line; `''` for none."
    )
    lr: float = Field(gt=0, le=1, description="Peak learning rate.")
    batch_size: int = Field(ge=1, le=65536, description="Passages per optimizer step.")
    epochs: int = Field(ge=1, le=10_000, description="Passes over the passages.")
    warmup_ratio: Fraction = Field(
        description="Share of all optimizer steps in which the learning rate rises to its peak."
    )
    weight_decay: Fraction = Field(description="AdamW weight decay of matrices; biases and layer norms have none.")
    dropout: Fraction = Field(description="Dropout rate inside the encoder.")
    mlm_probability: float = Field(gt=0, lt=1, description="Share of tokens to predict.")
    max_length: int = Field(
        ge=8, le=1_000_000, description="Maximum number of tokens of a passage; longer ones are split."
    )


class Evaluate(Block):
    """How a model is evaluated on dev and test."""

    bootstrap_samples: int = Field(ge=100, le=1_000_000, description="Bootstrap samples of a confidence interval.")
    num_explanations: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Dev rows of highest loss, per task, that get word attributions in the report; 0 for none.",
    )
    confidence_level: float = Field(gt=0.5, lt=1, description="Confidence level of the intervals.")
    submission: dict[str, str] = Field(
        description="Second column heading of a task's submission file; a task without one gets no file."
    )


class Report(Block):
    """How the report compares models."""

    permutations: int = Field(ge=100, le=10_000_000, description="Random permutations of the paired test.")
    alpha: float = Field(gt=0, lt=0.5, description="Significance level of all comparisons together.")
    equivalence_margin: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Two models are called equivalent when the interval of their difference lies within this margin, "
        "in units of the score (0.01 is one point of accuracy, or 0.01 of a correlation).",
    )


class Runtime(Block):
    """Where and how to compute."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="`auto` takes a GPU if there is one.")
    precision: Precision = Field(description="`auto` takes bf16 where the device computes faster in it.")
    num_threads: int = Field(ge=0, le=1024, description="Number of CPU threads; 0 for one per physical core.")
    deterministic: bool = Field(
        description="Whether a GPU, too, must give the same bytes each time, which is slower; a CPU always does."
    )
    num_processes: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Number of processes that train one model together, each on its own GPU or on its share of the "
        "CPU threads. They change only the order of sums and, with dropout, the masks. torchrun overrides it.",
    )


class Params(Training, Runtime):
    """All of params.yaml."""

    model: str = Field(
        description="Hub id (`org/name` or `org/name@revision`), local folder, or `random:<layers>x<width>` for tests."
    )
    corpus: str = Field(description="`bundled`, `cs224n`, or a folder with the files that `tasks` name.")
    seeds: list[Seed] = Field(min_length=1, max_length=1000, description="Every model is trained once per seed.")
    tasks: dict[Name, TaskBlock] = Field(
        min_length=1, description="The tasks by name: `data`, and training keys for this task's single-task model."
    )
    mixtures: dict[Name, Mixture] = Field(description="Models trained on several tasks together, by name.")
    sequential: list[SequentialModel] = Field(description="Models whose training starts from another model.")
    pretrain: Pretrain = Field(description="Masked-language-model training before fine-tuning.")
    evaluate: Evaluate = Field(description="How a model is evaluated on dev and test.")
    report: Report = Field(description="How the report compares models.")

    @property
    def multitask(self) -> dict[str, Mixture]:
        """The multi-task models by name: the mixtures, then the sequential models."""
        return {**self.mixtures, **{model.name: model for model in self.sequential}}

    def training(self, run: str) -> Training:
        """The training keys of the model named `run`: the top-level values with its overrides."""
        return Training(**{key: getattr(self, key) for key in Training.model_fields} | self.overrides(run))

    def mixture(self, run: str) -> Mixture:
        """The mixture on which the model named `run` is trained; a single task is a mixture of one."""
        return self.multitask.get(run) or Mixture(tasks=[run], sampling="proportional")

    def init_of(self, run: str) -> str | None:
        """The model from which the training of `run` starts; None if it starts from the encoder."""
        return next((model.init_from for model in self.sequential if model.name == run), None)

    def task_specific_layers(self, run: str) -> dict[str, TaskSpecificLayers]:
        """`task_specific_layers` of the model named `run`, with those inherited from `init_from`."""
        by_model: dict[str, dict[str, TaskSpecificLayers]] = {}
        for model in self.sequential:
            inherited = {task: n for task, n in by_model.get(model.init_from, {}).items() if task in model.tasks}
            by_model[model.name] = inherited | model.task_specific_layers
        return by_model.get(run, {})

    def pooling_of(self, run: str, task: str) -> Pooling:
        """The pooling of a task in the model named `run`."""
        return self.mixture(run).task_pooling.get(task) or self.training(run).pooling

    def overrides(self, run: str) -> dict[str, Any]:
        """The training keys that the model named `run` overrides."""
        block: TrainingOverrides = self.tasks[run] if run in self.tasks else self.multitask[run]
        return block.model_dump(include=set(Training.model_fields), exclude_none=True)

    def pretraining(self) -> Training:
        """The training settings for pretraining; `schedule` and `max_grad_norm` come from the top level."""
        return Training(
            **self.pretrain.model_dump(include=set(Training.model_fields)), schedule=self.schedule,
            max_grad_norm=self.max_grad_norm,
            # Off, or without a meaning for masked-language-model training.
            freeze_encoder=False, pooling="mean", head_dropout=0.0, class_weights="none", early_stopping_patience=0,
            curriculum="none", regularizer="none", regularizer_weight=0.0,
        )  # fmt: skip

    def runtime(self, num_processes: int = 1) -> Runtime:
        """Where and how to compute; a stage that trains passes `num_processes`, any other stage uses one."""
        return Runtime(**{key: getattr(self, key) for key in Runtime.model_fields} | {"num_processes": num_processes})
