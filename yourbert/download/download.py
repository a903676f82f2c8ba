"""The download stage: weights and corpus under `build/`, and where they came from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from yourbert.config.schema import BUNDLED, CS224N
from yourbert.core.paths import cache_folder, project_root
from yourbert.download.corpora import fetch_corpus
from yourbert.download.mirrors import fetch_model
from yourbert.download.random_model import is_random, make_random_model

LOGGER = logging.getLogger("yourbert")


def download(model: str, corpus: str, wanted: Mapping[str, bool], bundled: Path, base: Path, texts: Path) -> None:
    """Places the corpus in `texts` and the model in `base`. Raises what `fetch_corpus` and `fetch_model` do."""
    cache = cache_folder()
    fetch_corpus(_placed(corpus, BUNDLED, CS224N), wanted, texts, bundled, cache)
    if is_random(model):
        make_random_model(model, texts, base)
        return
    source = fetch_model(_placed(model), base, cache)
    LOGGER.info("model %s: from the %s%s", model, source.name, source.revision and f" at {source.revision}")


def _placed(name: str, *words: str) -> str:
    """A folder's full path, for names that are one: an experiment runs in a copy of the project elsewhere."""
    place = project_root() / Path(name).expanduser()
    return str(place.resolve()) if name not in words and place.is_dir() else name
