"""A corpus and a model that are small enough to measure within a test."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interleave import Options
from benchmarks.rows import tokens_of_corpus
from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.download.random_model import make_random_model

SHAPE = "2x32"


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A corpus of one task, sst, with texts of 1 to 20 words, and a tiny model's vocabulary."""
    tmp_path = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(1)
    words = ["good", "bad", "film", "plot", "not", "very", "long", "short"]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    params = read_params(ROOT / "params.yaml")
    data = params.tasks["sst"].data
    for name, rows in ((data.train, 64), (data.dev, 16), (data.test or "", 16)):
        lines = ["id\tsentence\tsentiment"]
        for row in range(rows):
            lines.append(f"{name}{row}\t{' '.join(rng.choice(words, rng.integers(1, 21)))}\t{row % 5}")
        (corpus / name).write_text("\n".join(lines) + "\n")
    make_random_model(f"random:{SHAPE}", corpus, tmp_path / "base")
    own = params.model_copy(update={"tasks": {"sst": params.tasks["sst"]}})
    tokens = tokens_of_corpus(corpus, tmp_path / "base", own, tmp_path / "scratch")
    return Options(
        own=tmp_path / "base",
        tokens=tokens,
        corpus=corpus,
        scratch=tmp_path / "scratch",
        params=ROOT / "params.yaml",
        threads=1,
        minutes=1e6,
    )
