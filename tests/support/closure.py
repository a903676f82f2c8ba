"""Which of the project's files a module needs: every import in it, in its functions too, and in those files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("yourbert", "stages")
LAZY = Path("yourbert", "__init__.py")  # imports the public names when a user asks for them; no stage does


def imports(path: Path) -> Iterator[str]:
    """The project's modules that a file names in an import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in OURS and file_of(name))


def file_of(module: str) -> Path | None:
    """The file of a module, relative to the project; None for a name that is no module."""
    place = Path(*module.split("."))
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if (ROOT / p).is_file()), None)


def closure(module: str) -> set[str]:
    """Every file of the project that is read when `module` runs, itself and the packages around it included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        assert path is not None, f"no module {name}"
        if path.as_posix() in found:
            continue
        found.add(path.as_posix())
        waiting += [".".join(name.split(".")[:i]) for i in range(1, name.count(".") + 1)]
        if path != LAZY:
            waiting += imports(ROOT / path)
    return found
