"""The service that is disturbed, and what its batch looks like undisturbed."""

from collections.abc import Iterator, Sequence

import pytest
from tests.faults.cluster import Cluster
from tests.faults.jobs import PATHS, RECIPE, Pictures, levels, pairs

import accentor


@pytest.fixture(scope="session")
def undisturbed() -> Sequence[Pictures]:
    """Return the pictures of every job of the batch, computed in this process that nobody disturbs."""
    model = accentor.load_model("reference", device="cpu")
    features, images, seeds = zip(*pairs(), strict=True)
    results = accentor.accentuate(model, [PATHS[image] for image in images], list(features), RECIPE, seed=list(seeds))
    return [
        {
            "accentuated.png": levels(result.image),
            "opacity.png": levels(result.opacity_image),
            "overlay.png": levels(result.overlay),
        }
        for result in results
    ]


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return one cluster for all tests of a module."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """Return the cluster with everything running that an earlier test may have ended."""
    shared_cluster.mend()
    return shared_cluster
