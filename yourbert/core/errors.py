"""Errors that a user can fix: one line per problem, and an exit code.

Everything a user can cause is a `UserError`; a broken invariant of the program itself is an `assert`.
The letter of a problem's code names the subject (P params, D data ...) and decides the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

EXIT_CODES = {"P": 2, "D": 3, "I": 3, "W": 4, "C": 5, "V": 5, "T": 6, "R": 7, "B": 8, "X": 9}
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
SHOWN_PER_FILE = 20
QUOTED_CHARACTERS = 80
# What each extra of pyproject.toml brings that the library imports.
EXTRAS = {
    "pipeline": (
        "dvc", "hydra", "jinja2", "markdown_it", "markupsafe", "matplotlib", "pooch", "tabulate", "voluptuous",
    ),
    "serve": ("fastapi", "prometheus_client", "starlette", "uvicorn"),
    "onnx": ("onnxruntime", "onnxscript"),
    "cluster": ("ray",),
    "parquet": ("pyarrow",),
    "plots": ("vl_convert",),
}  # fmt: skip
COPY = Path(".yourbert") / "errors.json"


@dataclass(frozen=True)
class Problem:
    """One thing to fix: `code` like "D14", `where` (file:line:column or a params key), `what`, and `fix`."""

    code: str
    what: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        fix = f" Fix: {self.fix}." if self.fix else ""
        end = "" if self.what.endswith(("?", ".")) else "."
        return _one_line(f"YB-{self.code}{where} {self.what}{end}{fix}")


class UserError(Exception):
    """One or more problems that a user can fix; `str` gives a line for each.

    problems: each has a `code`, `where` it is, `what` is wrong, and how to `fix` it. total: the number of problems, of
    which `problems` may hold only the first. Programs print the lines without a traceback unless YOURBERT_DEBUG=1.
    """

    def __init__(self, problems: Iterable[Problem], total: int | None = None) -> None:
        self.problems = tuple(problems)
        assert self.problems, "a UserError names at least one problem"
        self.total = total if total is not None else len(self.problems)
        # pickle rebuilds the exception from these arguments in another process.
        super().__init__(self.problems, self.total)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.problems[0].code[0]]

    def to_json(self) -> dict[str, object]:
        return {"total": self.total, "problems": [asdict(problem) for problem in self.problems]}

    def lines(self) -> list[str]:
        """The lines to print: at most `SHOWN_PER_FILE` problems per file, then the total number of problems."""
        shown: list[str] = []
        per_file: dict[str, int] = {}
        for problem in self.problems:
            file = problem.where.split(":")[0]
            per_file[file] = per_file.get(file, 0) + 1
            if per_file[file] <= SHOWN_PER_FILE:
                shown.append(str(problem))
        if self.total > len(shown):
            shown.append(f"{self.total} problems in all; {len(shown)} shown.")
        return shown


def fail(code: str, what: str, *, where: str = "", fix: str = "") -> NoReturn:
    """Raises a `UserError` of one problem."""
    raise UserError([Problem(code, what, where, fix)])


@contextlib.contextmanager
def extras() -> Iterator[None]:
    """Wraps what may import a package of an extra. Raises UserError (P19) that says how to install a missing one."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        found = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if found is None:
            raise
        fail("P19", f"this needs the package {package}", fix=f"python -m pip install 'yourbert[{found}]'")


def nearest(word: str, options: Iterable[str]) -> str:
    """`"; did you mean 'lr'?"` for the closest option, or `""` when none is close."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def quoted(text: str) -> str:
    """Data in quotes, safe to show in a message."""
    return f"'{cleaned(text)}'"


def cleaned(text: str) -> str:
    """Data safe to show in a message: short, on one line, control and bidirectional characters escaped."""
    return _one_line(text if len(text) <= QUOTED_CHARACTERS else text[: QUOTED_CHARACTERS - 1] + "…")


def _one_line(text: str) -> str:
    """The text with control characters, bidirectional marks and line breaks escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(names: Sequence[str], shown: int = 8) -> str:
    """The first names of a list, and the number of the others, for a message."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(cleaned(name) for name in names[:shown]) + more


class CommandLine(argparse.ArgumentParser):
    """An argument parser that reports a mistake as a UserError (P05)."""

    def error(self, message: str) -> NoReturn:
        fail("P05", message, where=self.prog, fix=f"see `{self.prog} --help`")


def exit_cleanly(program: Callable[[], None]) -> NoReturn:
    """Runs a program's `main`; a UserError becomes lines on stderr and an exit code.

    In a project folder the error is also written to .yourbert/errors.json, for programs to read. SIGTERM raises
    SystemExit, so that `finally` blocks run; `YOURBERT_DEBUG=1` shows tracebacks.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with extras():
            program()
    except UserError as error:
        if os.environ.get("YOURBERT_DEBUG") == "1":
            raise
        sys.stderr.write("\n".join(error.lines()) + "\n")
        _leave_copy(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL_DISK or os.environ.get("YOURBERT_DEBUG") == "1":
            raise
        problem = Problem("R07", f"cannot write: {error.strerror}", str(error.filename or ""), "free disk space")
        sys.stderr.write(f"{problem}\n")
        sys.exit(EXIT_CODES["R"])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    sys.exit(0)


def _leave_copy(error: UserError) -> None:
    """Writes the error as JSON; a failure to write is ignored, as the error is already on stderr."""
    if Path("params.yaml").exists():
        with contextlib.suppress(OSError):
            COPY.parent.mkdir(exist_ok=True)
            COPY.write_text(json.dumps(error.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
