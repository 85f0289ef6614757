"""What was submitted, as it lies in the object store: specifications, and the lines of batches of JSON Lines."""

import gzip
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from accentor.errors import InvalidRequestError
from accentor.spec import BatchSpec, Catalog, Jobs, LineJobs, LinesBatch, ModelCard, canonical_json
from accentor.spec.atlases import AtlasBatch
from accentor.spec.scans import ScanBatch
from accentor.storage.base import ObjectStore
from accentor.storage.catalog import StoredCatalog
from accentor.storage.keys import batch_spec_key, block_key, card_key

PACKING = 1
"""Level of gzip: the lines of a batch are alike, more effort hardly makes them smaller."""

AnyBatch = BatchSpec | LinesBatch | ScanBatch | AtlasBatch


def _form(value: Any) -> str:
    form = value.get("form") if isinstance(value, Mapping) else getattr(value, "form", None)
    return form if form in {"lines", "scan", "atlas"} else "batch"


_BATCH: TypeAdapter[AnyBatch] = TypeAdapter(
    Annotated[
        Annotated[BatchSpec, Tag("batch")]
        | Annotated[LinesBatch, Tag("lines")]
        | Annotated[ScanBatch, Tag("scan")]
        | Annotated[AtlasBatch, Tag("atlas")],
        Discriminator(_form),
    ]
)


def keep_card(objects: ObjectStore, card: ModelCard) -> None:
    """Store the card of the model that something was submitted for, unless it is there."""
    if not objects.exists(card_key(card.digest)):
        data = canonical_json(card.model_dump(mode="json"))
        objects.put(card_key(card.digest), data, content_type="application/json")


def read_card(objects: ObjectStore, digest: str) -> ModelCard:
    """Return the card of the model with this digest; `NotFoundError` if nothing was submitted for it."""
    return ModelCard.model_validate_json(objects.get(card_key(digest)))


def write_batch(objects: ObjectStore, batch_id: str, batch: AnyBatch) -> None:
    """Store what was submitted."""
    data = canonical_json(batch.model_dump(mode="json"))
    objects.put(batch_spec_key(batch_id), data, content_type="application/json")


def read_batch(objects: ObjectStore, batch_id: str) -> AnyBatch:
    """Return what was submitted; `NotFoundError` if it is gone, `ValidationError` if it is not valid here."""
    return _BATCH.validate_json(objects.get(batch_spec_key(batch_id)))


def jobs_of(
    objects: ObjectStore, batch_id: str, batch: AnyBatch, card: ModelCard, catalog: Catalog | None = None
) -> Jobs | LineJobs:
    """Return the jobs of what was submitted, decoded when they are asked for; `InvalidRequestError` for others."""
    if isinstance(batch, BatchSpec):
        return batch.expand(card, catalog or StoredCatalog(objects))
    if isinstance(batch, ScanBatch):
        name = batch.dataset.partition("@")[0]
        raise InvalidRequestError(
            f"batch {batch_id} is a scan and has no pictures: see /v1/datasets/{name}/scans/{batch.scan}"
        )
    if isinstance(batch, AtlasBatch):
        raise InvalidRequestError(
            f"batch {batch_id} is a step of an atlas and has no pictures: see /v1/atlases/{batch.atlas}"
        )
    return LineJobs(batch, lambda number: read_block(objects, batch_id, number))


def write_block(objects: ObjectStore, batch_id: str, number: int, lines: Sequence[bytes]) -> None:
    """Store a block of lines."""
    packed = gzip.compress(b"\n".join(lines), PACKING, mtime=0)
    objects.put(block_key(batch_id, number), packed, content_type="application/gzip")


def read_block(objects: ObjectStore, batch_id: str, number: int) -> list[bytes]:
    """Return the lines of a block."""
    return gzip.decompress(objects.get(block_key(batch_id, number))).split(b"\n")
