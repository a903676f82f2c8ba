"""The published scores of Tayag and Walter, "YourBERT: Tailoring BERT for Precision", CS224N.

bert-base-uncased on the class's data, one run each. `single` and `mixture` are dev scores of Table 2; CFIMDB is the
default row of Table 1; `baseline` is what Table 2 quotes from the literature; `test` is its leaderboard column, of
the single-task models. The abstract gives 0.382 for STS where Table 2 has 0.729; the table is used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yourbert.core.tasks import Metric


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of the paper. single, mixture: dev scores; test: of the single-task model; None where it has none."""

    metric: Metric
    single: float
    mixture: float | None = None
    baseline: float | None = None
    test: float | None = None


STUDY: Mapping[str, Published] = {
    "sst": Published(metric="accuracy", single=0.511, mixture=0.306, baseline=0.532, test=0.538),
    "cfimdb": Published(metric="accuracy", single=0.967),
    "quora": Published(metric="accuracy", single=0.804, mixture=0.655, baseline=0.893, test=0.805),
    "sts": Published(metric="pearson", single=0.729, mixture=0.507, baseline=0.876, test=0.731),
}
OVERALL_TASKS = frozenset({"sst", "quora", "sts"})
OVERALL = {"single": 0.727, "mixture": 0.572, "baseline": 0.788, "test": 0.736}
SOURCE = (
    "Paper: Tayag and Walter, *YourBERT: Tailoring BERT for Precision* (CS224N): bert-base-uncased, one run each. "
    "Tables 1 (cfimdb) and 2 (the rest); its overall scores follow from section 5.2: "
    "(sst accuracy + quora accuracy + (sts Pearson + 1) / 2) / 3. "
    "Its abstract has 0.382 for sts where Table 2 has 0.729."
)
