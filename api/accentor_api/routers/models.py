"""What can be asked for: models, their layers, and recipes."""

from fastapi import APIRouter

from accentor.errors import NotFoundError, UnknownModelError
from accentor.spec import PRESETS, LayerInfo, ModelCard, Recipe
from accentor_api.pages import ModelList, ModelSummary
from accentor_api.services import Services, WithServices

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
def list_models(services: WithServices) -> ModelList:
    """List the models that workers have announced, and which of them a worker has ready now."""
    cards = sorted(services.jobs.models(), key=lambda card: card.name)
    ready = services.jobs.ready_models()
    return ModelList(data=[ModelSummary.of(card, ready=card.name in ready) for card in cards])


@router.get("/models/{name:path}/layers")
def list_layers(name: str, services: WithServices) -> list[LayerInfo]:
    """List a model's layers with the shapes of their activations."""
    return list(_card(services, name).layers)


@router.get("/models/{name:path}")
def get_model(name: str, services: WithServices) -> ModelCard:
    """Return everything about a model that is known without loading it."""
    return _card(services, name)


@router.get("/recipes")
def list_recipes() -> dict[str, Recipe]:
    """Return the presets with all their values."""
    return dict(PRESETS)


def _card(services: Services, name: str) -> ModelCard:
    try:
        return services.jobs.model(name)
    except UnknownModelError as error:
        raise NotFoundError(error.detail, **error.extra) from error
