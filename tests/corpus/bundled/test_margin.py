"""The bundled corpus rewards understanding: the tracked scores of the fine-tuned models against a bag of words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.corpus.bundled.test_hardness import CEILINGS
from tests.support.closure import ROOT

MARGIN = 0.10
RUNS = ROOT / "metrics" / "runs"


@pytest.mark.parametrize(
    ("prefix", "task"), [("ids-sst", "sst"), ("ids-cfimdb", "cfimdb"), ("quora", "quora"), ("sts", "sts")]
)
def test_a_fine_tuned_model_is_far_above_the_ceiling_of_a_bag_of_words(prefix: str, task: str) -> None:
    """`test_hardness.py` shows that a bag of words stays below the ceiling; the metrics are those of `make repro`."""
    for path in sorted(Path(RUNS / task).glob("*.json")):
        dev = json.loads(path.read_text())[task]["dev"]
        score = dev.get("accuracy", dev.get("pearson"))
        assert score > CEILINGS[prefix] + MARGIN, f"{path.name}: {score}"
