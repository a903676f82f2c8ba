"""`yourbert explain`: which words an answer rests on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import add_runtime, runtime_of

HELP = "which words an answer rests on"
DESCRIPTION = """Says what a model answers to a text, or a pair of texts, and what each word adds to that answer's score
(integrated gradients): to the log-odds of a label, to a similarity itself. The last line tests it: without the words
that weigh most the score should fall further than without as many others."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="the text, or the two texts of a pair")
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_runtime(parser, precision=False)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from yourbert.deploy.batch import open_explainer, prepared
    from yourbert.evaluation.explain import shown

    found = open_explainer(options.model, options.task, prepared(runtime_of(options))).explain(options.texts)
    sys.stdout.write((json.dumps(asdict(found), ensure_ascii=False) if options.json else shown(found)) + "\n")
