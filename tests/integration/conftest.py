"""The whole service as real processes."""

from collections.abc import Iterator

import pytest
from tests.distributed import distributed_service


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One service for a module: its environment, with the API's address as URL."""
    with distributed_service(tmp_path_factory.mktemp("service")) as environment:
        yield environment
