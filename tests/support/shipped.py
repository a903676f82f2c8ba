"""params.yaml as it is shipped, and with a mixture, of which the shipped file has none."""

from __future__ import annotations

from tests.support.closure import ROOT

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
MIXTURE = """\
mixtures:
  pairs:
    tasks:
    - quora
    - sts
    sampling: proportional
    max_examples_per_task: 38000
    loss_weights:
      sts: 20.0
    task_pooling:
      quora: cls
    lr:
    batch_size: 32
    epochs: 2
"""
WITH_MIXTURE = SHIPPED.replace("mixtures: {}\n", MIXTURE)
assert WITH_MIXTURE != SHIPPED
