"""The service's own pages: files without a build step, and what a browser may do with them."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import accentor
from accentor_api.services import Services

STATIC = Path(__file__).parent / "static"
SAMPLES = Path(accentor.__file__).parent / "engine/reference/samples"
REVALIDATED = {"Cache-Control": "no-cache"}
"""Modules of two releases never meet in one page."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:{store}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Pictures: ours, previews while they develop, what was dropped, and results where the store serves them itself."""


class _Files(StaticFiles):
    """Files that a browser asks for anew, and gets if they have changed."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(REVALIDATED)
        return response


def install(app: FastAPI) -> None:
    """Let the application serve the pages at ``/``."""
    app.mount("/static/samples", _Files(directory=SAMPLES))
    app.mount("/static", _Files(directory=STATIC))
    app.add_api_route("/", _page, include_in_schema=False)


def _page(request: Request) -> FileResponse:
    services: Services = request.app.state.services
    headers = REVALIDATED | {"Content-Security-Policy": POLICY.format(store=_origin(services.links.to("any")))}
    return FileResponse(STATIC / "index.html", headers=headers)


def _origin(link: str) -> str:
    """Return where a link leads, with a space before it; nothing if it leads here."""
    parts = urlsplit(link)
    return f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
