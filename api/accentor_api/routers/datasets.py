"""Datasets: made once, never changed, named by batches instead of listing their images."""

import gzip
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import NotFoundError, UnknownDatasetError
from accentor.spec.datasets import DatasetCard, DatasetSpec, DatasetStatus
from accentor.storage.keys import dataset_key
from accentor_api.bodies import JSON_LINES, read_model
from accentor_api.openapi import DATASET_BODY, ONCE
from accentor_api.pages import DEFAULT_LIMIT, DatasetPage, Limit, RowPage
from accentor_api.services import Services, WithServices

LEFT_OUT: dict[int | str, dict[str, Any]] = {200: {"content": {JSON_LINES: {}}, "description": "One member a line"}}

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=202, openapi_extra=DATASET_BODY | ONCE)
async def create_dataset(request: Request, response: Response, services: WithServices) -> DatasetStatus:
    """Begin to make a dataset; each member is read once, and what lies in the store is not copied."""
    spec = await read_model(request, DatasetSpec, services.settings.max_body_bytes)
    status = await run_in_threadpool(services.indexer.start, spec)
    response.headers["Location"] = f"/v1/datasets/{spec.name}"
    return status


@router.get("")
def list_datasets(
    services: WithServices,
    cursor: Annotated[str | None, Query(max_length=100, description="name of the page's first")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> DatasetPage:
    """List the newest version of each dataset, by name."""
    cards = [card for card in services.datasets.newest() if card.name >= (cursor or "")]
    return DatasetPage(data=cards[:limit], next_cursor=cards[limit].name if len(cards) > limit else None)


@router.get("/{name}")
def get_dataset(name: str, services: WithServices) -> DatasetStatus:
    """Return how the dataset `NAME` stands, or the version `NAME@VERSION`."""
    if "@" in name:
        card = _card(services, name)
        return DatasetStatus(name=card.name, state="ready", card=card, updated_at=card.created_at)
    try:
        return services.datasets.status(name)
    except UnknownDatasetError as error:
        raise NotFoundError(error.detail) from error


@router.get("/{name}/versions")
def list_dataset_versions(name: str, services: WithServices) -> list[DatasetCard]:
    """List all versions, the newest first."""
    return services.datasets.history(_card(services, name).name)


@router.get("/{name}/images")
def list_dataset_images(
    name: str,
    services: WithServices,
    cursor: Annotated[int, Query(ge=0, le=2**31, description="index of the page's first image")] = 0,
    limit: Limit = DEFAULT_LIMIT,
) -> RowPage:
    """List the images in order."""
    rows = services.datasets.rows(_card(services, name).reference)
    following = cursor + limit
    return RowPage(data=list(rows[cursor:following]), next_cursor=str(following) if following < len(rows) else None)


@router.get("/{name}/{left_out}", response_class=Response, responses=LEFT_OUT)
def list_left_out(name: str, left_out: Literal["skipped", "duplicates"], services: WithServices) -> Response:
    """List all members that could not be read, or repeat an earlier one, as JSON Lines."""
    card = _card(services, name)
    key = dataset_key(card.name, card.version, f"{left_out}.jsonl.gz")
    count = card.skipped if left_out == "skipped" else card.duplicates
    data = gzip.decompress(services.objects.get(key)) + b"\n" if count else b""
    return Response(data, media_type=JSON_LINES)


@router.delete("/{name}", status_code=204, response_class=Response)
def delete_dataset(name: str, services: WithServices) -> Response:
    """Delete all versions of `NAME`, or `NAME@VERSION`; batches that were submitted with it go on."""
    card = _card(services, name)
    for one in [card] if "@" in name else services.datasets.history(name):
        services.datasets.delete(one)
    return Response(status_code=204)


def _card(services: Services, name: str) -> DatasetCard:
    try:
        return services.datasets.card(name)
    except UnknownDatasetError as error:
        raise NotFoundError(error.detail) from error
