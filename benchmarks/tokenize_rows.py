"""How fast, and in how much memory, `tokenize_task` takes a large generated corpus.

    python -m benchmarks.tokenize_rows --base build/base --rows 5000000

Writes the rows (pairs of short sentences of made-up words, labelled) into a temporary folder, tokenizes them in a
process of its own, and prints rows a second and that process's highest resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from yourbert.config.schema import TaskData

CHUNK = 100_000
DEV_ROWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--base", type=Path, default=Path("build/base"), help="folder with vocab.txt and config.json")
    parser.add_argument("--work", type=Path, default=None, help="use and keep this folder (also how the child is told)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        tokenize(args.work, args.base)
        return
    work = args.work or Path(tempfile.mkdtemp(prefix="tokenize_rows_"))
    try:
        work.mkdir(parents=True, exist_ok=True)
        generate(work / "train.csv", args.rows, seed=1)
        generate(work / "dev.csv", DEV_ROWS, seed=2)
        command = [
            sys.executable,
            "-m",
            "benchmarks.tokenize_rows",
            "--child",
            "--work",
            str(work),
            "--base",
            str(args.base),
        ]
        subprocess.run(command, check=True)
    finally:
        if args.work is None:
            shutil.rmtree(work)


def generate(path: Path, rows: int, seed: int) -> None:
    """Pairs of 4 to 15 words, drawn with the uneven frequencies of a language."""
    rng = np.random.default_rng(seed)
    syllables = ["ka", "lo", "mi", "ter", "son", "ple", "ing", "ra", "du", "ed"]
    words = np.array(["".join(rng.choice(syllables, size=rng.integers(1, 4))) for _ in range(20_000)])
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("id\tfirst\tsecond\tlabel\n")
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            lengths = rng.integers(4, 16, size=2 * n)
            drawn = words[np.minimum(rng.zipf(1.3, size=lengths.sum()) - 1, len(words) - 1)].tolist()
            ends = np.cumsum(lengths).tolist()
            texts = [" ".join(drawn[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
            labels = rng.integers(0, 2, size=n).tolist()
            file.writelines(f"r{start + i:08d}\t{texts[2 * i]}\t{texts[2 * i + 1]}\t{labels[i]}\n" for i in range(n))


def pairs() -> TaskData:
    """What a task over these files is."""
    return TaskData(
        kind="classification", train="train.csv", dev="dev.csv", text=["first", "second"], label="label", id="id",
        labels=["0", "1"], max_length=64,
    )  # fmt: skip


def tokenize(work: Path, base: Path) -> None:
    from yourbert.corpus.rows import check_file
    from yourbert.tokens.tokenize_task import tokenize_task

    start = time.perf_counter()
    assert not check_file(work / "train.csv", "rows", pairs(), "train")
    checked = time.perf_counter()
    train = tokenize_task("rows", pairs(), work, base, work / "tokens")["splits"]["train"]
    done = time.perf_counter()
    figures = {
        "rows": train["rows_used"],
        "tokens": train["tokens"],
        "bytes": (work / "train.csv").stat().st_size,
        "check_rows_per_second": round(train["rows_read"] / (checked - start)),
        "tokenize_rows_per_second": round(train["rows_read"] / (done - checked)),
        "tokenize_seconds": round((done - checked), 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
