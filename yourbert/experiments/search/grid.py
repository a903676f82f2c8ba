"""Settings with several values each -> the experiments of a search, one per combination, all checked before any runs.

Values are read and combined by the code behind `dvc exp run --queue -S lr=1e-5,3e-5`, so both understand the same.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yourbert.config.params import PARAMS_FILE, read_params
from yourbert.config.schema import Params
from yourbert.core.errors import UserError, fail, nearest

HASH_CHARACTERS = 8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Experiment:
    """One point of a grid: `settings` as a person reads them, `overrides` as `dvc exp run -S` takes them.

    The name follows from all parameters that result and the targets, so that the same experiment has the same name
    however its settings are written.
    """

    name: str
    settings: tuple[str, ...]
    overrides: tuple[str, ...]


def expand(search: str, settings: Sequence[str], targets: Sequence[str], cpus: int) -> list[Experiment]:
    """Every combination of `settings` (`key=value,value`) once, in order. Raises UserError for what cannot be run.

    search: what the experiments' names begin with.
    Where params.yaml leaves the number of threads open, an experiment gets as many as it has processors: it shares
    its machine with others.
    """
    if not NAME.fullmatch(search):
        fail("P18", "letters, digits, - and _ may stand in a name", where=f"--name {search}")
    params = read_params()
    found: dict[str, Experiment] = {}
    for chosen in combinations(settings):
        _check_runs(chosen, params)
        asked = tuple(override.lstrip("+") for override in chosen)
        result = _applied(chosen, asked)
        if result.num_threads == 0:
            chosen = (*chosen, f"++num_threads={cpus}")
            result = _applied(chosen, asked)
        facts = "\n".join([result.model_dump_json(), *targets])
        name = f"{search}-{hashlib.sha256(facts.encode()).hexdigest()[:HASH_CHARACTERS]}"
        found.setdefault(name, Experiment(name, asked, chosen))
    return list(found.values())


def combinations(settings: Sequence[str], option: str = "--set") -> Iterator[tuple[str, ...]]:
    """The overrides of each combination; `++` sets a key whether params.yaml has it or not.

    option: of the command line that gave the settings. Raises UserError (P18) for what cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    for setting in settings:
        if "=" not in setting or setting.lstrip("+").startswith(("~", "=")):
            example = f"write {option} epochs=1,3"
            fail("P18", "expected key=value,value,...", where=f"{option} {setting}", fix=example)
    try:
        sweeps = get_hydra_sweeps({"": ["++" + setting.lstrip("+") for setting in settings]})
    except (DvcException, HydraException) as error:
        fail(
            "P18",
            str(error).splitlines()[0],
            where=_asked(settings, option),
            fix="quote texts that hold special characters",
        )
    yield from (tuple(chosen[""]) for chosen in sweeps)


def _check_runs(chosen: Sequence[str], params: Params) -> None:
    """Refuses a task or mixture that is not there, which would else read as a new one that lacks everything."""
    blocks: dict[str, Mapping[str, object]] = {"tasks": params.tasks, "mixtures": params.mixtures}
    for override in chosen:
        block, *rest = override.lstrip("+").partition("=")[0].split(".")
        names = blocks.get(block, {})
        if names and rest and rest[0] not in names:
            what = f"params.yaml has no '{block}.{rest[0]}'{nearest(rest[0], names)}"
            fail("P01", what, where=_asked([override.lstrip("+")]))


def _applied(chosen: Sequence[str], asked: Sequence[str]) -> Params:
    """params.yaml with the overrides, as the experiment will read it."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(PARAMS_FILE, folder))
        try:
            apply_overrides(copy, list(chosen))
            return read_params(copy)
        except UserError as error:
            raise UserError([replace(problem, where=_asked(asked)) for problem in error.problems]) from None
        except DvcException as error:
            fail("P18", str(error).splitlines()[0], where=_asked(asked))


def _asked(settings: Sequence[str], option: str = "--set") -> str:
    return " ".join(f"{option} {setting}" for setting in settings)
