"""Autoencoders of the library overcomplete: our codes against its own."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from accentor.engine.dictionaries import from_overcomplete, load_dictionary
from accentor.engine.dictionaries.fit import import_overcomplete
from accentor.errors import InvalidFeatureError

UNITS, FEATURES, K = 6, 24, 5


@pytest.fixture(scope="module")
def library() -> ModuleType:
    try:
        import_overcomplete()
    except ImportError as error:
        pytest.skip(str(error))
    import overcomplete.sae

    return overcomplete.sae


def trained(library: ModuleType, kind: str, encoder: str = "linear") -> nn.Module:
    """Return a module after a few random steps, so that no weight is where it started."""
    torch.manual_seed(0)
    options = {"encoder_module": None if encoder in ("tied", "untied") else encoder}
    if kind in ("TopKSAE", "BatchTopKSAE"):
        options["top_k"] = K if kind == "TopKSAE" else 900
    if kind == "RATopKSAE":
        options |= {"top_k": K, "points": torch.randn(30, UNITS)}
    module = getattr(library, kind)(UNITS, FEATURES, **options)
    if encoder == "tied":
        module = module.tied(bias=True)
    if encoder == "untied":
        module = module.untied()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(5):
        optimizer.zero_grad()
        inputs = samples(seed=1)
        _, _, restored = module.train()(inputs)
        (restored - inputs).square().mean().backward()
        optimizer.step()
    return module.eval()


def samples(seed: int = 2) -> torch.Tensor:
    return 2 * torch.randn(300, UNITS, generator=torch.Generator().manual_seed(seed)) + 0.3


CASES = [
    ("SAE", "linear"),
    ("SAE", "mlp_bn_1"),
    ("SAE", "untied"),
    ("TopKSAE", "linear"),
    ("TopKSAE", "mlp_bn_1"),
    ("TopKSAE", "tied"),
    ("BatchTopKSAE", "linear"),
    ("BatchTopKSAE", "mlp_bn_1"),
    ("JumpSAE", "linear"),
    ("JumpSAE", "mlp_bn_1"),
    ("RATopKSAE", "linear"),
]


def said(kind: str, module: nn.Module) -> dict:
    """Return what the state dict does not hold."""
    if kind in ("TopKSAE", "RATopKSAE"):
        return {"activation": "topk", "k": K}
    if kind == "BatchTopKSAE":
        return {"activation": "jumprelu", "threshold": float(module.running_threshold)}
    return {"activation": "relu"} if kind == "SAE" else {}


@pytest.mark.parametrize(("kind", "encoder"), CASES)
def test_codes_and_reconstruction(library: ModuleType, tmp_path: Path, kind: str, encoder: str):
    module = trained(library, kind, encoder)
    torch.save(module.state_dict(), tmp_path / "sae.pt")
    with torch.no_grad():
        pre, codes, restored = module(samples())
    for dictionary in (
        load_dictionary(tmp_path / "sae.pt", "late", **said(kind, module)),
        from_overcomplete(module, "late"),
    ):
        torch.testing.assert_close(dictionary.pre_codes(samples()), pre, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(dictionary.encode(samples()), codes, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(dictionary.decode(dictionary.encode(samples())), restored, rtol=1e-4, atol=1e-5)
        assert (dictionary.layer, dictionary.size, dictionary.width) == ("late", FEATURES, UNITS)
    assert 0.02 < (codes > 0).float().mean() < 0.9


def test_a_code_at_its_threshold_counts(library: ModuleType):
    module = library.JumpSAE(2, 2).eval()
    state = module.state_dict()
    state["encoder.final_block.0.weight"] = torch.eye(2)
    state["encoder.final_block.0.bias"] = torch.zeros(2)
    module.load_state_dict(state)
    at = torch.exp(module.thresholds.detach())[None]
    expected = module.encode(at)[1].detach()
    assert (expected > 0).all()
    assert torch.equal(from_overcomplete(module, "late").encode(at), expected)


def test_what_the_state_dict_does_not_say(library: ModuleType, tmp_path: Path):
    path = tmp_path / "sae.pt"
    torch.save(trained(library, "TopKSAE").state_dict(), path)
    with pytest.raises(InvalidFeatureError, match=r"look alike.*'topk' with k="):
        load_dictionary(path, "late")
    with pytest.raises(InvalidFeatureError, match="give layer="):
        load_dictionary(path, activation="topk", k=3)
    torch.save({"state_dict": trained(library, "TopKSAE").state_dict(), "epoch": 3}, path)
    assert load_dictionary(path, "late", activation="topk", k=3).k == 3


@pytest.mark.parametrize(
    ("encoder", "text"), [("mlp_bn_3", "not affine"), ("mlp_ln_1", "layer normalisation"), ("identity", "not affine")]
)
def test_encoders_that_are_not_affine(library: ModuleType, encoder: str, text: str):
    with pytest.raises(InvalidFeatureError, match=text):
        from_overcomplete(library.SAE(UNITS, FEATURES, encoder_module=encoder).eval(), "late")


def test_modules_that_are_not_ready(library: ModuleType):
    with pytest.raises(InvalidFeatureError, match="training mode"):
        from_overcomplete(library.TopKSAE(UNITS, FEATURES), "late")
    with pytest.raises(InvalidFeatureError, match="no running threshold"):
        from_overcomplete(library.BatchTopKSAE(UNITS, FEATURES).eval(), "late")
    smooth = library.MLPEncoder(UNITS, FEATURES, nb_blocks=0, norm_layer=nn.Identity, output_activation=nn.GELU)
    with pytest.raises(InvalidFeatureError, match="GELU, expected ReLU"):
        from_overcomplete(library.SAE(UNITS, FEATURES, encoder_module=smooth).eval(), "late")
    with pytest.raises(InvalidFeatureError, match="Q"):
        from_overcomplete(library.QSAE(UNITS, FEATURES, q=4, hard=False).eval(), "late")


def test_pickled_modules_are_refused(library: ModuleType, tmp_path: Path):
    torch.save(library.TopKSAE(UNITS, FEATURES).eval(), tmp_path / "module.pt")
    with pytest.raises(InvalidFeatureError, match=r"never loaded.*module\.state_dict\(\)"):
        load_dictionary(tmp_path / "module.pt", "late", activation="topk", k=3)
