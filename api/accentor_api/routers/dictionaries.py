"""Feature dictionaries: made once, never changed, named by jobs and batches."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnknownDictionaryError,
)
from accentor.spec import DictionaryCard, DictionaryFeature, DictionarySpec, is_sha256
from accentor.spec.scans import ScanCard, shown_scan
from accentor.storage.keys import upload_key
from accentor_api.bodies import OCTETS, read_announced, read_model, require
from accentor_api.openapi import DICTIONARY_BODY, ONCE
from accentor_api.pages import DEFAULT_LIMIT, DictionaryPage, FeaturePage, Limit, StoredFile
from accentor_api.services import Services, WithServices

FILE_S = 86_400.0
"""Seconds that an uploaded file waits for a dictionary to be made from it."""

BODY = {"requestBody": {"required": True, "content": {OCTETS: {}}}}

router = APIRouter(prefix="/v1/dictionaries", tags=["dictionaries"])


def _require_octets(request: Request) -> None:
    require(request, [OCTETS])


@router.put("/files/{sha256}", status_code=201, dependencies=[Depends(_require_octets)], openapi_extra=BODY)
async def put_file(sha256: str, request: Request, services: WithServices) -> StoredFile:
    """Store a `.npy` or `.safetensors` file that a dictionary is to be made from, if it has the announced sha256."""
    data = await read_announced(request, sha256)
    await run_in_threadpool(_keep_file, services, upload_key(sha256), data)
    return StoredFile(id=sha256, bytes=len(data))


@router.head("/files/{sha256}", response_class=Response)
def has_file(sha256: str, services: WithServices) -> Response:
    """Tell whether the file is here and waits for a dictionary to be made from it."""
    size = services.objects.size(upload_key(sha256)) if is_sha256(sha256) else None
    if size is None:
        raise NotFoundError(f"there is no uploaded file {sha256[:80]!r}")
    return Response(headers={"Content-Length": str(size)})


@router.post("", status_code=201, openapi_extra=DICTIONARY_BODY | ONCE)
async def create_dictionary(request: Request, response: Response, services: WithServices) -> DictionaryCard:
    """Make a dictionary; what is there already with the same contents answers 200."""
    spec = await read_model(request, DictionarySpec, services.settings.max_body_bytes)
    async with services.examiners:
        card, is_new = await run_in_threadpool(_create, services, spec)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/dictionaries/{card.reference}"
    return card


@router.get("")
def list_dictionaries(
    services: WithServices,
    model: Annotated[str | None, Query(max_length=200, description="only those of this model")] = None,
    cursor: Annotated[str | None, Query(max_length=100, description="name of the page's first")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> DictionaryPage:
    """List the newest version of each dictionary, by name."""
    cards = [card for card in services.dictionaries.newest() if model in (None, card.model)]
    cards = [card for card in cards if card.name >= (cursor or "")]
    return DictionaryPage(data=cards[:limit], next_cursor=cards[limit].name if len(cards) > limit else None)


@router.get("/{name}")
def get_dictionary(name: str, services: WithServices) -> DictionaryCard:
    """Return the newest version of `NAME`, or `NAME@VERSION`."""
    return _card(services, name)


@router.get("/{name}/versions")
def list_versions(name: str, services: WithServices) -> list[DictionaryCard]:
    """List all versions, the newest first."""
    return services.dictionaries.history(_card(services, name).name)


@router.get("/{name}/scans")
def list_dictionary_scans(name: str, services: WithServices) -> list[ScanCard]:
    """List the finished scans of a dictionary's version, over any dataset, the newest first."""
    return services.scans.of_dictionary(_card(services, name).reference)


@router.get("/{name}/features")
def list_features(
    name: str,
    services: WithServices,
    search: Annotated[str | None, Query(max_length=200, description="part of a label, in any case")] = None,
    state: Annotated[Literal["ok", "zero", "not-finite", "duplicate"] | None, Query(description="only those")] = None,
    scan: Annotated[
        str | None, Query(max_length=64, description="id of that with the statistics; else the newest usual one")
    ] = None,
    cursor: Annotated[int, Query(ge=0, le=2**31, description="index of the page's first feature")] = 0,
    limit: Limit = DEFAULT_LIMIT,
) -> FeaturePage:
    """List the features by index: label, length of the vector, statistics, and what is wrong with them.

    The statistics are those that the dictionary came with, and those of a scan.
    """
    card = _card(services, name)
    scanned = _statistics(services, card, scan)
    found = list(islice(_features(services, card, search, state, cursor, scanned), limit + 1))
    return FeaturePage(data=found[:limit], next_cursor=str(found[limit].index) if len(found) > limit else None)


@router.delete("/{name}", status_code=204, response_class=Response)
def delete_dictionary(name: str, services: WithServices) -> Response:
    """Delete all versions of `NAME`, or `NAME@VERSION`; jobs that are still to be computed with it fail."""
    card = _card(services, name)
    for one in [card] if "@" in name else services.dictionaries.history(name):
        services.dictionaries.delete(one)
    return Response(status_code=204)


def _keep_file(services: Services, key: str, data: bytes) -> None:
    services.jobs.note_upload(key, alive_s=FILE_S)
    services.objects.put(key, data)


def _create(services: Services, spec: DictionarySpec) -> tuple[DictionaryCard, bool]:
    model = services.jobs.model(spec.model)
    made = services.dictionaries.create(spec, model, _data(services, spec))
    if spec.file is not None:
        services.objects.delete(upload_key(spec.file))
        services.jobs.end_upload(upload_key(spec.file))
    return made


def _data(services: Services, spec: DictionarySpec) -> bytes:
    if spec.channels:
        return b""
    key = spec.object or upload_key(spec.file or "")
    size = services.objects.size(key)
    if size is None:
        advice = "upload it first" if spec.file else "it is no object of this service's store"
        raise InvalidRequestError(f"the file {spec.file or key!r} is not here: {advice}")
    limit = services.settings.max_dictionary_bytes
    if size > limit:
        raise TooLargeError(f"the object {key!r} has {size} bytes, at most {limit} are taken", bytes=size, limit=limit)
    return services.objects.get(key)


def _features(
    services: Services,
    card: DictionaryCard,
    search: str | None,
    state: str | None,
    first: int,
    scanned: Mapping[str, Sequence[float | None]],
) -> Iterator[DictionaryFeature]:
    table, wanted = services.dictionaries.table(card), (search or "").casefold()
    for index in range(first, card.features):
        if wanted and (table.labels is None or wanted not in table.labels[index].casefold()):
            continue
        feature = table.feature(card, index, scanned)
        if state in (None, feature.state):
            yield feature


def _statistics(services: Services, card: DictionaryCard, scan: str | None) -> Mapping[str, Sequence[float | None]]:
    chosen = shown_scan([one for one in services.scans.of_dictionary(card.reference) if scan in (None, one.id)])
    if scan is not None and chosen is None:
        raise NotFoundError(f"there is no scan {scan!r} of the dictionary {card.reference}")
    return {} if chosen is None else services.scans.statistics(chosen)


def _card(services: Services, name: str) -> DictionaryCard:
    try:
        return services.dictionaries.card(name)
    except UnknownDictionaryError as error:
        raise NotFoundError(error.detail) from error
