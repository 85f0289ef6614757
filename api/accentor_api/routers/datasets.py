"""Datasets: made once, never changed, named by batches instead of listing their images."""

import gzip
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import NotFoundError, UnknownDatasetError
from accentor.spec.datasets import DatasetCard, DatasetSpec, DatasetStatus
from accentor.spec.scans import ScanSpec, ScanStatus
from accentor.storage.keys import dataset_key
from accentor_api.bodies import JSON_LINES, read_model
from accentor_api.openapi import DATASET_BODY, ONCE, SCAN_BODY
from accentor_api.pages import DEFAULT_LIMIT, DatasetPage, Limit, RowPage
from accentor_api.scans import scan_status, start_scan
from accentor_api.services import Services, WithServices

LEFT_OUT: dict[int | str, dict[str, Any]] = {200: {"content": {JSON_LINES: {}}, "description": "One member a line"}}
SCANNED: dict[int | str, dict[str, Any]] = {200: {"description": "It was scanned before"}}

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


@router.post("/{name}/scans", status_code=202, openapi_extra=SCAN_BODY | ONCE, responses=SCANNED)
async def create_scan(name: str, request: Request, response: Response, services: WithServices) -> ScanStatus:
    """Scan a dataset: what every channel of a layer, or feature of a dictionary, does on its images.

    What was scanned before, by the same weights and settings, answers 200.
    """
    spec = await read_model(request, ScanSpec, services.settings.max_body_bytes)
    status = await run_in_threadpool(start_scan, services, _card(services, name), spec)
    response.status_code = 200 if status.state == "ready" else 202
    response.headers["Location"] = f"/v1/datasets/{status.dataset}/scans/{status.id}"
    return status


@router.get("/{name}/scans")
def list_scans(name: str, services: WithServices) -> list[ScanStatus]:
    """List the scans of a dataset's version as they stand."""
    reference = _card(services, name).reference
    return [scan_status(services, reference, scan) for scan in services.scans.started(reference)]


@router.get("/{name}/scans/{scan_id}")
def get_scan(name: str, scan_id: str, services: WithServices) -> ScanStatus:
    """Return a scan as it stands, with links to its Parquet tables once it is ready."""
    return scan_status(services, _card(services, name).reference, scan_id)


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
