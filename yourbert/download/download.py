"""The download stage: puts weights and corpus under `build/`, and logs their source."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from yourbert.config.limits import check_limits
from yourbert.config.schema import BUNDLED, CS224N
from yourbert.core.paths import cache_folder, project_root
from yourbert.download.corpora import fetch_corpus
from yourbert.download.mirrors import fetch_model
from yourbert.download.random_model import is_random, make_random_model

logger = logging.getLogger("yourbert")


def download(
    model: str,
    corpus: str,
    wanted: Mapping[str, bool],
    limits: Mapping[str, int],
    bundled: Path,
    base: Path,
    texts: Path,
) -> None:
    """Puts the corpus into `texts` and the model into `base`.

    limits: the values of params.yaml that the model limits. Raises as `fetch_corpus`, `fetch_model`, `check_limits`.
    """
    cache = cache_folder()
    fetch_corpus(_resolve(corpus, BUNDLED, CS224N), wanted, texts, bundled, cache)
    if is_random(model):
        make_random_model(model, texts, base)
    else:
        source = fetch_model(_resolve(model), base, cache)
        logger.info("model %s: from the %s%s", model, source.name, source.revision and f" at {source.revision}")
    check_limits(limits, base)


def _resolve(name: str, *reserved: str) -> str:
    """The absolute path if `name` is a folder of the project: a DVC experiment runs in a copy of it elsewhere."""
    path = project_root() / Path(name).expanduser()
    return str(path.resolve()) if name not in reserved and path.is_dir() else name
