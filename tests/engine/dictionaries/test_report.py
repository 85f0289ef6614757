"""Dead and duplicate features."""

import pytest
import torch

from accentor.engine.dictionaries import ChannelDictionary, DirectionDictionary, EncoderDictionary
from accentor.engine.dictionaries import report as module


def rows(count: int, units: int = 16) -> torch.Tensor:
    return torch.randn(count, units, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_dead_and_duplicates(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    vectors = rows(10)
    vectors[2] = 0.0
    vectors[5, 3] = float("nan")
    vectors[6, 0] = float("inf")
    vectors[7] = 1e-25 * vectors[1]
    vectors[8] = -vectors[0]
    vectors[9] = 1e25 * vectors[1] + 1e22
    report = DirectionDictionary(name="bank", layer="late", vectors=vectors).report()
    assert (report.zero, report.not_finite, report.dead) == ((2,), (5, 6), (2, 5, 6))
    assert report.duplicates == ((7, 1), (9, 1))
    assert str(report) == "10 features: 1 all zero, 2 not finite, 2 that repeat an earlier one"


def test_the_cosine_decides():
    angle = torch.tensor([0.0, 0.1, 0.3])
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1)
    dictionary = DirectionDictionary(name="bank", layer="late", vectors=vectors)
    assert dictionary.report().duplicates == ()
    assert dictionary.report(cosine=0.99).duplicates == ((1, 0),)
    assert dictionary.report(cosine=0.95).duplicates == ((1, 0), (2, 0))


def test_an_encoders_other_numbers_count():
    dictionary = EncoderDictionary(
        name="sae",
        layer="late",
        vectors=rows(4),
        bias=torch.tensor([0.0, float("nan"), 0.0, 0.0]),
        threshold=torch.tensor([0.0, 0.0, float("inf"), 0.0]),
        activation="jumprelu",
    )
    assert dictionary.report().not_finite == (1, 2)


def test_many_blocks_against_all_cosines():
    vectors = rows(2500, 5)
    found = DirectionDictionary(name="bank", layer="late", vectors=vectors).report(cosine=0.98).duplicates
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    alike = (unit @ unit.T > 0.98).tril(-1)
    expected = [(row, int(alike[row].nonzero()[0])) for row in range(2500) if alike[row].any()]
    assert len(expected) > 100
    assert list(found) == expected


def test_channels_have_nothing_to_report():
    report = ChannelDictionary(name="layer", layer="late", units=7).report()
    assert (report.size, report.dead, report.duplicates) == (7, (), ())
