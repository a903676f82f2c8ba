"""`yourbert explain`: show how much each word contributes to a prediction."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import add_runtime, runtime_of

HELP = "show how much each word contributes to a prediction"
DESCRIPTION = """Prints the prediction for a text, or a pair of texts, and the contribution of each word to its score
(integrated gradients). The score is the log-odds of the predicted label, or the predicted similarity. The last line
checks the attribution: removing the top words should lower the score more than removing equally many random words."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="the text, or the two texts of a pair")
    parser.add_argument("--task", help="the task to use, if the model has several")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_runtime(parser, precision=False)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from yourbert.deploy.batch import open_explainer, prepare_for_cli
    from yourbert.evaluation.explain import format_explanation

    explainer = open_explainer(options.model, options.task, prepare_for_cli(runtime_of(options)))
    explanation = explainer.explain(options.texts)
    as_json = json.dumps(asdict(explanation), ensure_ascii=False)
    sys.stdout.write((as_json if options.json else format_explanation(explanation)) + "\n")
