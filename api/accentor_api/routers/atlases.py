"""Atlases: what a whole dictionary sees in a dataset, as a site."""

import hashlib
import hmac
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import NotFoundError
from accentor.spec.atlases import AtlasSpec, AtlasStatus
from accentor.storage.atlases import AtlasObjects, site_type
from accentor.storage.base import check_key
from accentor_api.atlases import create_atlas as accept
from accentor_api.atlases import open_atlas, view
from accentor_api.bodies import read_model
from accentor_api.conditional import not_modified, retry_after, tagged
from accentor_api.openapi import ATLAS_BODY, CREATED, ONCE, UNCHANGED
from accentor_api.pages import DEFAULT_LIMIT, AtlasPage, Limit, SiteFileEntry, SitePage
from accentor_api.services import Services, WithServices

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""A site needs nothing but its own files."""

KEPT_S = 3_600
"""Seconds that a browser keeps a file of a site without asking: it never changes."""

router = APIRouter(prefix="/v1/atlases", tags=["atlases"])


@router.post("", status_code=202, openapi_extra=ATLAS_BODY | ONCE, responses={202: CREATED[202]})
async def create_atlas(request: Request, response: Response, services: WithServices) -> AtlasStatus:
    """Accept an atlas: scan a dataset, accentuate each feature in its top images, evaluate, and publish a site.

    What was scanned or accentuated before is not computed again.
    """
    spec = await read_model(request, AtlasSpec, services.settings.max_body_bytes)
    atlas = await run_in_threadpool(accept, services, spec)
    found = await run_in_threadpool(view, services, atlas)
    response.headers["Location"] = f"/v1/atlases/{atlas.id}"
    response.headers.update(retry_after(found.eta_s or 0.0))
    return found.status


@router.get("")
def list_atlases(services: WithServices, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> AtlasPage:
    """List the atlases, the newest first."""
    found = services.atlases.recent(limit + 1, cursor)
    following = found[limit - 1].id if len(found) > limit else None
    return AtlasPage(data=[view(services, atlas).status for atlas in found[:limit]], next_cursor=following)


@router.get("/{atlas_id}", responses=UNCHANGED)
def get_atlas(
    atlas_id: str, response: Response, services: WithServices, if_none_match: Annotated[str | None, Header()] = None
) -> AtlasStatus:
    """Return the atlas step by step; with its `ETag` in `If-None-Match`, 304 until there is something new."""
    found = view(services, open_atlas(services, atlas_id))
    headers = tagged(found.tag, found.eta_s)
    if not_modified(headers, if_none_match):
        return Response(status_code=304, headers=headers)  # type: ignore[return-value]
    response.headers.update(headers)
    return found.status


@router.post("/{atlas_id}/cancel")
def cancel_atlas(atlas_id: str, services: WithServices) -> AtlasStatus:
    """Cancel the atlas: its step ends as a batch does; what was computed stays for the next one."""
    atlas = open_atlas(services, atlas_id)
    services.atlases.cancel(atlas.id)
    services.stepper.step(atlas.id)
    return view(services, services.atlases.get(atlas.id)).status


@router.delete("/{atlas_id}", status_code=204, response_class=Response)
def delete_atlas(atlas_id: str, services: WithServices) -> Response:
    """Delete an atlas that has ended, with its site; the results of its jobs stay for whoever asks for them again."""
    services.remove_atlas(open_atlas(services, atlas_id).id)
    return Response(status_code=204)


@router.get("/{atlas_id}/files")
def list_site_files(
    atlas_id: str,
    services: WithServices,
    cursor: Annotated[int, Query(ge=0, le=2**31, description="place of the page's first file")] = 0,
    limit: Limit = DEFAULT_LIMIT,
) -> SitePage:
    """List the files of the published site, its first page last; each lies beside that one."""
    atlas = open_atlas(services, atlas_id)
    if atlas.site is None:
        raise NotFoundError(f"the atlas {atlas.id} is {atlas.state} and has no site")
    found = list(AtlasObjects(services.objects, atlas.id).files(cursor, limit + 1))
    data = [SiteFileEntry(**asdict(file)) for file in found[:limit]]
    return SitePage(data=data, next_cursor=str(cursor + limit) if len(found) > limit else None)


@router.get("/{atlas_id}/site/{secret}/{path:path}", response_class=Response, responses=UNCHANGED)
def get_site_file(
    atlas_id: str,
    secret: str,
    path: str,
    services: WithServices,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a file of the published site; the address of its first page is the atlas' `site.url`."""
    data = _file(services, atlas_id, secret, path)
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Cache-Control": f"private, max-age={KEPT_S}",
        "Content-Security-Policy": POLICY,
    }
    if not_modified(headers, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=site_type(path), headers=headers)


def _file(services: Services, atlas_id: str, secret: str, name: str) -> bytes:
    """Return a file; a wrong secret is told nothing else than a wrong name."""
    atlas = open_atlas(services, atlas_id)
    if atlas.site is None or not hmac.compare_digest(atlas.secret.encode(), secret.encode()):
        raise NotFoundError(f"there is no site at this address of the atlas {atlas.id}")
    return AtlasObjects(services.objects, atlas.id).get_file(check_key(name))
