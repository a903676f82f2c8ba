"""Keys of labels."""

from __future__ import annotations

import pytest

from yourbert.core.text import label_key


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1.00", "+1", "1e0", " 1 "), ("0", "-0", "0.0", ".0"), ("0.5", ".5", "5e-1", "0.50"),
        ("100", "1e2"),
        ("true", "True", "TRUE"), ("caf\u00e9", "cafe\u0301"), ("very good", " very  good", "very\u00a0good"),
    ],
)  # fmt: skip
def test_spellings_of_one_label_have_one_key(spellings: tuple[str, ...]) -> None:
    assert len(set(map(label_key, spellings))) == 1


def test_different_labels_have_different_keys() -> None:
    labels = ["7", "007", "07", "0", "00", "1", "true", "good", "Good", "1.5", "15", "1_5", "1e99", "9" * 50, "9" * 51]
    assert len(set(map(label_key, labels))) == len(labels)
