"""What the doctor finds in a project, what it mends, and what it leaves alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.core.storage import write_json, write_manifest
from yourbert.doctor.objects import object_troubles
from yourbert.doctor.run import doctor, troubles

LOCK = "schema: '2.0'\nstages:\n  check:\n    cmd: python -m stages.check\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy project: a committed dvc.lock, and a model folder whose files are objects of the cache."""
    root = tmp_path / "project"
    model = root / "build" / "models" / "sst" / "1"
    for folder in (root / ".dvc" / "tmp", model):
        folder.mkdir(parents=True)
    (root / "dvc.lock").write_text(LOCK)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights" * 100)
    write_manifest(model)
    for path in model.iterdir():
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        place = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)
    for words in (
        ("init", "-q"),
        ("add", "dvc.lock"),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def said(root: Path) -> list[str]:
    return [str(trouble) for trouble in troubles(root)]


def weights(root: Path) -> Path:
    return root / "build/models/sst/1/model.safetensors"


def test_nothing_is_wrong_with_a_healthy_project(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(root / ".dvc" / "tmp" / "rwlock", {"read": {}, "write": {}})
    assert said(root) == [] and doctor(root, fix=True) == 0
    assert capsys.readouterr().out == "nothing is wrong here\n"


def empty_rwlock(root: Path) -> None:
    (root / ".dvc/tmp/rwlock").write_text("")


def cut_rwlock(root: Path) -> None:
    (root / ".dvc/tmp/rwlock").write_text('{"read": {"a": [{"pi')


def empty_lock(root: Path) -> None:
    (root / "dvc.lock").write_text("")


def cut_lock(root: Path) -> None:
    (root / "dvc.lock").write_text(LOCK[:20])


def lock_cut_in_a_number(root: Path) -> None:
    """Still YAML, but DVC refuses a size of nothing."""
    (root / "dvc.lock").write_text(f"{LOCK}    deps:\n    - path: data\n      md5: abc\n      size:")


def merged_lock(root: Path) -> None:
    (root / "dvc.lock").write_text(f"<<<<<<< HEAD\n{LOCK}=======\n{LOCK}>>>>>>> other\n")


def cut_object(root: Path) -> None:
    os.truncate(weights(root), 300)


def flipped_bit(root: Path) -> None:
    with weights(root).open("r+b") as file:
        file.seek(99)
        file.write(b"?")


def edited_copy(root: Path) -> None:
    """The cache is whole; the workspace has another file."""
    weights(root).unlink()
    weights(root).write_bytes(b"other")


def unfinished(root: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (root / f"build/models/sst/.model.json.{dead.pid}.part").write_text("half")
    (root / ".dvc/cache/files/md5/.Ab3_-xyzXYZ0123456789a.tmp").write_text("half")


def killed_experiment(root: Path) -> None:
    (root / ".dvc/tmp/exps/standalone/tmpabc/build").mkdir(parents=True)
    (root / ".dvc/tmp/exps/standalone/run").mkdir()  # DVC's own, of its processes


BROKEN = [
    (empty_rwlock, "V01 .dvc/tmp/rwlock"),
    (cut_rwlock, "V01 .dvc/tmp/rwlock"),
    (empty_lock, "V02 dvc.lock"),
    (cut_lock, "V02 dvc.lock"),
    (lock_cut_in_a_number, "V02 dvc.lock"),
    (merged_lock, r"V03 dvc.lock: .*lines 1, 6, 11"),
    (cut_object, r"C09 .dvc/cache/files/md5/\S+: .*build/models/sst/1/model.safetensors"),
    (flipped_bit, "C09"),
    (edited_copy, "C01 build/models/sst/1/model.safetensors"),
    (unfinished, "V10 .*2 files"),
    (killed_experiment, "V11 .dvc/tmp/exps/standalone/tmpabc"),
]


@pytest.mark.parametrize(("breaks", "says"), BROKEN, ids=[breaks.__name__ for breaks, _ in BROKEN])
def test_each_trouble_is_named_and_mended(
    root: Path, breaks: Callable[[Path], None], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks(root)
    (line,) = said(root)
    assert re.search(f"^YB-{says}", line), line
    assert doctor(root, fix=False) == 5 and said(root) == [line], "looking changes nothing"
    assert doctor(root, fix=True) == 0
    assert said(root) == []
    assert "done" in capsys.readouterr().out


def test_a_broken_lock_is_kept_aside_and_the_committed_one_taken(root: Path) -> None:
    merged_lock(root)
    merged = (root / "dvc.lock").read_text()
    doctor(root, fix=True)
    assert (root / "dvc.lock").read_text() == LOCK
    assert (root / ".yourbert/doctor/dvc.lock.1").read_text() == merged


def test_an_object_goes_with_what_the_workspace_made_of_it_and_nothing_else_goes(root: Path) -> None:
    plain = root / "build/plain.bin"
    os.link(weights(root), plain)
    (root / "build/other.bin").write_bytes(weights(root).read_bytes())
    cut_object(root)
    (trouble,) = object_troubles(root)
    assert trouble.mend is not None
    trouble.mend()
    assert not plain.exists() and not weights(root).parent.exists() and not (root / trouble.where).exists()
    assert (root / "build/other.bin").exists()
    assert len(list((root / ".dvc/cache/files/md5").glob("??/*"))) == 2


def test_other_versions_are_named_and_left_to_a_person(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "requirements.lock").write_text("numpy==0.1\nnot-there==1.0\n# a comment\n")
    assert doctor(root, fix=True) == 5
    out = capsys.readouterr().out
    assert "V12 requirements.lock" in out and "instead of 0.1" in out and "not-there missing" in out


def test_what_cannot_be_removed_is_said_and_the_rest_is_mended(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_experiment(root)
    merged_lock(root)

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("yourbert.doctor.trouble.shutil.rmtree", denied)
    assert doctor(root, fix=True) == 5 and (root / "dvc.lock").read_text() == LOCK
    assert "not done: [Errno 13] Permission denied" in capsys.readouterr().out


def test_nothing_is_touched_while_dvc_runs(root: Path) -> None:
    empty_rwlock(root)
    with (root / ".dvc/tmp/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"B10.*a dvc command works here"):
            doctor(root, fix=True)
    assert doctor(root, fix=True) == 0


def test_nothing_is_touched_while_an_owner_of_the_rwlock_lives(root: Path) -> None:
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    (root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {"x": info}, "read": {"y": [info]}}))
    with pytest.raises(UserError, match=rf"B10.*process {os.getpid()} \(dvc repro\) works here"):
        doctor(root, fix=True)


def test_an_orphan_that_still_trains_is_an_owner(root: Path) -> None:
    (root / "stages").mkdir()
    (root / "stages" / "finetune.py").write_text("import time\ntime.sleep(60)\n")
    orphan = subprocess.Popen([sys.executable, "-m", "stages.finetune", "sst", "1"], cwd=root)
    try:
        time.sleep(0.3)
        with pytest.raises(UserError, match=rf"process {orphan.pid} \(-m stages.finetune sst 1\)"):
            doctor(root, fix=True)
    finally:
        orphan.kill()
        orphan.wait()
    assert doctor(root, fix=True) == 0


def test_files_of_a_process_that_lives_are_not_left_over(root: Path) -> None:
    (root / f"build/.model.json.{os.getpid()}.part").write_text("half")
    assert said(root) == []


def test_outside_a_project(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="P15"):
        doctor(tmp_path, fix=False)
