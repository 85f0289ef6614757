"""Atlases as they are shown."""

import re
from typing import NamedTuple

from accentor.errors import NotFoundError
from accentor.spec import BatchStatus
from accentor.spec.atlases import AtlasStatus, AtlasStep, AtlasStepName
from accentor.state import AtlasRecord
from accentor_api.services import Services

FIRST_PAGE = "index.html"

_ATLAS_ID = re.compile(r"[a-z0-9]{1,40}")


class AtlasView(NamedTuple):
    """An atlas as it stands, a text that changes whenever there is something new to tell, and seconds to its end."""

    status: AtlasStatus
    tag: str
    eta_s: float | None


def open_atlas(services: Services, atlas_id: str) -> AtlasRecord:
    """Return an atlas; nothing that cannot be an id ever becomes part of a key."""
    if not _ATLAS_ID.fullmatch(atlas_id):
        raise NotFoundError(f"there is no atlas {atlas_id[:80]!r}")
    return services.atlases.get(atlas_id)


def view(services: Services, atlas: AtlasRecord) -> AtlasView:
    """Return an atlas as it stands, with how far its present step is."""
    batch = _batch(services, atlas)
    present = [] if atlas.finished_at else [AtlasStep.of(atlas.step, batch)]
    known = {step.name: step for step in [*atlas.ended, *present]}
    site = atlas.site and atlas.site.model_copy(update={"url": site_path(atlas)})
    status = AtlasStatus(
        id=atlas.id,
        state=atlas.state,
        title=atlas.spec.shown_title,
        spec=atlas.spec,
        steps=tuple(known.get(name, AtlasStep(name=name)) for name in AtlasStepName),
        step=atlas.step,
        failure=atlas.failure,
        site=site,
        created_at=atlas.created_at,
        finished_at=atlas.finished_at,
        cancel_requested_at=atlas.cancel_requested_at,
    )
    eta_s = None if atlas.finished_at else (batch and batch.eta_s) or 0.0
    return AtlasView(status, f"{atlas.revision}.{batch.revision if batch else ''}", eta_s)


def site_path(atlas: AtlasRecord, name: str = FIRST_PAGE) -> str:
    """Return where a file of an atlas' site is served."""
    return f"/v1/atlases/{atlas.id}/site/{atlas.secret}/{name}"


def _batch(services: Services, atlas: AtlasRecord) -> BatchStatus | None:
    if atlas.finished_at or atlas.batch is None:
        return None
    try:
        return services.jobs.status(atlas.batch)
    except NotFoundError:
        return None
