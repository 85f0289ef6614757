"""Answers that are lists: pages with a cursor."""

from typing import Annotated, Self

from fastapi import Query
from pydantic import BaseModel, Field

from accentor.spec import BatchStatus, DictionaryCard, DictionaryFeature, JobStatus, ModelCard, Sha256
from accentor.spec.atlases import AtlasStatus
from accentor.spec.datasets import DatasetCard, DatasetRow

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="entries of a page")]


class ModelSummary(BaseModel):
    """A model in a list."""

    name: str = Field(description="the name it is submitted under")
    source: str
    digest: Sha256
    input_size: int = Field(description="side of the square the network takes, in pixels")
    outputs: int | None = Field(description="number of logits")
    layers: int = Field(description="number of layers")
    ready: bool = Field(description="whether a worker has it loaded; else its jobs wait for one")

    @classmethod
    def of(cls, card: ModelCard, *, ready: bool) -> Self:
        """Return the summary of a model's card."""
        return cls(
            name=card.name,
            source=card.source,
            digest=card.digest,
            input_size=card.input_size,
            outputs=card.outputs,
            layers=len(card.layers),
            ready=ready,
        )


class ModelList(BaseModel):
    """The models that are served."""

    data: list[ModelSummary]


class BatchPage(BaseModel):
    """Batches, the newest first."""

    data: list[BatchStatus]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class JobPage(BaseModel):
    """Jobs of a batch in order."""

    data: list[JobStatus]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class DatasetPage(BaseModel):
    """The newest version of each dataset, by name."""

    data: list[DatasetCard]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class RowPage(BaseModel):
    """Images of a dataset in order."""

    data: list[DatasetRow]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class AtlasPage(BaseModel):
    """Atlases, the newest first."""

    data: list[AtlasStatus]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class SiteFileEntry(BaseModel):
    """A file of a published site."""

    name: str = Field(description="its path beside the first page")
    bytes: int
    sha256: Sha256


class SitePage(BaseModel):
    """Files of a published site, the first page last of all."""

    data: list[SiteFileEntry]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class StoredFile(BaseModel):
    """A file that a dictionary can be made from."""

    id: Sha256
    bytes: int


class DictionaryPage(BaseModel):
    """The newest version of each dictionary, by name."""

    data: list[DictionaryCard]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")


class FeaturePage(BaseModel):
    """Features of a dictionary by index."""

    data: list[DictionaryFeature]
    next_cursor: str | None = Field(description="cursor of the next page; none: this was the last")
