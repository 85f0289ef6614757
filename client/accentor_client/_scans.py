"""Scans without input or output: what is asked for, how long it is waited for, and what is fetched."""

from pathlib import Path
from typing import Literal, TypedDict

from accentor.errors import CanceledError, InvalidRequestError, error_from_code
from accentor.spec.scans import ScanSpec, ScanStatus
from accentor_client import _calls
from accentor_client._following import Patience, Program, Stream, Told
from accentor_client._saving import plain_name, write
from accentor_client._sources import checked


class ScanOptions(TypedDict, total=False):
    """What is scanned, all channels of ``layer`` or the features of ``dictionary``, and how."""

    layer: str
    dictionary: str
    top_k: int
    top_features: int
    reduce: Literal["mean", "max"]
    code: Literal["pre", "post"]


def scanning(dataset: str, model: str, options: ScanOptions, timeout: float | None) -> Stream[ScanStatus]:
    """Scan a dataset, and tell how that stands until it is ready; if it fails, raise why."""
    status: ScanStatus = yield _calls.create_scan(dataset, checked(ScanSpec, {**options, "model": model}))
    patience = Patience(timeout, f"scan {status.id}")
    while True:
        yield Told(status)
        if status.state == "ready":
            return
        if status.state == "canceled":
            raise CanceledError(f"scan {status.id} of {status.dataset} was canceled")
        if status.state == "failed":
            failure = status.failure
            raise error_from_code(failure.code, failure.detail) if failure else _not_ready(status)
        yield patience.pause()
        status = yield _calls.get_scan(status.dataset, status.id)


def saving(scan: ScanStatus, folder: Path) -> Program[Path]:
    """Get the tables of a scan into a folder."""
    known: ScanStatus = yield _calls.get_scan(scan.dataset, scan.id)
    if known.card is None:
        raise _not_ready(known)
    for name, url in known.tables.items():
        write(folder / f"{plain_name(name)}.parquet", (yield _calls.fetch(url)))
    return folder


def _not_ready(status: ScanStatus) -> InvalidRequestError:
    return InvalidRequestError(f"scan {status.id} of {status.dataset} is {status.state}: it has no tables")
