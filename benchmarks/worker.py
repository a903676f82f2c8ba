"""A process that answers for one variant: a job in, a block out, as lines of JSON.

Every variant has a process of its own, because libraries set up the process they run in (memory, kernels, threads,
determinism) and must not do so for each other. While one answers the others sleep. `python -m benchmarks.worker NAME`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from benchmarks import cases
from benchmarks.cases import Block, Job
from yourbert.core.program import let_threads_sleep

LIBRARY = (cases.OURS, cases.IN_TURN, *cases.WITHOUT)


def main(variant: str) -> None:
    # Libraries print as they please; the answers keep the real standard output to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if variant in LIBRARY:
        let_threads_sleep()
    for line in sys.stdin:
        try:
            reply = asdict(answer(variant, Job(**json.loads(line))))
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def answer(variant: str, job: Job) -> Block:
    """Imports what the variant needs, nothing else: its start is measured, too."""
    if job.kind == "runs":
        from benchmarks import side_by_side

        return side_by_side.answer(job, in_turn=variant == cases.IN_TURN)
    if variant in LIBRARY:
        from benchmarks import ours, switches

        tricks = cases.WITHOUT.get(variant, ())
        with switches.off(*(trick for trick in tricks if trick != "bf16")):
            return ours.answer(job, "fp32" if "bf16" in tricks else "auto")
    if variant in (cases.DEFAULT, cases.TUNED):
        from benchmarks.peers import trainer

        return trainer.answer(job, variant)
    if variant in (cases.PLAIN, cases.PARITY):
        from benchmarks.peers import plain

        return plain.answer(job)
    if variant == cases.CROSS:
        from benchmarks.peers import cross

        return cross.answer(job)
    from benchmarks.peers import text

    return text.answer(job, variant)


if __name__ == "__main__":
    main(sys.argv[1])
