"""What a user gives, made into what is sent: images into bytes, arguments into specifications."""

import io
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, TypeVar

from PIL import Image
from pydantic import BaseModel, ValidationError

from accentor.errors import AccentorError, InvalidImageError, InvalidRequestError, what_is_wrong
from accentor.images import open_image
from accentor.spec import (
    BatchSpec,
    DatasetImages,
    DictionaryFeatures,
    Feature,
    JobSpec,
    Lane,
    LayerFeatures,
    Recipe,
    TopK,
    is_sha256,
    parse_feature,
    resolve_recipe,
)
from accentor.spec.features import FeatureBase
from accentor_client._calls import ImageRef

ImageSource = ImageRef | str | Path | bytes | Image.Image
"""An uploaded image, its sha256, or a path, the bytes of a file, or a PIL image that is uploaded when needed."""

FeatureSource = Feature | str
FeaturesSource = FeatureSource | Sequence[FeatureSource] | LayerFeatures | DictionaryFeatures | Mapping[str, Any]
ImagesSource = ImageSource | Iterable[ImageSource] | DatasetImages | Mapping[str, Any]
RecipeSource = Recipe | str | Mapping[str, Any]

M = TypeVar("M", bound=BaseModel)


class JobOptions(TypedDict, total=False):
    """What a job is made of; what is left out is the service's default."""

    model: Required[str]
    feature: Required[FeatureSource]
    image: Required[ImageSource]
    recipe: RecipeSource
    seed: int
    custom_id: str | None
    metadata: Mapping[str, str]


class BatchJobOptions(TypedDict, total=False):
    """One job of a batch that is given as a list of jobs."""

    feature: Required[FeatureSource]
    image: Required[ImageSource]
    recipe: RecipeSource
    seed: int
    custom_id: str | None


class BatchOptions(TypedDict, total=False):
    """What a batch is made of: features and images, or jobs; what is left out is the service's default."""

    model: Required[str]
    features: FeaturesSource
    images: ImagesSource
    pairing: Literal["product", "zip"] | TopK | Mapping[str, int]
    seeds: int
    jobs: Sequence[BatchJobOptions]
    recipe: RecipeSource
    lane: Lane
    metadata: Mapping[str, str]
    custom_id: str | None
    force: bool
    deadline_s: int | None


def resolved(source: ImageSource) -> ImageRef | bytes:
    """Return an image that was uploaded before as it is, of any other the bytes to upload.

    Those are a file's as they lie there, a PIL image's as PNG.
    """
    if isinstance(source, ImageRef | bytes):
        return source
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        open_image(source).save(buffer, "PNG")
        return buffer.getvalue()
    if isinstance(source, str) and is_sha256(source):
        return ImageRef(id=source)
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidImageError(f"{str(source)!r} cannot be read: {reason}") from error


def image_sources(options: BatchOptions) -> list[ImageSource]:
    """Return the images of a batch in order, as they were given."""
    if "jobs" in options:
        return [job["image"] for job in options["jobs"]]
    images = options.get("images", ())
    if isinstance(images, DatasetImages | Mapping):
        return []
    return [images] if isinstance(images, ImageRef | str | Path | bytes | Image.Image) else list(images)


def identity(source: ImageSource) -> Hashable:
    """Return what two mentions of the same image share."""
    return id(source) if isinstance(source, Image.Image) else source


def job_spec(options: JobOptions, image_id: str) -> JobSpec:
    """Return the specification of a job; faults that can be seen without the service are told at once."""
    return checked(JobSpec, {**_parsed(options), "image": image_id})


def batch_spec(options: BatchOptions, image_ids: Sequence[str]) -> BatchSpec:
    """Return the specification of a batch; faults that can be seen without the service are told at once."""
    fields = _parsed(options)
    if "jobs" in options:
        jobs = zip(options["jobs"], image_ids, strict=True)
        return checked(BatchSpec, {**fields, "jobs": [{**_parsed(job), "image": name} for job, name in jobs]})
    images = options.get("images")
    chosen = images if isinstance(images, DatasetImages | Mapping) else list(image_ids)
    return checked(BatchSpec, {**fields, "images": chosen})


def _parsed(options: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in options.items() if value is not None}
    if isinstance(fields.get("feature"), str):
        fields["feature"] = parse_feature(fields["feature"])
    if "features" in fields:
        fields["features"] = _features(fields["features"])
    if "recipe" in fields:
        fields["recipe"] = resolve_recipe(fields["recipe"])
    return fields


def _features(given: FeaturesSource) -> Any:
    if isinstance(given, LayerFeatures | DictionaryFeatures | Mapping):
        return given
    listed = [given] if isinstance(given, str | FeatureBase) else given
    return [parse_feature(feature) if isinstance(feature, str) else feature for feature in listed]


def checked(kind: type[M], fields: Mapping[str, Any]) -> M:
    """Return what is asked of the service; `InvalidRequestError`, or the error that it is, if it is not valid."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        cause = faults[0].get("ctx", {}).get("error")
        if len(faults) == 1 and isinstance(cause, AccentorError):
            raise cause from error
        told = "; ".join(
            ": ".join(filter(None, [".".join(map(str, fault["loc"])), what_is_wrong(fault)])) for fault in faults
        )
        raise InvalidRequestError(told) from error
