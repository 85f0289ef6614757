"""The client: one service, its images, jobs, batches, models, datasets, dictionaries, atlases and webhooks."""

from types import TracebackType
from typing import Self

from accentor_client._transport import Transport
from accentor_client.atlases import Atlases
from accentor_client.datasets import Datasets
from accentor_client.dictionaries import Dictionaries
from accentor_client.resources import Batches, Images, Jobs, Models
from accentor_client.webhooks import Webhooks

DEFAULT_TIMEOUT_S = 60.0


class Client:
    """A connection to a service; safe to use from several threads.

    Parameters
    ----------
    base_url
        Where the service is, such as ``http://127.0.0.1:8000``.
    api_key
        Sent to the service with every request, and to nobody else.
    timeout
        Seconds that the service may keep silent while it answers.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8000") as client:
    ...     job = client.jobs.create(model="reference", feature="logit:stripes", image="dog.jpg").wait(timeout=120)
    ...     job.result.overlay.save("overlay.png")
    """

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._transport = Transport(base_url, api_key, timeout)
        self.images = Images(self._transport)
        self.jobs = Jobs(self._transport, self.images)
        self.batches = Batches(self._transport, self.images)
        self.models = Models(self._transport)
        self.datasets = Datasets(self._transport, self.images)
        self.dictionaries = Dictionaries(self._transport)
        self.atlases = Atlases(self._transport)
        self.webhooks = Webhooks(self._transport)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
