"""Images by content: uploaded once, named by their sha256."""

import io
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from PIL import Image
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from accentor.errors import NotFoundError
from accentor.images import open_image
from accentor.spec import Sha256, is_sha256, sha256_hex
from accentor.storage.keys import image_key
from accentor_api.bodies import OCTETS, read_announced
from accentor_api.services import Services, WithServices

BODY = {"requestBody": {"required": True, "content": {"image/*": {}, OCTETS: {}}}}
UPLOADED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The image was here already"},
    201: {"description": "The image is new"},
}

router = APIRouter(prefix="/v1/images", tags=["images"])


class StoredImage(BaseModel):
    """An image that jobs can name."""

    id: Sha256
    bytes: int
    width: int = Field(description="pixels, upright")
    height: int = Field(description="pixels, upright")
    content_type: str


def _require_image_type(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == OCTETS):
        raise HTTPException(415, f"the body must be an image: content type image/* or {OCTETS}, given {kind!r}")


@router.post("", status_code=201, dependencies=[Depends(_require_image_type)], openapi_extra=BODY, responses=UPLOADED)
async def upload_image(request: Request, response: Response, services: WithServices) -> StoredImage:
    """Store the image in the body under its own sha256."""
    return await _store(services, await request.body(), response)


@router.put(
    "/{sha256}", status_code=201, dependencies=[Depends(_require_image_type)], openapi_extra=BODY, responses=UPLOADED
)
async def put_image(sha256: str, request: Request, response: Response, services: WithServices) -> StoredImage:
    """Store the image in the body if it has the sha256 it was announced with."""
    return await _store(services, await read_announced(request, sha256), response)


@router.head("/{sha256}", response_class=Response)
def has_image(sha256: str, services: WithServices) -> Response:
    """Tell whether the image is here."""
    size = services.images.size(sha256) if is_sha256(sha256) else None
    if size is None:
        raise _missing(sha256)
    return Response(headers={"ETag": f'"{sha256}"', "Content-Length": str(size)})


@router.get("/{sha256}", response_class=Response)
def get_image(sha256: str, services: WithServices) -> Response:
    """Return the image as it was uploaded."""
    if not is_sha256(sha256):
        raise _missing(sha256)
    data = services.images.get(sha256)
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(data, media_type=_content_type(data), headers=headers)


async def _store(services: Services, data: bytes, response: Response) -> StoredImage:
    async with services.decoders:
        image, is_new = await run_in_threadpool(_keep, services, data)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/images/{image.id}"
    return image


def _keep(services: Services, data: bytes) -> tuple[StoredImage, bool]:
    opened = open_image(data, max_pixels=services.settings.max_image_pixels)
    name, content_type = sha256_hex(data), _content_type(data)
    is_new = not services.objects.exists(image_key(name))
    if is_new:
        services.objects.put(image_key(name), data, content_type=content_type)
    image = StoredImage(id=name, bytes=len(data), width=opened.width, height=opened.height, content_type=content_type)
    return image, is_new


def _content_type(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return image.get_format_mimetype() or OCTETS


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no image {name[:80]!r}")
