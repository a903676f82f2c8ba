"""`yourbert serve`: a model behind HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from yourbert.cli.options import add_runtime, at_least, runtime_of

HELP = "answer over HTTP, with a page to try it"
DESCRIPTION = """Serves a model: POST /predict and /explain with JSON, a page at /, /openapi.json, /health, /ready and
/metrics. It has no passwords and no TLS: by default only this machine reaches it; put a proxy before it for others."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1, the default: this machine alone")
    parser.add_argument("--port", type=at_least(0), default=8000, help="0: any that is free")
    add_runtime(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.deploy.batch import prepared
    from yourbert.deploy.serve.limits import Limits
    from yourbert.deploy.serve.run import serve

    serve(options.model, options.host, options.port, prepared(runtime_of(options)), Limits())
