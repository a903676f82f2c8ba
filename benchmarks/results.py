"""A result file read back: medians and quartiles over rounds, and ratios taken within each round.

Two variants of a round are neighbours in time, so their ratio, and a share of the peak measured beside them, hold still
when the machine as a whole does not; the median over rounds then drops the round that was disturbed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cost import ADAMW_BYTES

Entry = dict[str, Any]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it; the three are one number when there is one round."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        if not values:
            return None
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
        return cls(median, low, high, len(values))


class Results:
    """facts: the whole file. Every figure is None where it was not measured."""

    def __init__(self, facts: Entry) -> None:
        self.facts = facts
        self._blocks: dict[tuple[str, str], dict[int, Entry]] = {}
        for block in facts["blocks"]:
            self._blocks.setdefault((block["case"], block["variant"]), {})[block["round"]] = block
        self._peaks = {(p["case"], p["round"]): p["values"] for p in facts["peaks"]}

    def variants(self, case: str) -> list[str]:
        """Those that answered, in the order in which they were asked."""
        return [variant for at, variant in self._blocks if at == case]

    def milliseconds(self, case: str, variant: str) -> Spread | None:
        """Of one step."""
        return self._over_rounds(case, variant, lambda b: 1000 * b["seconds"] / b["steps"])

    def rows_per_second(self, case: str, variant: str) -> Spread | None:
        return self._over_rounds(case, variant, lambda b: b["rows"] / b["seconds"])

    def tokens_per_second(self, case: str, variant: str) -> Spread | None:
        """Real ones; padding is no token."""
        return self._over_rounds(case, variant, lambda b: b["tokens"] / b["seconds"])

    def share(self, case: str, variant: str) -> Spread | None:
        """Counted FLOP/s as a share of the matmul peak of the same round and dtype."""
        return self._over_rounds(case, variant, self._share)

    def floors(self, case: str, variant: str) -> Spread | None:
        """Time as a multiple of the floor: products at the peak, and AdamW's bytes at the rate of a copy."""
        return self._over_rounds(case, variant, self._floors)

    def times(self, case: str, variant: str, versus: str) -> Spread | None:
        """How many times as fast, by real tokens a second, else by rows a second, else by runs."""
        mine, theirs = self._of(case, variant), self._of(case, versus)
        return Spread.of([_rate(mine[r]) / _rate(theirs[r]) for r in mine if r in theirs])

    def largest(self, case: str, variant: str, value: str) -> float | None:
        """The largest of the figures of that name."""
        found = [b["values"][value] for b in self._of(case, variant).values() if value in b["values"]]
        return max(found, default=None)

    def note(self, case: str, variant: str) -> str:
        """What the variant chose itself in its rounds, and the dev scores that it reached."""
        blocks = self._of(case, variant).values()
        scores = {f"dev {b['values']['dev']:.3f}" for b in blocks if "dev" in b["values"]}
        return ", ".join(sorted({b["note"] for b in blocks} - {""} | scores))

    def _of(self, case: str, variant: str) -> dict[int, Entry]:
        return self._blocks.get((case, variant), {})

    def _over_rounds(self, case: str, variant: str, figure: Callable[[Entry], float | None]) -> Spread | None:
        found = [figure(block) for block in self._of(case, variant).values()]
        return Spread.of([value for value in found if value is not None])

    def _peak(self, block: Entry) -> float | None:
        peak: float | None = self._peaks.get((block["case"], block["round"]), {}).get(block["dtype"])
        return peak

    def _share(self, block: Entry) -> float | None:
        peak = self._peak(block)
        return block["flops"] / block["seconds"] / peak if peak and block["flops"] else None

    def _floors(self, block: Entry) -> float | None:
        peak = self._peak(block)
        if not peak or not block["flops"]:
            return None
        rate = self._peaks[block["case"], block["round"]]["bytes_per_second"]
        moved = block["steps"] * ADAMW_BYTES * self.facts["cases"][block["case"]]["weights"]
        return float(block["seconds"] / (block["flops"] / peak + moved / rate))


def _rate(block: Entry) -> float:
    return float((block["tokens"] or block["rows"] or block["steps"]) / block["seconds"])
