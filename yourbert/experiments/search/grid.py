"""Expands settings with several values into experiments, one per combination, and checks all before any runs.

DVC's own code parses and combines the values, so the syntax is that of `dvc exp run --queue -S lr=1e-5,3e-5`.
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
    """One point of a grid. settings: as shown in tables. overrides: the arguments of `dvc exp run -S`.

    The name contains a hash of the resulting parameters and the targets, so equal experiments have equal names however
    their settings are written.
    """

    name: str
    settings: tuple[str, ...]
    overrides: tuple[str, ...]


def expand(search: str, settings: Sequence[str], targets: Sequence[str], cpus: int) -> list[Experiment]:
    """Every combination of `settings` (`key=value,value`) once, in order. search: prefix of the names.

    If `num_threads` in params.yaml is 0, an experiment gets as many threads as CPUs, because it shares its machine.
    Raises UserError (P..) for a setting that is invalid.
    """
    if not NAME.fullmatch(search):
        fail("P18", "a name consists of letters, digits, - and _", where=f"--name {search}")
    params = read_params()
    experiments: dict[str, Experiment] = {}
    for overrides in combinations(settings):
        _check_names(overrides, params)
        shown = tuple(override.lstrip("+") for override in overrides)
        result = _apply(overrides, shown)
        if result.num_threads == 0:
            overrides = (*overrides, f"++num_threads={cpus}")
            result = _apply(overrides, shown)
        content = "\n".join([result.model_dump_json(), *targets])
        name = f"{search}-{hashlib.sha256(content.encode()).hexdigest()[:HASH_CHARACTERS]}"
        experiments.setdefault(name, Experiment(name, shown, overrides))
    return list(experiments.values())


def combinations(settings: Sequence[str], option: str = "--set") -> Iterator[tuple[str, ...]]:
    """The overrides of each combination; `++` sets a key whether or not params.yaml has it.

    option: the command-line option, for error messages. Raises UserError (P18) for invalid syntax.
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
            where=_options(settings, option),
            fix="quote values that contain special characters",
        )
    yield from (tuple(overrides[""]) for overrides in sweeps)


def _check_names(overrides: Sequence[str], params: Params) -> None:
    """Raises UserError (P01) for an unknown task or mixture, which would otherwise be added as a new, empty one."""
    blocks: dict[str, Mapping[str, object]] = {"tasks": params.tasks, "mixtures": params.mixtures}
    for override in overrides:
        block, *rest = override.lstrip("+").partition("=")[0].split(".")
        names = blocks.get(block, {})
        if names and rest and rest[0] not in names:
            what = f"params.yaml has no '{block}.{rest[0]}'{nearest(rest[0], names)}"
            fail("P01", what, where=_options([override.lstrip("+")]))


def _apply(overrides: Sequence[str], shown: Sequence[str]) -> Params:
    """params.yaml with the overrides, as the experiment will read it. shown: the overrides in error messages."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(PARAMS_FILE, folder))
        try:
            apply_overrides(copy, list(overrides))
            return read_params(copy)
        except UserError as error:
            raise UserError([replace(problem, where=_options(shown)) for problem in error.problems]) from None
        except DvcException as error:
            fail("P18", str(error).splitlines()[0], where=_options(shown))


def _options(settings: Sequence[str], option: str = "--set") -> str:
    return " ".join(f"{option} {setting}" for setting in settings)
