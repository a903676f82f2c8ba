"""Tokenizes rows in several processes; the result does not depend on their number.

The main process reads and checks the rows, submits them in chunks to a pool of `concurrent.futures`, and takes the
results in the order of submission. At most one chunk more than there are processes is in flight, so memory does not
grow with the file. The pool pickles what passes between processes; no file is pickled.
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

import numpy as np

from yourbert.core.errors import fail
from yourbert.core.tasks import Task
from yourbert.corpus.leakage import Hashes, text_hash
from yourbert.corpus.rows import Row, row_chunks
from yourbert.tokens.packing import Encoded, encode_rows
from yourbert.tokens.tokenizer import Tokenizer

# A chunk of either size is as much as a worker takes at once, and is what is in memory for it.
CHUNK_ROWS, CHUNK_CHARACTERS = 4096, 4_000_000
# So many chunks are done before workers are started: to start them takes as long as this does.
CHUNKS_HERE = 8
# Reading and checking, which one process does, keeps about two workers busy with English and eight with other text.
MAX_WORKERS = 8

Chunk = list[Row]
Texts = list[list[str]]
Done = tuple[Encoded, Hashes]


def number_of_workers(threads: int) -> int:
    """The processes that `threads` asks for: 0 is one per physical core that this process may use."""
    return min(threads or physical_cores(), MAX_WORKERS)


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
    chunks = row_chunks(rows, CHUNK_ROWS, CHUNK_CHARACTERS)
    for chunk in chunks if workers < 2 else islice(chunks, CHUNKS_HERE):
        yield chunk, encode(tokenizer, task, _texts(chunk))
    if (upcoming := next(chunks, None)) is None:
        return
    # Not forked: the tokenizer's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin)
    given = deque[tuple[Chunk, Future[Done]]]()
    try:
        while upcoming is not None or given:
            if upcoming is not None:  # submitted before the caller uses a result, so that no worker is idle
                given.append((upcoming, pool.submit(_encode_here, base, task, _texts(upcoming))))
                upcoming = next(chunks, None)
            if upcoming is None or len(given) > workers:
                chunk, future = given.popleft()
                yield chunk, future.result()
    except BrokenProcessPool:
        fail("T09", "a process that tokenizes ended early: out of memory?", fix="set `threads: 1`")
    finally:
        pool.shutdown(cancel_futures=True)


def _texts(chunk: Chunk) -> Texts:
    return [list(row.texts) for row in chunk]


def _begin() -> None:
    """Initializes a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread per worker
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends the worker if its parent is killed: it holds both ends of the pool's pipes and would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@cache
def _tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.load(base)


def _encode_here(base: Path, task: Task, texts: Texts) -> Done:
    return encode(_tokenizer(base), task, texts)
