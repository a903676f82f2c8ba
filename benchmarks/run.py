"""YourBERT beside its peers: `python -m benchmarks.run cpu` (or gpu) measures, judges and writes a result file.

What is measured stands in `benchmarks.cases`, how in `benchmarks.interleave`, what is to be reached in
`benchmarks.goals`. The exit code is 1 when a goal is not reached; a goal without a figure counts as short.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import goals
from benchmarks.cases import SUITES, Case, Suite
from benchmarks.interleave import Options, Run
from benchmarks.results import RESULTS, Results
from yourbert.config.params import read_params
from yourbert.core.errors import exit_cleanly, fail
from yourbert.core.storage import read_json, write_json


def parsed() -> tuple[Suite, Path, bool, list[Case], Options]:
    from benchmarks.rows import as_peers_read, tokens_of_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--name", help="of the result file in benchmarks/results (default: the suite)")
    parser.add_argument("--minutes", type=float, default=Options.minutes, help="begin no further round after these")
    parser.add_argument("--threads", type=int, default=0, help="for every variant (default: as torch chooses)")
    parser.add_argument("--rounds", type=int, help="at most so many, of every case")
    parser.add_argument("--steps", type=int, help="so many timed steps a block, after one of warm-up")
    parser.add_argument("--variants", default="", help="only these of each case, with commas between")
    parser.add_argument("--add", action="store_true", help="to what the result file holds, instead of replacing it")
    parser.add_argument("--only", default="", help="cases whose name holds one of these words, with commas between")
    parser.add_argument("--weights", type=Path, default=Options.own, help="folder of the weights and the vocabulary")
    parser.add_argument("--corpus", type=Path, default=Options.corpus, help="a folder with the tasks' files")
    given = parser.parse_args()
    named = [case for case in SUITES[given.suite] if any(word in case.name for word in given.only.split(","))]
    cases = [case for case in (_changed(case, given) for case in named) if case.variants]
    _look_for(given)
    if not cases:
        what = f"no case holds '{given.only}'" + (f" and has a variant of '{given.variants}'" if given.variants else "")
        fail("P05", what, where="--only", fix="leave --only and --variants out to see all names")
    options = Options(own=given.weights, corpus=given.corpus, threads=given.threads, minutes=given.minutes)
    read = as_peers_read(read_params(options.params))
    options = replace(options, tokens=tokens_of_corpus(given.corpus, options.own, read, options.scratch))
    return given.suite, RESULTS / f"{given.name or given.suite}.json", given.add, cases, options


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
    if given.variants:
        case = replace(case, variants=tuple(v for v in case.variants if v in given.variants.split(",")))
    return replace(case, rounds=min(case.rounds, given.rounds)) if given.rounds else case


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The results of two runs over different cases. Raises UserError (P05) when machine or code are not the same."""
    same = ("processor", "gpu", "packages", "revision", "changed_files")
    if before["suite"] != now["suite"] or any(before["machine"][key] != now["machine"][key] for key in same):
        what = "the result file is of another suite, machine or revision"
        fail("P05", what, where="--add", fix="leave --add out, or give another --name")
    if both := before["cases"].keys() & now["cases"].keys():
        fail("P05", f"the result file has {', '.join(both)}", where="--add", fix="name other cases with --only")
    threads = sorted({*before["machine"]["threads"], *now["machine"]["threads"]})
    return {
        **now,
        **{key: before[key] + now[key] for key in ("blocks", "peaks", "left_out")},
        "command": f"{before['command']}; {now['command']}",
        "cases": before["cases"] | now["cases"],
        "machine": now["machine"] | {"threads": threads, "load_at_start": before["machine"]["load_at_start"]},
        "minutes": round(before["minutes"] + now["minutes"], 1),
    }


def main() -> None:
    suite, path, add, cases, options = parsed()
    facts = Run(suite, cases, options).measure()
    if add and path.exists():
        facts = joined(read_json(path), facts)
    write_json(path, facts)
    verdicts = goals.evaluate(Results(facts))
    for row in goals.table(verdicts):
        print(f"{row[3]:6} {row[0]:62} {row[2]:>13}  {row[1]}")
    print(f"{facts['minutes']} minutes; written to {path}; `python -m benchmarks.render` draws it")
    sys.exit(goals.exit_code(verdicts))


if __name__ == "__main__":
    exit_cleanly(main)
