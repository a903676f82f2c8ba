"""YourBERT fine-tunes a pretrained BERT on your own text tasks, and compares the models with tests.

    import yourbert

    model = yourbert.load("build/models/sst/11711")
    model.predict(["not bad at all"])
    model.explain("not bad at all")

`__all__` is the public interface; docs/api.md describes it. Everything else may change without notice. The pipeline
trains with `yourbert.finetuning.finetune.finetune`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yourbert.core.errors import UserError
    from yourbert.deploy.loaded_model import Classification, LoadedModel, Similarity, load
    from yourbert.evaluation.explain import Explanation, Word

__all__ = ["Classification", "Explanation", "LoadedModel", "Similarity", "UserError", "Word", "load"]
# Imported on first use: `import yourbert` loads neither torch nor numpy.
_PLACES = {
    "load": "yourbert.deploy.loaded_model",
    "LoadedModel": "yourbert.deploy.loaded_model",
    "Classification": "yourbert.deploy.loaded_model",
    "Similarity": "yourbert.deploy.loaded_model",
    "Explanation": "yourbert.evaluation.explain",
    "Word": "yourbert.evaluation.explain",
    "UserError": "yourbert.core.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'yourbert' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
