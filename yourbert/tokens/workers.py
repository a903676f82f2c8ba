"""Rows to word pieces in several processes: the same arrays in the same order, however many there are.

One process reads and checks the rows, hands them out a chunk at a time, and takes the answers back in the order in
which it gave the chunks. A worker is this module run as a program; it holds one chunk, and so does the pipe's end, so
memory does not grow with the file. What passes between them is JSON one way and plain arrays the other. A worker whose
parent is gone, killed or not, reads the end of its input and ends too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from yourbert.core.errors import fail
from yourbert.core.tasks import Task
from yourbert.corpus.overlap import Hashes, text_hash
from yourbert.corpus.rows import Row, chunks_of
from yourbert.tokens.packing import Encoded, encode_rows
from yourbert.tokens.tokenizer import Tokenizer

# A chunk of either size is as much as a worker takes at once, and is what is in memory for it.
CHUNK_ROWS, CHUNK_CHARACTERS = 4096, 4_000_000
# So many chunks are done before workers are started: to start them takes as long as this does.
CHUNKS_HERE = 8
# Reading and checking, which one process does, keeps about two workers busy with English and eight with other text.
MOST_WORKERS = 8
LENGTH_BYTES = 8

Chunk = list[Row]
Texts = list[list[str]]
Done = tuple[Encoded, Hashes]


def number_of_workers(threads: int) -> int:
    """The processes that `threads` asks for: 0 is one per physical core that this process may use."""
    return min(threads or physical_cores(), MOST_WORKERS)


def physical_cores() -> int:
    """Processors of this process, those that share a core counted once where the system says so."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len({_core(processor) for processor in allowed})


def _core(processor: int) -> tuple[str, ...]:
    topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
    try:
        return tuple((topology / name).read_text() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (str(processor),)


def encode(tokenizer: Tokenizer, task: Task, texts: Texts) -> Done:
    """The sequences of a chunk's texts, and the hash of each text."""
    hashes = np.fromiter((text_hash(text) for row in texts for text in row), dtype=np.uint64)
    return encode_rows(tokenizer, task, texts), hashes


def encode_in_order(
    rows: Iterable[Row], tokenizer: Tokenizer, task: Task, base: Path, workers: int
) -> Generator[tuple[Chunk, Done], None, None]:
    """The chunks of the rows in order, each with its `encode`. base: the folder that the tokenizer was loaded from.

    To be closed if it is not read to its end. Raises UserError (T09) when a worker dies.
    """
    chunks = chunks_of(rows, CHUNK_ROWS, CHUNK_CHARACTERS)
    for chunk in chunks if workers < 2 else islice(chunks, CHUNKS_HERE):
        yield chunk, encode(tokenizer, task, _texts(chunk))
    if (upcoming := next(chunks, None)) is None:
        return
    crew = [Worker(base, task) for _ in range(workers)]
    try:
        free, waiting = deque(crew), deque[tuple[Chunk, Worker]]()
        while upcoming is not None or waiting:
            finished: tuple[Chunk, Done] | None = None
            if upcoming is None or not free:
                chunk, worker = waiting.popleft()
                finished = chunk, worker.take()
                free.append(worker)
            if upcoming is not None:  # given before anything else is done, so that the worker does not wait
                worker = free.popleft()
                worker.give(_texts(upcoming))
                waiting.append((upcoming, worker))
            if finished is not None:
                yield finished
            upcoming = next(chunks, None)
    finally:
        for worker in crew:
            worker.dismiss()


def _texts(chunk: Chunk) -> Texts:
    return [list(row.texts) for row in chunk]


class Worker:
    """One process that encodes a chunk at a time: `give` it one, `take` the answer, and so on; then `dismiss` it."""

    def __init__(self, base: Path, task: Task) -> None:
        library = str(Path(__file__).resolve().parents[2])
        paths = [library, *filter(None, [os.environ.get("PYTHONPATH")])]
        # Workers are processes already: none needs the tokenizer's threads, or NumPy's.
        alone = {"TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | alone
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._send(json.dumps([str(base), task.to_json()]).encode())

    def give(self, texts: Texts) -> None:
        self._send(json.dumps(texts).encode())

    def take(self) -> Done:
        answer = _receive(self._from)
        if answer is None:
            self._mourn()
        return _parsed(answer)

    def dismiss(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what it was to be told is of no use now

    def _send(self, frame: bytes) -> None:
        try:
            _send(self._to, frame)
        except BrokenPipeError:
            self._mourn()

    def _mourn(self) -> NoReturn:
        status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        fail("T09", f"a process that tokenizes ended early ({how}): out of memory?", fix="set `threads: 1`")


def _send(pipe: IO[bytes], frame: bytes) -> None:
    pipe.write(len(frame).to_bytes(LENGTH_BYTES, "little"))
    pipe.write(frame)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    """The next frame, or None at the end; half a frame is the end, too."""
    length = int.from_bytes(pipe.read(LENGTH_BYTES), "little")
    frame = pipe.read(length) if length else b""
    return frame if length and len(frame) == length else None


def _framed(done: Done) -> bytes:
    """Three counts, the three arrays by sequence, the hashes by text, the tokens."""
    encoded, hashes = done
    by_sequence = (encoded.lengths_S, encoded.second_S, encoded.uncut_S)
    counts = np.array([len(encoded.lengths_S), len(hashes), len(encoded.tokens_T)])
    return b"".join(array.tobytes() for array in (counts, *by_sequence, hashes, encoded.tokens_T))


def _parsed(frame: bytes) -> Done:
    sequences, texts, tokens = map(int, np.frombuffer(frame, np.int64, 3))
    by_sequence = np.frombuffer(frame, np.int64, 3 * sequences, 24).reshape(3, sequences)
    hashes = np.frombuffer(frame, np.uint64, texts, 24 * (1 + sequences))
    tokens_T = np.frombuffer(frame, np.int32, tokens, 24 * (1 + sequences) + 8 * texts)
    return Encoded(tokens_T, *by_sequence), hashes


def main() -> None:
    """What a worker does: its first frame names the model folder and the task, each other one holds texts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody is left to answer: end without a word
    given, answers = sys.stdin.buffer, sys.stdout.buffer
    facts = _receive(given)
    if facts is None:
        return
    base, task_facts = json.loads(facts)
    tokenizer, task = Tokenizer.load(Path(base)), Task.from_json(task_facts)
    while (frame := _receive(given)) is not None:
        _send(answers, _framed(encode(tokenizer, task, json.loads(frame))))


if __name__ == "__main__":
    main()
