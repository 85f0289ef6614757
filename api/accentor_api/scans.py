"""Starting scans of datasets, and telling how they stand."""

import re

from accentor.errors import NotFoundError
from accentor.spec import BatchState, BatchStatus
from accentor.spec.datasets import DatasetCard
from accentor.spec.scans import ID_FORM, ScanSpec, ScanStatus, WantedScan
from accentor.storage.scans import TABLES, table_key
from accentor_api.services import Services
from accentor_api.submission import create, new_id

STATES = {
    BatchState.SUCCEEDED: "failed",
    BatchState.FAILED: "failed",
    BatchState.PARTIALLY_FAILED: "failed",
    BatchState.CANCELING: "canceled",
    BatchState.CANCELED: "canceled",
    BatchState.RUNNING: "running",
}
"""What the state of a scan's batch means while there is no card; a batch that has succeeded without one lost it."""


def start_scan(services: Services, dataset: DatasetCard, spec: ScanSpec) -> ScanStatus:
    """Queue a scan, unless it is there or under way."""
    model = services.jobs.model(spec.model)
    dictionary = None
    if spec.dictionary is not None:
        dictionary = services.dictionaries.card(spec.dictionary)
        dictionary.check_model(model)
    wanted = WantedScan(spec, dataset, model, spec.layer, dictionary)
    known = _known(services, dataset.reference, wanted.id)
    if known is not None and known.state in {"queued", "running", "ready"}:
        return known
    batch_id = new_id()
    batch = wanted.batch(batch_id, services.datasets.names(dataset.reference))
    services.archive.keep(batch_id, batch, model)
    create(services, batch_id, batch, model, batch.total, shard_jobs=1)
    services.scans.set_batch(dataset.reference, batch.scan, batch_id)
    services.dispatch()
    return scan_status(services, dataset.reference, batch.scan)


def scan_status(services: Services, dataset: str, scan: str) -> ScanStatus:
    """Return a scan as it stands; `NotFoundError` if there is none."""
    known = _known(services, dataset, scan)
    if known is None:
        raise NotFoundError(f"there is no scan {scan[:80]!r} of the dataset {dataset}")
    return known


def _known(services: Services, dataset: str, scan: str) -> ScanStatus | None:
    if not re.fullmatch(ID_FORM, scan):
        return None
    batch = services.scans.batch(dataset, scan)
    status = _status(services, batch)
    card = services.scans.card(dataset, scan)  # read last: it is there before its batch is said to have ended
    if card is not None:
        tables = {name: services.links.to(table_key(card, name)) for name in TABLES}
        return ScanStatus(
            id=scan,
            dataset=dataset,
            state="ready",
            batch=batch,
            shards=card.shards,
            done=card.shards,
            card=card,
            tables=tables,
        )
    if status is None:
        return None
    failures = services.jobs.failures(status.id, limit=1) if status.counts.failed else []
    return ScanStatus.model_validate(
        {
            "id": scan,
            "dataset": dataset,
            "state": STATES.get(status.state, "queued"),
            "batch": batch,
            "shards": status.total,
            "done": status.counts.succeeded,
            "failure": failures[0][1] if failures else None,
        }
    )


def _status(services: Services, batch: str | None) -> BatchStatus | None:
    try:
        return None if batch is None else services.jobs.status(batch)
    except NotFoundError:
        return None
