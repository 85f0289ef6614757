"""The models this worker serves: loaded when first asked for, the least recently used one making room."""

import logging
from collections import OrderedDict
from collections.abc import Callable

from accentor.errors import AccentorError, ModelNotReadyError
from accentor.settings import Settings
from accentor.spec import ModelCard
from accentor_worker.services import LoadedModel

MAX_LOADED = 4
"""Models kept in memory at once."""

Load = Callable[..., LoadedModel]

logger = logging.getLogger(__name__)


class Models:
    """Loaded models by name.

    Parameters
    ----------
    settings
        Says which models are served, and on which device.
    load
        `accentor.load_model`, or what stands for it in tests.
    """

    def __init__(self, settings: Settings, load: Load) -> None:
        self._settings = settings
        self._load = load
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()

    def cards(self) -> list[ModelCard]:
        """Load each served model once and return their cards; raise what the first that cannot be loaded raises."""
        return [self._fetch(name).card for name in self._settings.models]

    def get(self, name: str) -> LoadedModel:
        """Return a model; `ModelNotReadyError` if this worker cannot load it, since another one may."""
        try:
            return self._fetch(name)
        except AccentorError as error:
            raise ModelNotReadyError(f"this worker cannot load {name}: {error.detail}") from error

    def _fetch(self, name: str) -> LoadedModel:
        if name not in self._loaded:
            place = self._settings.model_source(name)
            logger.info("loading %s from %s", name, place.source)
            model = self._load(place.source, weights=place.weights, device=self._settings.device, name=name)
            self._loaded[name] = model
            if len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]
