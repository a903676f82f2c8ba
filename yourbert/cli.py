"""The command `yourbert`: what to do with a tailored model. A command imports what it needs when it is run.

So `--help` and a wrong word are answered at once, without torch.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from yourbert.errors import CommandLine, exit_cleanly

BROKEN_PIPE = 128 + 13  # what the shell says of a program that SIGPIPE ended


def main() -> NoReturn:
    """The console script: runs the command that the words name; a user's mistake is one line and an exit code."""
    # OpenMP reads this when torch is imported; the reason stands in stages/__init__.py.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    exit_cleanly(run)


def run() -> None:
    options = command_line().parse_args()
    try:
        options.command(options)
    except BrokenPipeError:
        # Who read the output has gone, which is no mistake. What is still in the buffer goes nowhere, silently.
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def command_line() -> CommandLine:
    parser = CommandLine(prog="yourbert", description="Use a tailored model, or change what is tailored.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_predict(commands.add_parser("predict", help="answer every row of a file", description=PREDICT))
    add_explain(commands.add_parser("explain", help="which words an answer rests on", description=EXPLAIN))
    add_export(commands.add_parser("export", help="a model for another library", description=EXPORT))
    add_init(commands.add_parser("init", help="a task of your own, from its table", description=INIT))
    add_subsets(commands.add_parser("subsets", help="a mixture for every subset of tasks", description=SUBSETS))
    add_doctor(commands.add_parser("doctor", help="find and mend what a kill left behind", description=DOCTOR))
    add_compare(commands.add_parser("compare", help="two revisions, by the paired test", description=COMPARE))
    add_skills(commands.add_parser("skills", help="which weights carry a task's skill", description=SKILLS))
    return parser


PREDICT = """Answers every row of a table (.csv, .tsv, .jsonl, .parquet; .gz too) or every line of a text (.txt, or -
for the standard input; of a pair task, two texts with a tab between them), in order: id, prediction, and the
probability of each class."""


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("input", help="a table or text file, or -")
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="where a table has its texts")
    parser.add_argument("--id", metavar="NAME", help="where a table has its ids; else rows are counted from 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .tsv or .jsonl; else csv to standard output")
    add_runtime(parser)
    parser.set_defaults(command=predict)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """The options that say what to compute with, as the keys of the same names in params.yaml."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the fastest")
    parser.add_argument("--threads", type=count, default=0, metavar="N", help="0, the default: one per physical core")


def count(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from 0 on")
    return int(word)


def predict(options: argparse.Namespace) -> None:
    from yourbert.answers import answer
    from yourbert.settings import Runtime

    runtime = Runtime(device=options.device, precision=options.precision, threads=options.threads, deterministic=False)
    answer(
        options.model,
        options.input,
        task_name=options.task,
        columns=options.columns,
        id_column=options.id,
        out=options.out,
        runtime=runtime,
    )


EXPLAIN = """Says what a model answers to a text, or a pair of texts, and what each word adds to that answer's score
(integrated gradients): to the log-odds of a label, to a similarity itself. The last line tests it: without the words
that weigh most the score should fall further than without as many others."""


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="the text, or the two texts of a pair")
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_runtime(parser)
    parser.set_defaults(command=explain)


def explain(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from yourbert.answers import open_explainer, prepared
    from yourbert.explain import shown
    from yourbert.settings import Runtime

    runtime = Runtime(device=options.device, precision="fp32", threads=options.threads, deterministic=False)
    found = open_explainer(options.model, options.task, prepared(runtime)).explain(options.texts)
    sys.stdout.write((json.dumps(asdict(found), ensure_ascii=False) if options.json else shown(found)) + "\n")


EXPORT = """Writes a model in the form of another library, with a page about it: one task for transformers
(AutoModelForSequenceClassification) or sentence-transformers, or all tasks of it as ONNX."""


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--to", choices=("transformers", "sentence-transformers", "onnx"), required=True)
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--int8", action="store_true", help="of ONNX: products in 8-bit numbers, a quarter of the size")
    parser.set_defaults(command=export)


def export(options: argparse.Namespace) -> None:
    from yourbert.answers import prepared
    from yourbert.export.export import export
    from yourbert.settings import Runtime

    machine = prepared(Runtime(device="cpu", precision="fp32", threads=0, deterministic=False))
    export(
        options.model,
        options.out,
        options.to,
        options.task,
        options.int8,
        machine,
        Path("metrics"),
        Path("build/tokens"),
    )


INIT = """Looks at the tables of a task and adds its block to params.yaml: which columns are texts, which is the label,
and what it may be. Every row is then checked as the pipeline will. The files belong into the corpus: data/, or the
folder that `corpus` in params.yaml names."""


def add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the task")
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text", nargs="+", default=[], metavar="COLUMN", help="one, or the two of a pair")
    parser.add_argument("--label", metavar="COLUMN")
    parser.add_argument("--id", metavar="COLUMN", help="names each row")
    parser.set_defaults(command=init)


def init(options: argparse.Namespace) -> None:
    import yaml

    from yourbert.propose import propose
    from yourbert.tasks import Split

    given: dict[Split, Path | None] = {"train": options.train, "dev": options.dev, "test": options.test}
    files = {split: file for split, file in given.items() if file}
    block, reasons = propose(options.name, files, options.text, options.label, options.id)
    sys.stdout.write("".join(f"{reason}\n" for reason in reasons) + "\nadded to params.yaml, below tasks:\n\n")
    sys.stdout.write(yaml.safe_dump({options.name: {"data": block}}, sort_keys=False))
    folders = {file.resolve().parent for file in files.values()}
    if len(folders) == 1:
        sys.stdout.write(f"\nits files lie in {folders.pop()}: `dvc add data` if that is data/, else set `corpus`\n")
    sys.stdout.write(f"train it: dvc repro evaluate@{options.name}-11711\n")


SUBSETS = """Adds a mixture for every two or more of the tasks to params.yaml, with the settings of another mixture.
`dvc repro` then trains those that are missing, and report/cost.md says what each task gains from which others."""


def add_subsets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="the tasks to combine; all where none is named")
    parser.add_argument("--like", metavar="MIXTURE", help="whose settings the new ones take; the first, by default")
    parser.set_defaults(command=subsets)


def subsets(options: argparse.Namespace) -> None:
    from yourbert import subsets

    new, there = subsets.add_subsets(options.tasks, options.like)
    for title, names in (("added to params.yaml", new), ("there already", there)):
        if names:
            sys.stdout.write(f"{title}: {', '.join(names)}\n")


DOCTOR = """Looks for what a kill, a full disk or another hand left behind: files of DVC that are broken, objects of its
cache that were cut, model folders that are not as they were saved, unfinished files, folders of killed experiments,
other versions of packages than locked. Exit code 0 when nothing is left to do."""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="mend it; refused while somebody works in the project")
    parser.set_defaults(command=look_over)


def look_over(options: argparse.Namespace) -> None:
    from yourbert.doctor.run import doctor

    sys.exit(doctor(Path.cwd(), options.fix))


COMPARE = """Compares the dev answers of two revisions (commits, branches, experiments, or `workspace`) for every model
that both have: scores, differences with intervals, p-values corrected over all of them, verdicts, and how many rows
turned right or wrong. Nothing is trained: the predictions come from DVC's cache. With --gate the exit code is 10 when
anything is really worse."""
WORSE = 10


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", nargs="?", default="HEAD", metavar="BEFORE", help="HEAD, by default")
    parser.add_argument("after", nargs="?", default="workspace", metavar="AFTER", help="the workspace, by default")
    parser.add_argument("--md", action="store_true", help="as a table of Markdown, for a pull request")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the rows that changed, as csv")
    parser.add_argument("--gate", action="store_true", help=f"end with code {WORSE} when anything is really worse")
    parser.set_defaults(command=compare)


def compare(options: argparse.Namespace) -> None:
    from yourbert.compare import compare_revisions

    told, verdicts = compare_revisions(options.before, options.after, options.md, options.rows)
    sys.stdout.write(told + "\n")
    if options.gate and "worse" in verdicts.values():
        sys.exit(WORSE)


SKILLS = """Grafts ever more of each model's weights onto the encoder that it came from: those that moved most, and as
many that are chosen by the task's loss. Says what the grafted models score, how well calibrated they are, and how far
the weights of several tasks are the same ones."""


def add_skills(parser: argparse.ArgumentParser) -> None:
    build = Path("build")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model folders")
    parser.add_argument("--encoder", type=Path, default=build / "encoder", help="what they were tailored from")
    parser.add_argument("--tokens", type=Path, default=build / "tokens", help="their tasks' tokens")
    parser.add_argument("--shares", nargs="+", type=float, default=[1e-4, 1e-3, 1e-2, 1e-1], metavar="SHARE")
    parser.add_argument("--steps", type=int, default=100, help="of learning a mask")
    parser.add_argument("--out", type=Path, default=Path("report/skills"), metavar="FOLDER")
    add_runtime(parser)
    parser.set_defaults(command=skills)


def skills(options: argparse.Namespace) -> None:
    from tabulate import tabulate

    from yourbert.settings import Runtime
    from yourbert.skill_charts import draw_kept, draw_overlap
    from yourbert.skills import localise

    runtime = Runtime(device=options.device, precision=options.precision, threads=options.threads, deterministic=False)
    given = (options.models, options.encoder, options.tokens, options.shares, options.steps, runtime, options.out)
    lines, pairs = localise(*given)
    draw_kept(lines, options.out / "skills.svg")
    draw_overlap(pairs, options.out / "overlap.svg")
    rows = [(run, mask, f"{share:g}", g.score, g.calibration) for run, mask, share, g in lines]
    head = ("task", "weights", "share", "dev", "calibration error")
    sys.stdout.write(tabulate(rows, head, "simple", floatfmt=".3f", disable_numparse=[2], missingval="-") + "\n\n")
    sys.stdout.write("Share of a task's learnt weights that another task's mask holds too:\n\n")
    sys.stdout.write(
        tabulate(pairs, ("task", "other", "share", "overlap"), "simple", floatfmt=("", "", "g", ".3f")) + "\n"
    )


if __name__ == "__main__":
    main()
