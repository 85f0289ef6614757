"""Checking the lines of a batch of JSON Lines, one by one and fast: what comes again is checked once."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from accentor.errors import DuplicateIdError, InvalidRequestError, RequestError
from accentor.spec import BatchHeader, BatchLine, Feature, ModelCard, Sha256, resolve_recipe
from accentor.spec.jobs import CustomId, ModelName, Seed
from accentor.storage.pinning import Pins
from accentor_api.bodies import loaded, located
from accentor_api.checks import settled, settled_recipe
from accentor_api.faults import Fault, faults_of_validation
from accentor_api.seen import Seen

FEATURES_KEPT = 50_000
RECIPES_KEPT = 1_000
HEADER = "batch"


class RawLine(TypedDict):
    """A line as it is checked first; features and recipes are looked at only when they are new."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    feature: str | dict[str, Any]
    image: Sha256
    seed: NotRequired[Seed | None]
    recipe: NotRequired[str | dict[str, Any] | None]
    custom_id: NotRequired[CustomId | None]
    model: NotRequired[ModelName | None]


_RAW = TypeAdapter(RawLine)


class Line(NamedTuple):
    """A line that may be a job: only whether its image is here remains to be seen."""

    number: int
    data: bytes
    image: str


def header_of(data: bytes) -> BatchHeader | None:
    """Return what a first line of the form ``{"batch": {…}}`` says, or none if it is a job."""
    body = loaded(data) if HEADER.encode() in data else None
    if not isinstance(body, dict) or list(body) != [HEADER]:
        return None
    return BatchHeader.model_validate(body[HEADER])


def model_of(data: bytes) -> str | None:
    """Return the model that a line names, if it can be read."""
    body = loaded(data)
    found = body.get("model") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None


class LineChecker:
    """Checks lines for one model; what it finds wrong is told as faults with the line's number.

    Attributes
    ----------
    work
        Sum of steps × crops over the good lines.
    """

    def __init__(self, card: ModelCard, pins: Pins, model: str, default_work: int) -> None:
        self._card = card
        self._pins = pins
        self._model = model
        self._default_work = default_work
        self._ids = Seen()
        self._features: dict[str, _Settled] = {}
        self._recipes: dict[str, _Settled] = {}
        self.work = 0

    def check(self, number: int, data: bytes) -> Line | list[Fault]:
        """Return the line if it is good so far, else its faults."""
        try:
            raw = _RAW.validate_json(data)
        except ValidationError as error:
            return _numbered(number, _all_faults(data, error))
        feature, recipe = self._feature(raw["feature"]), self._recipe(raw.get("recipe"))
        faults = list(self._faults(number, raw, feature, recipe))
        if faults:
            return _numbered(number, faults)
        pinned = {name: one.pinned for name, one in (("feature", feature), ("recipe", recipe)) if one.pinned}
        return Line(number, json.dumps({**raw, **pinned}).encode() if pinned else data, raw["image"])

    def _faults(self, number: int, raw: RawLine, feature: "_Settled", recipe: "_Settled") -> Iterator[Fault]:
        if feature.error is not None:
            yield Fault.of("/feature", feature.error)
        if recipe.error is not None:
            yield Fault.of("/recipe", recipe.error)
        model = raw.get("model")
        if model is not None and model != self._model:
            yield Fault(
                "/model", f"the batch is for the model {self._model!r}: one batch, one model", "invalid-request"
            )
        name = raw.get("custom_id")
        if name is not None and (first := self._ids.add(name, number)) is not None:
            yield Fault("/custom_id", f"{name!r} was given in line {first} already", DuplicateIdError.code)
        if feature.error is None:
            self.work += recipe.work

    def _feature(self, feature: str | dict[str, Any]) -> "_Settled":
        if isinstance(feature, dict):
            return self._settled_feature(feature)
        if feature not in self._features:
            if len(self._features) >= FEATURES_KEPT:
                self._features.clear()
            self._features[feature] = self._settled_feature(feature)
        return self._features[feature]

    def _settled_feature(self, value: str | dict[str, Any]) -> "_Settled":
        try:
            feature = _parsed_feature(value)
            pinned = settled(self._card, self._pins, feature)
        except RequestError as error:
            return _Settled(error=error)
        return _Settled(pinned=pinned.model_dump(mode="json") if pinned.references else None)

    def _recipe(self, recipe: str | dict[str, Any] | None) -> "_Settled":
        if recipe is None:
            return _Settled(work=self._default_work)
        key = recipe if isinstance(recipe, str) else json.dumps(recipe, sort_keys=True)
        if key not in self._recipes:
            if len(self._recipes) >= RECIPES_KEPT:
                self._recipes.clear()
            self._recipes[key] = self._settled_recipe(recipe)
        return self._recipes[key]

    def _settled_recipe(self, recipe: str | dict[str, Any]) -> "_Settled":
        try:
            resolved = resolve_recipe(recipe)
            pinned = settled_recipe(self._card, self._pins, resolved)
        except RequestError as error:
            return _Settled(error=error, work=self._default_work)
        changed = None if pinned is resolved else pinned.model_dump(mode="json")
        return _Settled(pinned=changed, work=resolved.steps * resolved.crops)


class _Settled(NamedTuple):
    """What was found of a feature or a recipe: its error, or what stands for it if it names a dictionary."""

    error: RequestError | None = None
    pinned: dict[str, Any] | None = None
    work: int = 0


_FEATURE: TypeAdapter[Any] = TypeAdapter(Feature)


def _parsed_feature(value: str | dict[str, Any]) -> Any:
    try:
        return _FEATURE.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, RequestError):
            raise cause from error
        where = "/".join(map(str, first["loc"][1:]))
        raise InvalidRequestError(f"{where}: {first['msg']}" if where else str(first["msg"])) from error


def _all_faults(data: bytes, first: ValidationError) -> list[Fault]:
    """Return everything that is wrong with a line: all its fields are looked at again, slowly."""
    try:
        BatchLine.model_validate_json(data)
    except ValidationError as error:
        return faults_of_validation(located(error), loaded(data))
    return faults_of_validation(located(first), loaded(data))


def _numbered(number: int, faults: Sequence[Fault]) -> list[Fault]:
    return [fault._replace(line=number) for fault in faults]
