"""What the doctor finds in a project, what it mends, and what it leaves alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.conftest import LOCK, cut_object, empty_rwlock, merged_lock, said, weights
from yourbert.core.errors import UserError
from yourbert.core.storage import write_json
from yourbert.doctor.run import doctor

pytestmark = pytest.mark.integration


def test_nothing_is_wrong_with_a_healthy_project(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(root / ".dvc" / "tmp" / "rwlock", {"read": {}, "write": {}})
    assert said(root) == [] and doctor(root, fix=True) == 0
    assert capsys.readouterr().out == "no problems found\n"


def cut_rwlock(root: Path) -> None:
    (root / ".dvc/tmp/rwlock").write_text('{"read": {"a": [{"pi')


def empty_lock(root: Path) -> None:
    (root / "dvc.lock").write_text("")


def cut_lock(root: Path) -> None:
    (root / "dvc.lock").write_text(LOCK[:20])


def lock_cut_in_a_number(root: Path) -> None:
    """Still YAML, but DVC refuses a size of nothing."""
    (root / "dvc.lock").write_text(f"{LOCK}    deps:\n    - path: data\n      md5: abc\n      size:")


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
    (unfinished, "V10 .*2 unfinished"),
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


def test_outside_a_project(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="P15"):
        doctor(tmp_path, fix=False)
