"""Activations sampled for a fit."""

import pytest
import torch

from accentor.engine import Model
from accentor.engine.canvas import fit_canvas
from accentor.engine.dictionaries import samples as module
from accentor.engine.dictionaries.samples import positions_of, sample_activations
from accentor.errors import InvalidImageError, InvalidRequestError, UnknownLayerError
from accentor.spec import LayerInfo


def pictures(count: int, height: int = 32, width: int = 32) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=draw) for _ in range(count)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_positions(model: Model, picture: torch.Tensor, layer: str) -> torch.Tensor:
    with torch.no_grad():
        return model.activations(picture[None], frozenset([layer]))[layer][0].flatten(1).T


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_positions_of_every_image(tiny: Model, at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", at_once)
    images = pictures(3)
    found = sample_activations(tiny, images, "late", 3 * 10 + 2, generator())
    assert found.shape == (3, 10, 8)
    for picture, rows in zip(images, found, strict=True):
        everywhere = all_positions(tiny, picture, "late")
        match = ((rows[:, None] - everywhere).abs().amax(dim=2) < 1e-5).nonzero()
        assert match[:, 0].tolist() == list(range(10))
        assert len(set(match[:, 1].tolist())) == 10


def test_all_positions_when_there_are_no_more(tiny: Model):
    found = sample_activations(tiny, pictures(1), "late", 1000, generator())
    torch.testing.assert_close(found[0].sum(dim=0), all_positions(tiny, pictures(1)[0], "late").sum(dim=0))
    assert found.shape == (1, 64, 8)


def test_the_seed_decides(tiny: Model):
    first, again, other = (sample_activations(tiny, pictures(2), "late", 8, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_centre_of_a_wide_image(tiny: Model):
    wide = pictures(1, 64, 128)[0]
    found = sample_activations(tiny, [wide], "late", 64, generator())
    expected = all_positions(tiny, fit_canvas(wide, 64)[:, :, 16:48], "late")
    torch.testing.assert_close(found[0].sum(dim=0), expected.sum(dim=0))


def test_layouts():
    values = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)

    def info(shape: tuple[int, ...], **other) -> LayerInfo:
        return LayerInfo.model_validate({"name": "x", "type": "X", "shape": shape, **other})

    assert positions_of(values, info((3, 4, 5)))[1, 7].tolist() == values[1, :, 1, 2].tolist()
    assert positions_of(values, info((3, 4, 5), layout="HWC"))[1, 6].tolist() == values[1, 1, 2].tolist()
    tokens = values.view(2, 10, 6)
    assert torch.equal(positions_of(tokens, info((10, 6))), tokens[:, 1:])
    assert torch.equal(positions_of(tokens[:, 0], info((6,))), tokens[:, :1])


def test_nothing_to_sample(tiny: Model):
    with pytest.raises(InvalidRequestError, match="of 0 images"):
        sample_activations(tiny, [], "late", 10, generator())
    with pytest.raises(InvalidRequestError, match="2 positions of 3 images"):
        sample_activations(tiny, pictures(3), "late", 2, generator())
    with pytest.raises(UnknownLayerError, match="late"):
        sample_activations(tiny, pictures(1), "latte", 10, generator())


def test_an_image_that_cannot_be_read_is_passed_over_and_told(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 2)
    first, last = pictures(2)
    told: list[tuple[int, str]] = []
    images = [first, b"", b"no image", last, b"\x89PNG"]
    found = sample_activations(
        tiny, images, "late", 5 * 64, generator(), lambda one: told.append((one.image, one.reason))
    )
    assert [image for image, _ in told] == [1, 2, 4]
    assert "the image is empty" in told[0][1]
    for picture, rows in zip((first, last), found, strict=True):
        torch.testing.assert_close(rows.sum(dim=0), all_positions(tiny, picture, "late").sum(dim=0))
    with pytest.raises(InvalidImageError, match="the image is empty"):
        sample_activations(tiny, images, "late", 5, generator())
    with pytest.raises(InvalidImageError, match="none of 2 could be read"):
        sample_activations(tiny, [b"", b""], "late", 5, generator(), lambda _: None)
