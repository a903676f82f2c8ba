"""File names out of addresses and settings: never two alike, and none that leads elsewhere."""

from __future__ import annotations

import pytest

from yourbert.core.errors import UserError
from yourbert.core.filenames import local_name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x.csv", "a/x.csv", "/x.csv", "C:\\x.csv", "\\\\host\\x", ".hidden", "manifest.json"),
        *("https://a.org/", "https://a.org", "https://a.org/..%2fx.csv", "https://a.org/%2e%2e", "http://[/x"),
        *("x\0.csv", "file:///etc/passwd", "https://a.org/x%0a.csv"),
    ],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(UserError, match="YB-P15"):
        local_name(name)
