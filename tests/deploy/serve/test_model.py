"""The model folder changes while it is served: S09."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.deploy.serve.conftest import mood
from tests.support.predicting import TASKS, saved
from tests.support.serve_process import served

pytestmark = pytest.mark.integration


def test_s09_the_folder_changes(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "model"
    shutil.copytree(folder, own)
    other = saved(tmp_path / "other", {"mood": TASKS["mood"]})
    with served(own, tmp_path / "log") as service:
        before = service.ask("predict", mood(["good film"])).json()
        (own / "model.safetensors").touch()
        assert service.get("ready").json()["stale"] == "", "touched, but the same"
        with (own / "model.safetensors").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
        assert "damaged" in service.get("ready").json()["stale"]
        shutil.rmtree(own)
        assert "damaged" in service.get("ready").json()["stale"]
        shutil.copytree(other, own)
        assert "another model" in service.get("ready").json()["stale"]
        assert "yourbert_model_stale 1.0" in service.get("metrics").text
        assert service.ask("predict", mood(["good film"])).json() == before
