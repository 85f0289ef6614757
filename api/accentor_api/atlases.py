"""Atlases: accepting them, and how they are shown."""

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from accentor.errors import NotFoundError, RequestError, ServiceError
from accentor.spec import BatchStatus, ModelCard
from accentor.spec.atlases import AtlasSpec, AtlasStatus, AtlasStep, AtlasStepName, step_batch_id, sweeping
from accentor.state import AtlasRecord, NewAtlas
from accentor.storage.batches import keep_card
from accentor.storage.pinning import Pins
from accentor_api.callers import caller_id
from accentor_api.checks import settled_recipe
from accentor_api.faults import Fault, error_of
from accentor_api.services import Services
from accentor_api.submission import new_id

FIRST_PAGE = "index.html"
SECRET_BYTES = 16

_ATLAS_ID = re.compile(r"[a-z0-9]{1,40}")
T = TypeVar("T")


class AtlasView(NamedTuple):
    """An atlas as it stands, a text that changes whenever there is something new to tell, and seconds to its end."""

    status: AtlasStatus
    tag: str
    eta_s: float | None


def create_atlas(services: Services, spec: AtlasSpec) -> AtlasRecord:
    """Check an atlas, create it and begin its first step; if that fails now, the workers begin it."""
    card = services.jobs.model(spec.model)
    checked, features = _checked(services, spec, card)
    keep_card(services.objects, card)
    atlas_id = new_id()
    services.admit(step_batch_id(atlas_id, AtlasStepName.ACCENTUATE), checked.most_pictures(features))
    services.atlases.create(
        NewAtlas(atlas_id, checked, card.digest, secrets.token_hex(SECRET_BYTES), datetime.now(UTC), caller_id())
    )
    with suppress(ServiceError):
        services.stepper.step(atlas_id)
    services.dispatch()
    return services.atlases.get(atlas_id)


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


def _checked(services: Services, spec: AtlasSpec, card: ModelCard) -> tuple[AtlasSpec, int]:
    """Return the atlas with the versions of its dataset and dictionary, and how many features there are.

    Raises
    ------
    RequestError
        With all that is wrong.
    """
    pins = Pins(services.dictionaries, services.datasets, card)
    faults: list[Fault] = []

    def known(pointer: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except RequestError as error:
            faults.append(Fault.of(pointer, error))
            return None

    dataset = known("/dataset", lambda: services.datasets.card(spec.dataset))
    layer, named = spec.layer, spec.dictionary
    dictionary = None if named is None else known("/dictionary", lambda: pins.card(named))
    units = 0 if layer is None else known("/layer", lambda: card.layer(layer).units)
    recipe = known("/recipe", lambda: settled_recipe(card, pins, spec.recipe))
    known("/recipe", lambda: card.check_recipe(sweeping(spec.recipe)))
    if faults or dataset is None or recipe is None:
        raise error_of(faults)
    reference = None if dictionary is None else dictionary.reference
    features = dictionary.features if dictionary else units or 0
    return spec.model_copy(update={"dataset": dataset.reference, "dictionary": reference, "recipe": recipe}), features


def _batch(services: Services, atlas: AtlasRecord) -> BatchStatus | None:
    if atlas.finished_at or atlas.batch is None:
        return None
    try:
        return services.jobs.status(atlas.batch)
    except NotFoundError:
        return None
