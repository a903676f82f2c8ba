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
    row_limit: 38000
    weights:
      sts: 20.0
    poolings:
      quora: cls
    lr:
    batch_size: 32
    epochs: 2
"""
WITH_MIXTURE = SHIPPED.replace("mixtures: {}\n", MIXTURE)
assert WITH_MIXTURE != SHIPPED
