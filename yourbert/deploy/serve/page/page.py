"""The static files of the demo page, which uses the JSON endpoints of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.responses import Response

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


def page_endpoints() -> Mapping[str, Callable[[], Awaitable[Response]]]:
    """Path -> endpoint of each file of the page."""
    return {path: _endpoint((HERE / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}


def _endpoint(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    headers = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}

    async def endpoint() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)

    return endpoint
