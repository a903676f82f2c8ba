"""Three files that never change; what is asked and answered passes through the service's JSON."""

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


def page() -> Mapping[str, Callable[[], Awaitable[Response]]]:
    """What answers each path of the page."""
    return {path: _part((HERE / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}


def _part(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    headers = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}

    async def part() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)

    return part
