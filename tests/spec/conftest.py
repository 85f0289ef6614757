"""A small model's card, as a worker announces it."""

import pytest

from accentor.spec import LayerInfo, ModelCard


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return ModelCard(
        name="small",
        source="reference",
        digest="ab" * 32,
        input_size=112,
        labels=("ash", "Golden Retriever", "twin", "twin", "3D glasses"),
        outputs=5,
        regularization_layer="stem",
        layers=(
            LayerInfo(name="stem", type="Conv2d", shape=(6, 28, 20)),
            LayerInfo(name="blocks.1", type="Block", shape=(49, 12)),
            LayerInfo(name="vit", type="Block", shape=(197, 12)),
            LayerInfo(name="head", type="Linear", shape=(5,)),
        ),
    )
