"""`yourbert offline-plots`: `dvc plots` without a network.

DVC's plots page loads its drawing library from a server. A custom page template can contain the library instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HELP = "make `dvc plots` work without a network"
DESCRIPTION = """Writes .dvc/plots.html, a page template that contains DVC's drawing library (Vega-Lite, from the
package vl-convert-python), and sets it in .dvc/config.local. `dvc plots show` and `dvc plots diff` then make
pages that need no network. `dvc config --local --unset plots.html_template` undoes it."""
TEMPLATE = Path("plots.html")  # relative to .dvc
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
        fail("P05", "no folder .dvc here", where="command line", fix="change to the project folder")
    # DVC's plots are written for Vega-Lite 5.
    fifth = [version for version in vl_convert.get_vegalite_versions() if version.startswith("5.")]
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", max(fifth, key=_minor))
    assert "</script" not in library and "{plot_divs}" not in library, "the library fits into a script element"
    write_text(folder / TEMPLATE, PAGE.replace("LIBRARY", library))
    command = ["dvc", "config", "--local", "plots.html_template", TEMPLATE.name]
    subprocess.run([sys.executable, "-m", *command], check=True)
    sys.stdout.write(f"wrote {folder / TEMPLATE}; `dvc plots show` needs no network now\n")


def _minor(version: str) -> int:
    return int(version.split(".")[1])
