"""Locks between processes, and the store of fetched files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.downloads import DATA, SHA
from yourbert.core import paths
from yourbert.core.errors import UserError
from yourbert.download.store import Cache, alone


def test_waiting_ends(tmp_path: Path) -> None:
    target = tmp_path / "f"
    with alone(target, "a", 1.0) as locked, pytest.raises(UserError) as caught:
        assert locked
        with alone(target, "http://a.org/f", 0.2):
            pass
    assert caught.value.exit_code == 8
    assert f"process {os.getpid()} still fetches http://a.org/f" in str(caught.value)


def test_the_cache_drops_damaged_files(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "f").write_bytes(DATA)
    assert cache.add(tmp_path / "f") == SHA
    kept = cache.find(SHA)
    assert kept is not None and kept.read_bytes() == DATA
    kept.unlink()
    kept.write_bytes(DATA[:-1])
    assert cache.find(SHA) is None and not kept.exists()
    assert cache.find("") is None and cache.find("../" * 21 + "f") is None


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match=r"YB-R07 .*YOURBERT_CACHE"):
        Cache(tmp_path / "f" / "cache")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOURBERT_CACHE", "/there")
    assert paths.cache_folder() == Path("/there")
    monkeypatch.delenv("YOURBERT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert paths.cache_folder() == Path.home() / ".cache" / "yourbert"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yourbert.download.store.os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"YB-R07 .*YOURBERT_CACHE"):
        Cache(tmp_path)


def test_a_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="YB-R07"), alone(tmp_path / "f" / "g", "", 1.0):
        pass
