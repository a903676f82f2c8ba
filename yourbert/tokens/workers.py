"""Tokenizes rows in several processes; the result does not depend on their number.

The main process reads and checks the rows, submits them in chunks to a process pool, and yields the results in the
order of submission. At most one chunk more than there are workers is in flight, so memory does not grow with the file.
The pool pickles what passes between processes; no pickle is read from a file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path

from yourbert.core.errors import fail
from yourbert.core.tasks import Task
from yourbert.corpus.leakage import Hashes, text_hashes
from yourbert.corpus.rows import CHUNK_CHARACTERS, CHUNK_ROWS, Row, row_chunks
from yourbert.tokens.packing import Encoded, encode_rows
from yourbert.tokens.tokenizer import Tokenizer

# The first chunks are encoded in the main process: starting workers takes as long as encoding this many.
CHUNKS_HERE = 8
# The one process that reads and checks rows keeps about two workers busy with English text, eight with other text.
MAX_WORKERS = 8

Chunk = list[Row]
Texts = list[list[str]]
EncodedChunk = tuple[Encoded, Hashes]


def number_of_workers(num_threads: int) -> int:
    """The number of processes for `num_threads`, at most `MAX_WORKERS`; 0 means one per physical core."""
    return min(num_threads or physical_cores(), MAX_WORKERS)


def physical_cores() -> int:
    """The physical cores that this process may use; the logical ones where the system does not tell them apart."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len({_core(processor) for processor in allowed})


def _core(processor: int) -> tuple[str, ...]:
    topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
    try:
        return tuple((topology / name).read_text(encoding="ascii") for name in ("physical_package_id", "core_id"))
    except OSError:
        return (str(processor),)


def encode_chunk(tokenizer: Tokenizer, task: Task, texts: Texts) -> EncodedChunk:
    """The sequences of a chunk of rows, and the hash of each of their texts."""
    return encode_rows(tokenizer, task, texts), text_hashes(texts)


def encode_in_order(
    rows: Iterable[Row], tokenizer: Tokenizer, task: Task, base: Path, workers: int
) -> Generator[tuple[Chunk, EncodedChunk], None, None]:
    """Yields the chunks of the rows in order, each with its result. base: the folder of the tokenizer.

    Close the generator if it is not exhausted. Raises UserError (T09) if a worker dies.
    """
    chunks = row_chunks(rows, CHUNK_ROWS, CHUNK_CHARACTERS)
    for chunk in chunks if workers < 2 else islice(chunks, CHUNKS_HERE):
        yield chunk, encode_chunk(tokenizer, task, _texts(chunk))
    if (upcoming := next(chunks, None)) is None:
        return
    # Spawned, not forked: the tokenizer's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_init_worker)
    submitted = deque[tuple[Chunk, Future[EncodedChunk]]]()
    try:
        while upcoming is not None or submitted:
            if upcoming is not None:  # submitted before the caller uses a result, so that no worker is idle
                submitted.append((upcoming, pool.submit(_encode_in_worker, base, task, _texts(upcoming))))
                upcoming = next(chunks, None)
            if upcoming is None or len(submitted) > workers:
                chunk, future = submitted.popleft()
                yield chunk, future.result()
    except BrokenProcessPool:
        fail("T09", "a tokenizing process ended unexpectedly: out of memory?", fix="set `num_threads: 1`")
    finally:
        pool.shutdown(cancel_futures=True)


def _texts(chunk: Chunk) -> Texts:
    return [list(row.texts) for row in chunk]


def _init_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread per worker
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends the worker when its parent is killed: it holds both ends of the pool's pipes, so it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@cache
def _tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.load(base)


def _encode_in_worker(base: Path, task: Task, texts: Texts) -> EncodedChunk:
    return encode_chunk(_tokenizer(base), task, texts)
