"""`yourbert offline-plots`: `dvc plots` without a network.

DVC's page of plots loads the library that draws them from elsewhere. A page template of one's own may hold it instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HELP = "let `dvc plots` draw without a network"
DESCRIPTION = """Writes .dvc/plots.html, a page that holds the library which draws DVC's plots (Vega-Lite, as the
package vl-convert-python carries it), and tells DVC of it in .dvc/config.local. `dvc plots show` and `dvc plots diff`
then make pages that need no network. `dvc config --local --unset plots.html_template` takes it back."""
TEMPLATE = Path("plots.html")  # DVC looks for it from .dvc on
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plots</title>
{refresh_tag}
<style>body { font-family: system-ui, sans-serif; margin: 1.5rem } table { border-spacing: 15px }</style>
<script>LIBRARY</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import dvc  # noqa: F401 - run below
    import vl_convert

    from yourbert.core.errors import fail
    from yourbert.core.storage import write_text

    folder = Path(".dvc")
    if not folder.is_dir():
        fail("P05", "no folder .dvc here", where="command line", fix="go to the project's folder")
    # DVC's plots are written for the fifth Vega-Lite.
    fifth = [version for version in vl_convert.get_vegalite_versions() if version.startswith("5.")]
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", max(fifth, key=_minor))
    assert "</script" not in library and "{plot_divs}" not in library, "it can stand in a page"
    write_text(folder / TEMPLATE, PAGE.replace("LIBRARY", library))
    told = ["dvc", "config", "--local", "plots.html_template", TEMPLATE.name]
    subprocess.run([sys.executable, "-m", *told], check=True)
    sys.stdout.write(f"wrote {folder / TEMPLATE}; `dvc plots show` needs no network now\n")


def _minor(version: str) -> int:
    return int(version.split(".")[1])
