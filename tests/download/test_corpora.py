"""Corpora from the repository, the pinned release, a folder and URLs; missing files are reported all at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faulty_server import Faulty, closed_address, status, whole
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.core.filenames import local_names
from yourbert.core.storage import check_manifest, read_json
from yourbert.download import corpora
from yourbert.download.corpora import CS224N_FILES, fetch_corpus
from yourbert.download.web import git_blob_of

REAL = Path(os.environ.get("YOURBERT_REAL_DATA", "no-real-data")) / "cs224n"
FILES = {"ids-sst-train.csv": b"id\tsentence\n", "ids-sst-dev.csv": b"dev\n", "ids-sst-test-student.csv": b"test\n"}
WANTED = {name: "test" not in name for name in FILES}
Run = Callable[..., dict[str, bytes]]


@pytest.fixture
def release(server: Faulty, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Faulty:
    """Stands for the class repository, whose pinned blobs are those of FILES."""
    pins = {}
    for name, data in FILES.items():
        (tmp_path / "one").write_bytes(data)
        pins[name] = git_blob_of(tmp_path / "one")
        server.plan(f"/data/{name}", whole(data))
    monkeypatch.setenv("YOURBERT_CS224N_URL", f"{server.address}/data")
    monkeypatch.setattr(corpora, "CS224N_FILES", pins)
    return server


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder with FILES."""
    place = tmp_path / "own"
    place.mkdir()
    for name, data in FILES.items():
        (place / name).write_bytes(data)
    return place


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Fetches to tmp_path/corpus and returns what lies there then; data/ is tmp_path/data."""

    def act(corpus: str | Path, wanted: dict[str, bool] = WANTED) -> dict[str, bytes]:
        folder = tmp_path / "corpus"
        fetch_corpus(str(corpus), wanted, folder, tmp_path / "data", tmp_path / "cache")
        check_manifest(folder)
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}
        assert files.keys() == read_json(folder / "manifest.json").keys()
        return files

    return act


def refused(run: Run, corpus: str | Path, wanted: dict[str, bool], *codes: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        run(corpus, wanted)
    assert [p.code for p in caught.value.problems] == list(codes), caught.value.lines()
    return caught.value.lines()


def test_the_bundled_corpus(run: Run, own: Path, tmp_path: Path) -> None:
    own.rename(tmp_path / "data")
    assert run("bundled") == FILES


def test_a_folder_is_copied_not_linked(run: Run, own: Path, tmp_path: Path) -> None:
    run(own)
    (own / "ids-sst-dev.csv").write_bytes(b"edited in place")
    check_manifest(tmp_path / "corpus")


def test_only_wanted_files_are_copied(run: Run, own: Path) -> None:
    assert set(run(own, {"ids-sst-dev.csv": True})) == {"ids-sst-dev.csv"}


def test_the_bundled_corpus_is_not_checked_out(run: Run) -> None:
    assert "dvc checkout data.dvc" in refused(run, "bundled", WANTED, "D29")[0]


def test_everything_that_is_missing_is_named(run: Run, own: Path) -> None:
    wanted = WANTED | {"ids-sst-trian.csv": True, "other.csv": True, "more-test.csv": False}
    lines = refused(run, own, wanted, "D29", "D29")
    assert "did you mean 'ids-sst-train.csv'?" in lines[0] and "ids-sst-trian.csv" in lines[0]
    assert "other.csv" in lines[1]


def test_a_missing_test_file_is_noted(run: Run, own: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(own)
    (own / "ids-sst-test-student.csv").unlink()
    assert run(own).keys() == FILES.keys() - {"ids-sst-test-student.csv"}
    assert "ids-sst-test-student.csv is not in the corpus" in caplog.text


def test_a_path_that_is_not_a_regular_file(run: Run, own: Path) -> None:
    for name in FILES:
        (own / name).unlink()
    (own / "ids-sst-train.csv").mkdir()
    os.mkfifo(own / "ids-sst-dev.csv")
    os.mkfifo(own / "ids-sst-test-student.csv")  # there, but unusable: not the same as missing
    started = time.monotonic()
    lines = refused(run, own, WANTED, "D29", "D29", "D29")
    assert all("not a regular file" in line for line in lines) and time.monotonic() - started < 10


def test_an_unreadable_file(run: Run, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yourbert.download.corpora.os.access", lambda path, mode: path.name != "ids-sst-dev.csv")
    assert "cannot be read" in refused(run, own, WANTED, "D29")[0]


def test_a_missing_folder(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "typo") in refused(run, tmp_path / "typo", WANTED, "D29")[0]


def test_the_release(run: Run, release: Faulty, tmp_path: Path) -> None:
    assert run("cs224n") == FILES
    release.requests.clear()
    assert run("cs224n") == FILES and not release.requests, "the second time it is in the cache"
    for kept in (tmp_path / "cache" / "corpora").iterdir():
        kept.write_bytes(b"damaged")
    assert run("cs224n") == FILES and len(release.requests) == 3


def test_the_release_is_verified(run: Run, release: Faulty, tmp_path: Path) -> None:
    release.plan("/data/ids-sst-dev.csv", whole(b"DEV\n"))
    assert corpora.CS224N_FILES["ids-sst-dev.csv"] in refused(run, "cs224n", WANTED, "W05")[0]
    assert not (tmp_path / "corpus" / "ids-sst-dev.csv").exists()


def test_unknown_names_of_the_release_are_refused(run: Run, release: Faulty) -> None:
    lines = refused(run, "cs224n", {"ids-sst-trian.csv": True, "ids-sst-devv.csv": True}, "D29", "D29")
    assert "did you mean 'ids-sst-train.csv'?" in lines[0] and not release.requests
    assert run("cs224n", WANTED | {"my-test.csv": False}) == FILES


def test_offline_advice(run: Run, monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    monkeypatch.setenv("YOURBERT_CS224N_URL", closed_address())
    assert "offline? put the files in a folder" in refused(run, "cs224n", WANTED, "W03")[0]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs YOURBERT_REAL_DATA")
def test_the_pinned_blobs_are_those_of_the_real_files() -> None:
    """All but quora-train.csv, of which the folder of real data has only a part."""
    found = {p.name: git_blob_of(p) for p in REAL.glob("*.csv") if p.name != "quora-train.csv"}
    assert found and found.items() <= CS224N_FILES.items()


def test_the_shipped_params_name_files_of_the_release() -> None:
    params = read_params(Path("params.yaml"))
    named = {f for task in params.tasks.values() for f in (task.data.train, task.data.dev, task.data.test) if f}
    assert named <= CS224N_FILES.keys()


def test_a_task_file_by_url(run: Run, server: Faulty, own: Path) -> None:
    url = server.plan("/there/my%20train.csv", whole(b"a\tb\n"))
    assert run(own, WANTED | {f"{url}?key=word": True}) == FILES | {"my train.csv": b"a\tb\n"}


def test_a_url_is_fetched_each_time_and_out_of_reach_comes_from_the_cache(
    run: Run, server: Faulty, own: Path, slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"one", b"two"):
        assert run(own, {server.plan("/train.csv", whole(data)): True}) == {"train.csv": data}
    url = server.plan("/train.csv", status(500))
    assert run(own, {url: True}) == {"train.csv": b"two"} and "using the copy of an earlier run" in caplog.text


def test_urls_that_fail(run: Run, server: Faulty, own: Path, slept: list[float]) -> None:
    gone = server.plan("/test.csv", status(404))
    assert "404" in refused(run, own, {gone: True}, "W01")[0]
    assert run(own, {gone: False}) == {}
    assert "offline?" in refused(run, own, {server.plan("/test.csv", status(503)): True}, "W03")[0]


def test_two_files_of_one_name(run: Run, own: Path) -> None:
    lines = refused(run, own, {"https://a.org/x/train.csv": True, "https://b.org/train.csv?key=word": True}, "P15")
    assert "https://a.org/x/train.csv and https://b.org/train.csv" in lines[0] and "word" not in lines[0]
    with pytest.raises(UserError, match="YB-P15"):
        local_names(["train.csv", "https://a.org/Train.csv"])


def test_a_corpus_that_is_its_own_target(run: Run, own: Path, tmp_path: Path) -> None:
    run(own)
    assert run(tmp_path / "corpus") == FILES
