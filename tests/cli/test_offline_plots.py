"""`yourbert offline-plots`: the page of `dvc plots` needs no network and still draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import browser
from tests.support.commands import YOURBERT

pytestmark = pytest.mark.integration

DVC = (sys.executable, "-m", "dvc")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*words], cwd=folder, capture_output=True, text=True, check=False)


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra plots is not installed")
    refused = run(tmp_path, *YOURBERT, "offline-plots")
    assert refused.returncode == 2 and refused.stderr.startswith("YB-P05") and refused.stderr.count("\n") == 1
    assert run(tmp_path, *DVC, "init", "--no-scm", "--quiet").returncode == 0
    (tmp_path / "curve.csv").write_text("epoch,loss\n1,0.5\n2,0.3\n")
    assert run(tmp_path, *YOURBERT, "offline-plots").returncode == 0
    shown = run(tmp_path, *DVC, "plots", "show", "curve.csv", "-x", "epoch", "-y", "loss")
    assert shown.returncode == 0, shown.stderr
    page = tmp_path / "dvc_plots" / "index.html"
    assert "<script src" not in page.read_text(encoding="utf-8")
    with browser(page.as_uri()) as tab:
        tab.wait_for_selector(".vega-embed svg, .vega-embed canvas")
        assert not [complaint for complaint in tab.complaints if complaint.startswith("http") or "Error" in complaint]
