"""`yourbert serve`: serve a model over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from yourbert.cli.options import add_runtime, at_least, runtime_of

HELP = "serve a model over HTTP, with a demo page"
DESCRIPTION = """Serves a model: POST /predict and /explain with JSON, a demo page at /, /openapi.json, /health, /ready
and /metrics. It has no authentication and no TLS: by default it listens on this machine only; put a proxy in front."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=at_least(0), default=8000, help="default: 8000; 0: any free port")
    add_runtime(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.deploy.batch import prepare_for_cli
    from yourbert.deploy.serve.limits import Limits
    from yourbert.deploy.serve.run import serve

    serve(options.model, options.host, options.port, prepare_for_cli(runtime_of(options)), Limits())
