"""Tokenized rows as flat arrays on disk: all sequences one after another, and the offsets between them.

Files are written by appending and read by memory mapping, so a corpus may be larger than memory. The idea is nanoGPT's
.bin file, with offsets, so that no sequence is padded or joined to another.
Shapes: T tokens, S sequences, R rows; S = R * sequences_per_row, which is 2 if a pair is encoded as two inputs.

    tokens.npy   uint16 or int32 [T]    with special tokens
    offsets.npy  int64 [S+1]            sequence s is tokens[offsets[s]:offsets[s+1]]
    second.npy   int32 [S]              position of the first token of the second text; the length if there is none
    labels.npy   int64 or float32 [R]   class index or similarity; no file if the split has no labels
    ids.txt      one line per row
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from yourbert.core.errors import fail
from yourbert.core.storage import read_array, read_json, replacing
from yourbert.core.tasks import SPLITS, Kind, Split, Task
from yourbert.tokens.tokenizer import Tokenizer, tokenizer_sha256

LABEL_TYPES: dict[Kind, str] = {"classification": "<i8", "similarity": "<f4"}
TOKENS_AT_ONCE = 1 << 22  # tokens that `used_token_ids` has in memory at a time, as 64-bit numbers


@dataclass(frozen=True, kw_only=True)
class PackedSplit:
    """One split; its arrays are memory-mapped or in memory. `len()` is the number of rows, R."""

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[Any]
    second: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None
    sequences_per_row: int
    ids_file: Path | None = None

    def __len__(self) -> int:
        return self.n_sequences // self.sequences_per_row

    @property
    def n_sequences(self) -> int:
        return len(self.offsets) - 1

    def ids(self) -> list[str]:
        """The id of every row, read from disk; row numbers if the split is only in memory."""
        if self.ids_file is None:
            return [str(row) for row in range(len(self))]
        return self.ids_file.read_bytes().decode().split("\n")[:-1]


@dataclass(frozen=True)
class TaskTokens:
    """A task and its tokenized splits; "test" may be missing."""

    task: Task
    splits: Mapping[Split, PackedSplit]
    vocabulary_sha256: str
    lower_case: bool

    def check_task(self, task: Task, model: Path) -> None:
        """Raises UserError (C06) if `task`, as the model folder has it, differs, for instance in its labels."""
        if self.task != task:
            what = f"task '{task.name}' differs between its tokens and the model, for instance in its labels"
            fail("C06", what, where=str(model), fix="run `dvc repro`")


def open_tokens(folder: Path) -> TaskTokens:
    """Opens the folder that `tokenize_task` wrote. Raises UserError (C01) if it is damaged."""
    metadata = read_json(folder / "task.json")
    sha256, lower_case = str(metadata.get("vocabulary_sha256", "")), bool(metadata.get("lower_case", True))
    task = Task.from_json(metadata, str(folder / "task.json"))
    splits = {split: open_split(folder / split, task) for split in SPLITS if (folder / split).is_dir()}
    return TaskTokens(task, splits, sha256, lower_case)


def open_tokens_for(folder: Path, encoder: Path) -> TaskTokens:
    """Opens tokens for an encoder folder. Raises UserError: C01 (no vocabulary there), C05 (another tokenizer)."""
    tokens = open_tokens(folder)
    if tokens.vocabulary_sha256 != tokenizer_sha256(encoder):
        fail("C05", "these tokens were made with another vocabulary", where=str(folder), fix="run `dvc repro`")
    return tokens


def open_split(folder: Path, task: Task) -> PackedSplit:
    has_labels = (folder / "labels.npy").exists()
    split = PackedSplit(
        tokens=read_array(folder / "tokens.npy"),
        offsets=read_array(folder / "offsets.npy"),
        second=read_array(folder / "second.npy"),
        labels=read_array(folder / "labels.npy") if has_labels else None,
        sequences_per_row=task.sequences_per_row,
        ids_file=folder / "ids.txt",
    )
    consistent = split.offsets[-1] == len(split.tokens) and len(split.second) == split.n_sequences
    if not consistent or (split.labels is not None and len(split.labels) != len(split)):
        fail("C01", "the lengths of its arrays do not match", where=str(folder), fix="remove it and run `dvc repro`")
    return split


def used_token_ids(splits: Iterable[PackedSplit]) -> npt.NDArray[np.int64]:
    """The sorted ids of the tokens that occur in any of the splits."""
    counts = np.zeros(0, np.int64)
    for split in splits:
        for start in range(0, len(split.tokens), TOKENS_AT_ONCE):
            chunk = np.bincount(split.tokens[start : start + TOKENS_AT_ONCE], minlength=len(counts))
            chunk[: len(counts)] += counts
            counts = chunk
    return np.flatnonzero(counts)


class Encoded(NamedTuple):
    """Sequences as arrays. second_S: as in second.npy. full_lengths_S: the lengths before truncation."""

    tokens_T: npt.NDArray[np.int32]
    lengths_S: npt.NDArray[np.int64]
    second_S: npt.NDArray[np.int64]
    full_lengths_S: npt.NDArray[np.int64]


def encode_rows(tokenizer: Tokenizer, task: Task, texts: Sequence[Sequence[str]]) -> Encoded:
    """Encodes rows of one or two texts; the sequences are in the order of the rows."""
    if task.pair and task.encoding == "cross":
        first, second = ([row[index] for row in texts] for index in (0, 1))
        sequences, full_lengths = tokenizer.encode(first, second, task.max_length, task.truncation_side)
    else:
        all_texts = list(chain.from_iterable(texts))
        sequences, full_lengths = tokenizer.encode(all_texts, None, task.max_length, task.truncation_side)
    return Encoded(
        np.fromiter(chain.from_iterable(ids for ids, _ in sequences), dtype=np.int32),
        np.fromiter((len(ids) for ids, _ in sequences), dtype=np.int64),
        np.fromiter((second for _, second in sequences), dtype=np.int64),
        np.asarray(full_lengths, dtype=np.int64),
    )


def pack(tokenizer: Tokenizer, task: Task, texts: Sequence[Sequence[str]]) -> PackedSplit:
    """Encodes at least one row of texts as a split in memory, without labels."""
    return pack_encoded(task, encode_rows(tokenizer, task, texts))


def pack_encoded(task: Task, encoded: Encoded) -> PackedSplit:
    return PackedSplit(
        tokens=encoded.tokens_T,
        offsets=np.concatenate([[0], np.cumsum(encoded.lengths_S)]),
        second=encoded.second_S,
        labels=None,
        sequences_per_row=task.sequences_per_row,
    )


class GrowingArray:
    """A one-dimensional .npy file written by appending; `finalize` writes the length into its header."""

    def __init__(self, file: BinaryIO, dtype: str) -> None:
        self._file, self._dtype, self._length = file, np.dtype(dtype), 0
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: npt.NDArray[Any]) -> None:
        self._file.write(values.astype(self._dtype, copy=False).tobytes())
        self._length += len(values)

    def finalize(self) -> None:
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() + self._length * self._dtype.itemsize == end, "the header keeps its size"


@contextmanager
def growing_arrays(folder: Path, kinds: Mapping[str, str]) -> Iterator[dict[str, GrowingArray]]:
    """Opens arrays for appending, by name and dtype; the files appear in `folder` if the `with` block succeeds."""
    with ExitStack() as files:
        arrays: dict[str, GrowingArray] = {}
        for name, dtype in kinds.items():
            part = files.enter_context(replacing(folder / f"{name}.npy"))
            arrays[name] = GrowingArray(files.enter_context(part.open("wb")), dtype)
        yield arrays
        for array in arrays.values():
            array.finalize()


class SplitWriter:
    """Appends rows to a split; its files appear in `folder` if the `with` block succeeds."""

    def __init__(self, folder: Path, task: Task, vocabulary_size: int, has_labels: bool) -> None:
        self.folder, self.task = folder, task
        kinds = {"tokens": "<u2" if vocabulary_size <= 65535 else "<i4", "offsets": "<i8", "second": "<i4"}
        self._kinds = kinds | ({"labels": LABEL_TYPES[task.kind]} if has_labels else {})
        self._end = 0
        self._files = ExitStack()

    def __enter__(self) -> Self:
        part = self._files.enter_context(replacing(self.folder / "ids.txt"))
        self._ids = self._files.enter_context(part.open("wb"))
        self._arrays = self._files.enter_context(growing_arrays(self.folder, self._kinds))
        self._arrays["offsets"].append(np.zeros(1, dtype=np.int64))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def append(self, ids: Iterable[str], labels: Sequence[float | None], encoded: Encoded) -> None:
        """Adds rows: their ids, their labels (None in a split without), and `sequences_per_row` sequences per row."""
        ends_S = np.cumsum(encoded.lengths_S) + self._end
        self._end = int(ends_S[-1])
        self._arrays["tokens"].append(encoded.tokens_T)
        self._arrays["offsets"].append(ends_S)
        self._arrays["second"].append(encoded.second_S)
        if "labels" in self._arrays:
            self._arrays["labels"].append(np.array(labels, dtype=self._kinds["labels"]))
        self._ids.write("".join(f"{row_id}\n" for row_id in ids).encode())
