"""A client of an Accentor service, light: it needs neither torch nor anything of the service's own."""

from accentor_client._calls import Estimate, ImageRef, ModelSummary
from accentor_client.aio import AsyncClient
from accentor_client.aio_atlases import AsyncAtlas
from accentor_client.aio_handles import AsyncBatch, AsyncJob, AsyncJobResult
from accentor_client.atlases import Atlas
from accentor_client.client import Client
from accentor_client.handles import Batch, Job
from accentor_client.results import JobResult

__all__ = [
    "AsyncAtlas",
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "AsyncJobResult",
    "Atlas",
    "Batch",
    "Client",
    "Estimate",
    "ImageRef",
    "Job",
    "JobResult",
    "ModelSummary",
]
