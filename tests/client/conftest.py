"""A client of an API on real servers."""

from collections.abc import Iterator

import pytest
from tests.api.conftest import bare, running, service
from tests.api.service import Service

from accentor_client import Client

__all__ = ["bare", "running", "service"]


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """Return a client of the running API."""
    with Client(service.url, timeout=20.0) as client:
        yield client
