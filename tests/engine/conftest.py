"""The golden arrays, the real network and the photographs, found through ACCENTOR_TEST_ASSETS; and tiny networks."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from accentor.engine import Model, load_model


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny networks on many threads wait for one another; the golden arrays want the threads they were made with."""
    threads = torch.get_num_threads()
    if "golden" not in request.fixturenames:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def assets() -> Path:
    folder = os.environ.get("ACCENTOR_TEST_ASSETS")
    if not folder:
        pytest.skip("ACCENTOR_TEST_ASSETS is not set: no golden arrays, real model or photographs")
    return Path(folder)


@pytest.fixture(scope="session")
def golden(assets: Path) -> dict[str, torch.Tensor]:
    return load_file(assets / "golden" / "golden.safetensors")


@pytest.fixture(scope="session")
def golden_notes(assets: Path) -> dict:
    return json.loads((assets / "golden" / "golden.json").read_text())


@pytest.fixture(scope="session")
def squeezenet(assets: Path) -> Model:
    weights = assets / "models" / "squeezenet1_0-imagenet.safetensors"
    return load_model("torchvision:squeezenet1_0", weights=weights, device="cpu")


class TinyNet(torch.nn.Module):
    """Two convolutions and a linear head on 32 px images: quick, smooth, with a strided early layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.early = torch.nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.act = torch.nn.ReLU(inplace=True)
        self.late = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.late(self.act(self.early(x)))
        return self.head(torch.tanh(x).mean(dim=(2, 3)))


@pytest.fixture
def tiny_net() -> TinyNet:
    return TinyNet()


@pytest.fixture
def tiny(tiny_net: TinyNet) -> Model:
    labels = ("ash", "birch", "cedar", "date palm")
    return Model(tiny_net, input_size=32, labels=labels, regularization_layer="early", name="tiny")
