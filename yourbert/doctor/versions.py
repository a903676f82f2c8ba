"""Installed packages whose versions differ from requirements.lock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yourbert.doctor.trouble import Trouble

PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)")
SHOWN = 5


def version_troubles(root: Path) -> Iterator[Trouble]:
    path = root / "requirements.lock"
    if not path.exists():
        return
    found = []
    for pin in map(PIN.match, path.read_text(encoding="utf-8").splitlines()):
        if pin and (installed := _installed(pin["name"])) != pin["version"]:
            found.append(f"{pin['name']} {installed or 'missing'} instead of {pin['version']}")
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        advice = "python -m pip install -r requirements.lock"
        yield Trouble("V12", f"{', '.join(found[:SHOWN])}{more}", "requirements.lock", advice)


def _installed(name: str) -> str:
    """The installed version without a local part such as "+cpu"; "" if missing."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""
