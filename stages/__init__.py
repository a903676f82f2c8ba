"""One thin file per pipeline stage: read params and inputs, make one library call, write outputs.

A stage imports the library inside its `main`, so that `--help` and a wrong word are answered at once, without torch.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from yourbert.core.errors import CommandLine, exit_cleanly, fail, nearest, quoted
from yourbert.core.program import start
from yourbert.core.watchdog import end_with_dvc

BUILD = Path("build")
METRICS = Path("metrics")
PLOTS = Path("plots")

SEEDS = 2**32
WORDS = {
    "task": "a task of params.yaml",
    "name": "a task, mixture or sequential model of params.yaml",
    "seed": f"a whole number from 0 to {SEEDS - 1}",
}


def command_line(stage: Callable[..., None]) -> CommandLine:
    """The parameters of a stage's `main` as words, by position."""
    module = inspect.getmodule(stage)
    about = ((module and module.__doc__) or "").partition(": `")[0] + "."
    parser = CommandLine(prog=f"python -m stages.{Path(inspect.getfile(stage)).stem}", description=about)
    for name in inspect.signature(stage).parameters:
        parser.add_argument(name, help=WORDS.get(name))
    return parser


def run(stage: Callable[..., None]) -> None:
    """Runs a stage with the words of its command line; a user's mistake ends it with one line and an exit code."""
    start()

    def program() -> None:
        words = vars(command_line(stage).parse_args())
        if words:
            check_words(words)
        end_with_dvc()
        stage(**words)

    exit_cleanly(program)


def check_words(words: Mapping[str, str]) -> None:
    """Raises UserError (P05) for a model that params.yaml does not name, and for a seed that is none."""
    from yourbert.config.params import read_params

    params = read_params()
    known = {
        "task": [*params.tasks],
        "name": [*params.tasks, *params.multitask],
    }
    for kind, word in words.items():
        if kind == "seed" and not (word.isascii() and word.isdigit() and int(word) < SEEDS):
            fail("P05", f"the seed {quoted(word)} is not {WORDS[kind]}", fix="give one of `seeds` in params.yaml")
        if kind in known and word not in known[kind]:
            hint = nearest(word, known[kind])
            what = f"{quoted(word)} is not {WORDS[kind]} (there are {', '.join(known[kind]) or 'none'}){hint}"
            fail("P05", what, fix="correct the word, or add it there")
