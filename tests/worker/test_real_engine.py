"""A shard through the real engine: what is stored is what the in-process call gives."""

import base64
import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import torch
from PIL import Image
from tests.worker.stubs import MODEL, Outbox, upload
from torch import nn

from accentor.engine import Model, Pair, accentuate, accentuate_pairs
from accentor.spec import BatchSpec, Channel, Counts, Logit, Progress, Recipe, Result, canonical_json
from accentor.state import NewBatch, dispatch
from accentor.storage.keys import artefact_key, batch_spec_key, result_key
from accentor_worker.runner import run_shard
from accentor_worker.services import Services

RECIPE = Recipe(steps=2, crops=2, size=48, snapshots=2)


@dataclass
class One:
    model: Model

    def get(self, name: str) -> Model:
        assert name == MODEL
        return self.model


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    return Model(network.eval(), input_size=32, regularization_layer="0", name=MODEL)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_stored_is_what_the_in_process_call_gives(services: Services, outbox: Outbox, model: Model) -> None:
    image = upload(services.objects, picture())
    features = (Logit(unit=2), Channel(layer="2", unit=1), -Logit(unit=3))
    spec = BatchSpec(model=MODEL, features=features, images=(image,), recipe=RECIPE)
    services.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "bulk", 3, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    real = replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair)
    for shard in outbox.ids:
        run_shard(real, shard)
    assert services.jobs.status("b").counts == Counts(succeeded=3)
    for job in spec.expand(model.card):
        expected = accentuate(model, picture(), job.feature, RECIPE, seed=job.seed)
        key = job.key(model.card)
        for name, data in expected.files(key).items():
            assert services.objects.get(artefact_key(key, name)) == data
        result = Result.model_validate_json(services.objects.get(result_key(key)))
        assert (result.key, result.spec, result.model_digest) == (key, job, model.card.digest)
        assert (result.before, result.after) == (expected.before, expected.after)
        assert (result.width, result.height) == expected.image.size == (48, 36)


def test_a_single_job_shows_its_image_on_the_way(
    services: Services, outbox: Outbox, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    monkeypatch.setattr(
        type(services.jobs), "report_progress", lambda jobs, batch, progress: told.extend(progress.values())
    )
    image = upload(services.objects, picture())
    features = (Logit(unit=2),)
    spec = BatchSpec(model=MODEL, features=features, images=(image,), recipe=RECIPE, lane="interactive")
    services.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "interactive", 1, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    run_shard(replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair), outbox.ids[0])
    assert services.jobs.status("b").counts == Counts(succeeded=1)
    assert told[0].preview is not None
    kind, _, data = told[0].preview.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (48, 36)
