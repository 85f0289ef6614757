"""Atlases: what a whole dictionary sees in a dataset, as a site."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from accentor.spec.atlases import AtlasStatus
from accentor_api.atlases import open_atlas, view
from accentor_api.conditional import not_modified, tagged
from accentor_api.openapi import UNCHANGED
from accentor_api.pages import DEFAULT_LIMIT, AtlasPage, Limit
from accentor_api.services import WithServices

router = APIRouter(prefix="/v1/atlases", tags=["atlases"])


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
