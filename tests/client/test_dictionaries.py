"""Dictionaries through both clients."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from tests.api.service import Service, picture

from accentor.errors import InvalidFeatureError, InvalidRequestError, NotFoundError
from accentor_client import AsyncClient, Client

ROWS = np.eye(8, dtype="f4")[:3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


class Saved:
    """What is asked of a dictionary of the engine."""

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"rows": ROWS}, path)


def test_from_a_file_to_its_end(client: Client, path: Path) -> None:
    card = client.dictionaries.create(
        "d", path, model="toy", layer="conv1", labels=["ear", "eye", "nose"], statistics={"density": [0.5, None, 1]}
    )
    assert (card.features, card.units, card.kind, card.labeled) == (3, 8, "directions", True)
    assert client.dictionaries.get("d") == client.dictionaries.get(card.reference) == card
    second = client.dictionaries.create("d", model="toy", layer="fc", channels=True)
    assert client.dictionaries.versions("d") == [second, card]
    assert list(client.dictionaries.list()) == list(client.dictionaries.list("toy")) == [second]
    assert list(client.dictionaries.list("other")) == []
    found = list(client.dictionaries.features(card.reference, search="E"))
    assert [(one.index, one.label, one.statistics) for one in found] == [
        (0, "ear", {"density": 0.5}),
        (1, "eye", {"density": None}),
        (2, "nose", {"density": 1.0}),
    ]
    client.dictionaries.delete("d")
    with pytest.raises(NotFoundError, match="'d'"):
        client.dictionaries.get("d")


def test_bytes_objects_of_the_store_and_what_has_a_save(client: Client, service: Service, path: Path) -> None:
    service.objects.put("mine/rows.npy", path.read_bytes())
    first = client.dictionaries.create("d", path.read_bytes(), model="toy", layer="conv1")
    assert client.dictionaries.create("d", model="toy", layer="conv1", object="mine/rows.npy") == first
    third = client.dictionaries.create("d", Saved(), model="toy", layer="conv1")
    assert (third.suffix, third.features) == (".safetensors", 3)


def test_features_go_over_many_pages(client: Client) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).normal(size=(450, 8)).astype("f4"))
    client.dictionaries.create("d", buffer.getvalue(), model="toy", layer="conv1")
    assert [one.index for one in client.dictionaries.features("d")] == list(range(450))


def test_a_batch_of_a_dictionary(client: Client, path: Path) -> None:
    image = client.images.upload(picture()).id
    card = client.dictionaries.create("d", path, model="toy", layer="conv1")
    batch = client.batches.create(model="toy", features={"dictionary": "d", "range": "1:"}, images=[image])
    assert batch.status.total == 2
    job = client.jobs.create(model="toy", feature="dictionary:d#1", image=image)
    assert str(job.status.spec.feature) == f"dictionary:{card.reference}#1"


def test_what_is_wrong_is_told(client: Client, tmp_path: Path, path: Path) -> None:
    with pytest.raises(InvalidFeatureError, match="load_dictionary"):
        client.dictionaries.create("d", tmp_path / "sae.pt", model="toy")
    with pytest.raises(InvalidFeatureError, match="No such file"):
        client.dictionaries.create("d", tmp_path / "none.npy", model="toy")
    with pytest.raises(InvalidRequestError, match="expected one of channels, file and object; 2 were given"):
        client.dictionaries.create("d", path, model="toy", layer="conv1", channels=True)
    with pytest.raises(InvalidFeatureError, match="8 units, fc of toy has 4 units"):
        client.dictionaries.create("d", path, model="toy", layer="fc")


def test_the_asynchronous_client_does_the_same(service: Service, path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(service.url, timeout=20) as client:
            card = await client.dictionaries.create("d", path, model="toy", layer="conv1")
            assert await client.dictionaries.get("d") == card
            assert await client.dictionaries.versions("d") == [card]
            assert [one async for one in client.dictionaries.list()] == [card]
            assert [one.index async for one in client.dictionaries.features("d", state="ok")] == [0, 1, 2]
            await client.dictionaries.delete(card.reference)
            with pytest.raises(NotFoundError):
                await client.dictionaries.get("d")

    asyncio.run(run())
