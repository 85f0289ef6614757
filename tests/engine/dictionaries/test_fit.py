"""Fitted dictionaries: known atoms found again, on activations that are made of them."""

import builtins

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from accentor.engine import Model, load_model
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary, fit_dictionary
from accentor.engine.dictionaries import fit as module
from accentor.engine.dictionaries.fit import explained_variance, import_overcomplete
from accentor.engine.reference import sample_paths
from accentor.errors import InvalidFeatureError, InvalidRequestError, UnknownLayerError


@pytest.fixture(scope="module", autouse=True)
def _installed():
    try:
        import_overcomplete()
    except ImportError as error:
        pytest.skip(str(error))


ATOMS = 6
UNITS = 8


def atoms() -> torch.Tensor:
    """Return overlapping non-negative atoms of unit length [6, 8]."""
    return normalize(torch.eye(UNITS)[:ATOMS] + 0.6 * torch.eye(UNITS).roll(1, dims=1)[:ATOMS], dim=1)


def made_of_atoms(images: int = 40, positions: int = 50, seed: int = 0) -> torch.Tensor:
    """Return sparse non-negative sums of the atoms, [images, positions, units]; the first is the strongest."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.rand(images, positions, ATOMS, generator=draw) * torch.linspace(3.0, 1.5, ATOMS)
    on = torch.rand(images, positions, ATOMS, generator=draw) < 0.25
    return (codes * on) @ atoms()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sample_activations", lambda *_: made_of_atoms())


@pytest.mark.usefixtures("known")
def test_nmf_finds_the_atoms(tiny: Model):
    dictionary = fit_dictionary(tiny, ["unused"] * 40, "late", ATOMS)
    assert isinstance(dictionary, DirectionDictionary)
    torch.testing.assert_close(dictionary.vectors.norm(dim=1), torch.ones(ATOMS))
    cosines = dictionary.vectors @ atoms().T
    assert (cosines.amax(dim=1) > 0.99).all()
    assert sorted(cosines.argmax(dim=1).tolist()) == list(range(ATOMS))
    assert cosines.argmax(dim=1)[0] == 0
    assert dictionary.details["r2"] > 0.99
    assert dictionary.details | {"r2": 1} == {"method": "nmf", "images": 40, "positions": 2000, "seed": 0, "r2": 1}


@pytest.mark.usefixtures("known")
def test_topk_sae_reconstructs(tiny: Model):
    dictionary = fit_dictionary(tiny, ["unused"] * 40, "late", 24, "topk_sae", k=3, steps=300)
    assert isinstance(dictionary, EncoderDictionary)
    assert (dictionary.activation, dictionary.k, dictionary.size, dictionary.width) == ("topk", 3, 24, UNITS)
    fresh = made_of_atoms(seed=5).flatten(0, 1)
    codes = dictionary.encode(fresh)
    assert (codes > 0).sum(dim=1).max() == 3
    r2 = explained_variance(fresh, dictionary.decode(codes))
    assert r2 > 0.9
    assert dictionary.details["r2"] == pytest.approx(r2, abs=0.03)
    torch.testing.assert_close(dictionary.center, made_of_atoms().mean(dim=(0, 1)), rtol=0.05, atol=0.02)
    energy = codes.square().sum(dim=0) * dictionary.decoder.square().sum(dim=1)
    assert energy[:8].sum() > 2 * energy[8:16].sum()


@pytest.mark.parametrize(("method", "size"), [("nmf", 6), ("nmf", 10), ("topk_sae", 10)])
def test_the_seed_decides_and_global_states_stay(tiny: Model, method: str, size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "sample_activations", lambda *_: made_of_atoms(12, 20))

    def fit(seed: int) -> torch.Tensor:
        return fit_dictionary(tiny, ["unused"] * 12, "late", size, method, k=2, steps=5, seed=seed).vectors

    torch.manual_seed(3)
    np.random.seed(3)
    expected = (torch.rand(3), np.random.rand(3))
    torch.manual_seed(3)
    np.random.seed(3)
    first = fit(0)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert torch.equal(fit(0), first)
    assert not torch.equal(fit(1), first)


def test_images_are_held_out(monkeypatch: pytest.MonkeyPatch, tiny: Model):
    odd = made_of_atoms(20, 10)
    seen = []
    monkeypatch.setattr(module, "sample_activations", lambda *_: odd)
    original = module._fit_nmf
    monkeypatch.setattr(module, "_fit_nmf", lambda *args: seen.append(args[:2]) or original(*args))
    fit_dictionary(tiny, ["unused"] * 20, "late", ATOMS)
    train, test = seen[0]
    assert (len(train), len(test)) == (180, 20)
    together = torch.cat([train, test]).view(20, 10, UNITS)
    assert torch.equal(together.sum(dim=(1, 2)).sort().values, odd.sum(dim=(1, 2)).sort().values)


def test_explained_variance():
    x = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    assert explained_variance(x, x) == 1.0
    assert explained_variance(x, x.mean(dim=0).expand(2, 2)) == 0.0
    assert explained_variance(x, x + torch.tensor([[0.0, 0.0], [0.0, 5.0]])) == pytest.approx(1 - 25 / 52)


def test_what_cannot_be_fitted(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    picture = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))]
    with pytest.raises(UnknownLayerError):
        fit_dictionary(tiny, picture, "latte", 3)
    with pytest.raises(InvalidRequestError, match="'pca': expected nmf or topk_sae"):
        fit_dictionary(tiny, picture, "late", 3, "pca")
    with pytest.raises(InvalidRequestError, match="k is 4: expected 1 to 3"):
        fit_dictionary(tiny, picture, "late", 3, "topk_sae", k=4)
    with pytest.raises(InvalidRequestError, match="size is 0"):
        fit_dictionary(tiny, picture, "late", 0)
    monkeypatch.setattr(module, "sample_activations", lambda *_: made_of_atoms(20, 2))
    with pytest.raises(InvalidRequestError, match="size is 37: expected 36 at most"):
        fit_dictionary(tiny, ["unused"] * 20, "late", 37)
    monkeypatch.setattr(module, "sample_activations", lambda *_: made_of_atoms() - 0.2)
    with pytest.raises(InvalidFeatureError, match=r"late has \d+% of its energy below zero.*topk_sae"):
        fit_dictionary(tiny, ["unused"] * 40, "late", 3)


def test_without_the_library(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    original = builtins.__import__

    def refuse(name: str, *args):
        if name.partition(".")[0] == "overcomplete":
            raise ModuleNotFoundError("No module named 'overcomplete'", name=name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"accentor\[dictionaries\]"):
        fit_dictionary(tiny, [torch.rand(3, 32, 32)], "late", 3)


def test_matplotlib_stays_as_it_was(monkeypatch: pytest.MonkeyPatch):
    import matplotlib.cm

    monkeypatch.delattr(matplotlib.cm, "get_cmap", raising=False)
    import_overcomplete()
    assert not hasattr(matplotlib.cm, "get_cmap")
    monkeypatch.setattr(matplotlib.cm, "get_cmap", before := object(), raising=False)
    import_overcomplete()
    assert matplotlib.cm.get_cmap is before


def test_the_reference_model():
    model = load_model("reference", device="cpu")
    dictionary = fit_dictionary(model, sample_paths(), "block4", 24)
    dictionary.check(model.card)
    assert dictionary.details["images"] == 26
    assert dictionary.details["positions"] == 26 * 49
    assert 0.6 < dictionary.details["r2"] < 1.0
    assert dictionary.report().dead == ()
