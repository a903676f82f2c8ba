"""YourBERT beside its peers: `python -m benchmarks.run cpu` (or gpu) measures, judges and writes a result file.

What is measured stands in `benchmarks.cases`, how in `benchmarks.interleave`, what is to be reached in
`benchmarks.goals`. The exit code is 1 when a goal is not reached; a goal without a figure counts as short.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import goals
from benchmarks.cases import SUITES, Case, Suite
from benchmarks.interleave import Options, Run
from benchmarks.results import RESULTS, Results
from yourbert.errors import exit_cleanly, fail
from yourbert.params import read_params
from yourbert.storage import write_json


def parsed() -> tuple[Suite, str, list[Case], Options]:
    from benchmarks.rows import as_peers_read, tokens_of_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--name", help="of the result file in benchmarks/results (default: the suite)")
    parser.add_argument("--minutes", type=float, default=Options.minutes, help="begin no further round after these")
    parser.add_argument("--threads", type=int, default=0, help="for every variant (default: as torch chooses)")
    parser.add_argument("--rounds", type=int, help="at most so many, of every case")
    parser.add_argument("--steps", type=int, help="so many timed steps a block, after one of warm-up")
    parser.add_argument("--only", default="", help="cases whose name holds one of these words, with commas between")
    parser.add_argument("--weights", type=Path, default=Options.own, help="folder of the weights and the vocabulary")
    parser.add_argument("--corpus", type=Path, default=Options.corpus, help="a folder with the tasks' files")
    given = parser.parse_args()
    cases = [
        _changed(case, given) for case in SUITES[given.suite] if any(w in case.name for w in given.only.split(","))
    ]
    _look_for(given)
    if not cases:
        fail("P05", f"no case holds '{given.only}'", where="--only", fix="leave --only out to see all names")
    options = Options(own=given.weights, corpus=given.corpus, threads=given.threads, minutes=given.minutes)
    read = as_peers_read(read_params(options.params))
    options = replace(options, tokens=tokens_of_corpus(given.corpus, options.own, read, options.scratch))
    return given.suite, given.name or given.suite, cases, options


def _look_for(given: argparse.Namespace) -> None:
    """Raises UserError (C01) for a folder that is not there."""
    if not (given.weights / "vocab.txt").is_file():
        fail(
            "C01", "there is no vocab.txt", where=str(given.weights), fix="run `make bench`, which fetches the weights"
        )
    if not given.corpus.is_dir():
        fail("C01", "there is no such folder", where=str(given.corpus), fix="run `make bench`, or name a --corpus")


def _changed(case: Case, given: argparse.Namespace) -> Case:
    if given.steps:
        case = replace(case, warmup=min(1, case.warmup), steps=given.steps)
    return replace(case, rounds=min(case.rounds, given.rounds)) if given.rounds else case


def main() -> None:
    suite, name, cases, options = parsed()
    facts = Run(suite, cases, options).measure()
    write_json(RESULTS / f"{name}.json", facts)
    verdicts = goals.evaluate(Results(facts))
    for row in goals.table(verdicts):
        print(f"{row[3]:6} {row[0]:62} {row[2]:>13}  {row[1]}")
    print(f"{facts['minutes']} minutes; written to {RESULTS / name}.json; `python -m benchmarks.render` draws it")
    sys.exit(goals.exit_code(verdicts))


if __name__ == "__main__":
    exit_cleanly(main)
