"""Artefacts in a `file://` store, by signed link."""

import hashlib
import time
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from accentor_api.services import WithServices

MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".json": "application/json"}

router = APIRouter(prefix="/v1/objects", tags=["objects"])


@router.get("/{key:path}", response_class=Response)
def get_object(
    key: str,
    services: WithServices,
    expires: Annotated[int, Query(description="Unix time in seconds")],
    signature: Annotated[str, Query(max_length=128)],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the object that a link from a job's `urls` leads to."""
    services.links.check(key, expires, signature)
    data = services.objects.get(key)
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Cache-Control": f"private, max-age={max(0, expires - int(time.time()))}, immutable",
    }
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    media_type = MEDIA_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")
    return Response(data, media_type=media_type, headers=headers)
