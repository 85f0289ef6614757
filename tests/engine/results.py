"""Results made by hand: no model, every number known."""

from typing import Any

import torch

from accentor.engine.accentuation import Accentuation, SweepPoint
from accentor.engine.opacity import opacity_of
from accentor.engine.outputs.pictures import to_bytes
from accentor.spec import Logit, Recipe, Snapshot

WIDTH, HEIGHT = 41, 33
RECIPE = Recipe(steps=4, crops=2, size=WIDTH, snapshots=2)
DIGEST = "d" * 64


def smooth(seed: int, channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Return a smooth image [C, H, W] in 0..1."""
    small = torch.rand(1, channels, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]


def made_result(channels: int = 3, *, swept: bool = False, **changes: Any) -> Accentuation:
    """Return a result of three points: the seed, half-way, and the end; its gradients lie about one spot."""
    source, pixels = smooth(0, channels), smooth(1, channels)
    middle = (source + pixels) / 2
    gradient = torch.zeros(HEIGHT, WIDTH)
    gradient[5:15, 20:35] = smooth(2, 1)[0, 5:15, 20:35] + 0.5
    accumulated = (torch.zeros_like(gradient), gradient.roll(3, 0), gradient + gradient.roll(3, 0))
    fields: dict[str, Any] = {
        "feature": Logit(unit="ash"),
        "recipe": RECIPE,
        "seed": 3,
        "source": source,
        "pixels": pixels,
        "opacity": opacity_of(accumulated[-1][None])[0],
        "trajectory": tuple(
            Snapshot(step=step, value=value, distance=distance)
            for step, value, distance in ((0, 1.5, 0.0), (2, 2.25, 0.5), (4, 4.0, 0.75))
        ),
        "snapshots": tuple(map(to_bytes, (source, middle, pixels))),
        "model_digest": DIGEST,
        "device": "cpu",
        "seconds": 1.25,
        "accumulated": accumulated,
        "model": "tiny",
    }
    if swept:
        fields["sweep"] = tuple(
            SweepPoint(strength, step, value, distance, to_bytes((source + strength * (pixels - source)).clamp(0, 1)))
            for strength, step, value, distance in ((-0.5, 2, 0.5, 0.6), (0.0, 0, 1.5, 0.0), (1.0, 4, 4.0, 0.75))
        )
    return Accentuation(**(fields | changes))
