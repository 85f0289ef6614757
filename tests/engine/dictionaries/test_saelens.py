"""SAELens checkpoints against its own formulas, computed one by one in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from accentor.engine.dictionaries import EncoderDictionary, load_dictionary
from accentor.errors import InvalidFeatureError

UNITS, FEATURES, K = 6, 20, 4
VERSION = {"sae_lens_version": "6.54.12", "hook_name": "late"}


def weights(architecture: str, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    made = {"W_enc": normal(UNITS, FEATURES), "W_dec": normal(FEATURES, UNITS), "b_dec": normal(UNITS)}
    if architecture == "gated":
        return made | {"b_gate": normal(FEATURES), "b_mag": normal(FEATURES), "r_mag": 0.5 * normal(FEATURES)}
    made["b_enc"] = normal(FEATURES)
    if architecture == "jumprelu":
        made["threshold"] = normal(FEATURES)
    if "batchtopk" in architecture:
        made["topk_threshold"] = torch.tensor(0.75, dtype=torch.float64)
    return made


def config(architecture: str, **other) -> dict:
    said = {"architecture": architecture, "d_in": UNITS, "d_sae": FEATURES, "dtype": "float32", "metadata": VERSION}
    said |= {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    return said | ({"k": K} if "topk" in architecture else {}) | other


def write(folder: Path, said: dict, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(said))
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def encode(said: dict, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> np.ndarray:
    """Return the codes as SAELens' classes compute them."""
    w = {key: tensor.double().numpy() for key, tensor in tensors.items()}
    inputs = x.double().numpy() - w["b_dec"] * said["apply_b_dec_to_input"]
    if said["architecture"] == "gated":
        gate = inputs @ w["W_enc"] + w["b_gate"] > 0
        return gate * np.maximum(inputs @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"], 0)
    pre = inputs @ w["W_enc"] + w["b_enc"]
    if said.get("rescale_acts_by_decoder_norm"):
        pre = pre * np.linalg.norm(w["W_dec"], axis=-1)
    codes = np.maximum(pre, 0)
    if said["architecture"] == "topk":
        kept = np.argsort(-pre, axis=-1)[:, :K]
        mask = np.zeros_like(pre)
        np.put_along_axis(mask, kept, 1.0, -1)
        return codes * mask
    threshold = w.get("threshold", w.get("topk_threshold"))
    return codes if threshold is None else codes * (pre > threshold)


def samples() -> torch.Tensor:
    return 2 * torch.randn(400, UNITS, generator=torch.Generator().manual_seed(9))


CASES = [
    ("standard", {}),
    ("standard", {"apply_b_dec_to_input": False}),
    ("topk", {}),
    ("topk", {"rescale_acts_by_decoder_norm": True}),
    ("jumprelu", {}),
    ("gated", {}),
    ("gated", {"apply_b_dec_to_input": False}),
    ("batchtopk", {"rescale_acts_by_decoder_norm": True}),
    ("matryoshka_batchtopk", {"rescale_acts_by_decoder_norm": False}),
]


@pytest.mark.parametrize(("architecture", "other"), CASES)
def test_codes(tmp_path: Path, architecture: str, other: dict):
    said, tensors = config(architecture, **other), weights(architecture)
    dictionary = load_dictionary(write(tmp_path / "sae", said, tensors))
    assert isinstance(dictionary, EncoderDictionary)
    assert (dictionary.name, dictionary.layer, dictionary.size, dictionary.width) == ("sae", "late", FEATURES, UNITS)
    expected = torch.from_numpy(encode(said, tensors, samples())).float()
    torch.testing.assert_close(dictionary.encode(samples()), expected, rtol=1e-4, atol=1e-4)
    assert 0.02 < (expected > 0).float().mean() < 0.9


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_reconstruction(tmp_path: Path, architecture: str):
    said, tensors = config(architecture, rescale_acts_by_decoder_norm=architecture == "topk"), weights(architecture)
    codes = encode(said, tensors, samples())
    decoder = tensors["W_dec"].double().numpy()
    if architecture == "topk":
        codes = codes / np.linalg.norm(decoder, axis=-1)
    expected = codes @ decoder + tensors["b_dec"].numpy()
    dictionary = load_dictionary(write(tmp_path / "sae", said, tensors))
    restored = dictionary.decode(dictionary.encode(samples()))
    torch.testing.assert_close(restored, torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-4)


def test_it_is_saved_as_ours(tmp_path: Path):
    read = load_dictionary(write(tmp_path / "sae", config("jumprelu"), weights("jumprelu")))
    again = load_dictionary(read.save(tmp_path / "ours.safetensors"))
    assert torch.equal(again.encode(samples()), read.encode(samples()))
    assert torch.equal(again.decode(again.encode(samples())), read.decode(read.encode(samples())))
    assert (again.layer, again.details) == ("late", {"format": "SAELens", "architecture": "jumprelu"})


def test_half_precision_is_read_in_float32(tmp_path: Path):
    tensors = {key: tensor.bfloat16() for key, tensor in weights("standard").items()}
    dictionary = load_dictionary(write(tmp_path / "sae", config("standard", dtype="bfloat16"), tensors))
    assert torch.equal(dictionary.vectors, tensors["W_enc"].float().T)


def test_logarithmic_thresholds(tmp_path: Path):
    tensors = weights("jumprelu")
    tensors["log_threshold"] = tensors.pop("threshold")
    dictionary = load_dictionary(write(tmp_path / "sae", config("jumprelu"), tensors))
    torch.testing.assert_close(dictionary.threshold, tensors["log_threshold"].exp())


def test_configurations_before_version_6(tmp_path: Path):
    old = {"d_in": UNITS, "d_sae": FEATURES, "hook_point": "late", "activation_fn_str": "topk", "dtype": "float32"}
    old |= {"activation_fn_kwargs": {"k": K}, "normalize_activations": False, "architecture": "standard"}
    tensors = weights("topk")
    dictionary = load_dictionary(write(tmp_path / "sae", old, tensors))
    assert (dictionary.activation, dictionary.k, dictionary.layer) == ("topk", K, "late")
    expected = torch.from_numpy(encode(config("topk"), tensors, samples())).float()
    torch.testing.assert_close(dictionary.encode(samples()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["standard", "batchtopk"])
def test_a_known_scaling_of_activations_is_folded_in(tmp_path: Path, architecture: str):
    factor = 0.3
    said = config(architecture, normalize_activations="expected_average_only_in")
    said |= {"rescale_acts_by_decoder_norm": architecture == "batchtopk"}
    tensors = weights(architecture)
    folder = write(tmp_path / "sae", said, tensors)
    with pytest.raises(InvalidFeatureError, match="activation_scaler.json"):
        load_dictionary(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    expected = torch.from_numpy(encode(said, tensors, factor * samples())).float()
    if architecture == "batchtopk":
        expected = expected / factor
    dictionary = load_dictionary(folder)
    torch.testing.assert_close(dictionary.encode(samples()), expected, rtol=1e-4, atol=1e-4)


def test_the_layer_may_be_said(tmp_path: Path):
    folder = write(tmp_path / "sae", config("standard"), weights("standard"))
    assert load_dictionary(folder, "features.3").layer == "features.3"
    said = config("standard") | {"metadata": {"sae_lens_version": "6.0.0"}}
    with pytest.raises(InvalidFeatureError, match="give layer="):
        load_dictionary(write(tmp_path / "other", said, weights("standard")))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"architecture": "transcoder"}, "transcoder"),
        ({"architecture": "matching_pursuit"}, "matching_pursuit"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, "constant_norm_rescale"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        ({"d_in": 7}, r"\[6, 20\].*\[7, 20\]"),
        ({"architecture": "gated"}, "lacks b_gate, b_mag, r_mag"),
    ],
)
def test_what_is_no_affine_encoder_is_refused(tmp_path: Path, changes: dict, text: str):
    folder = write(tmp_path / "sae", config("standard") | changes, weights("standard"))
    with pytest.raises(InvalidFeatureError, match=text):
        load_dictionary(folder)


def test_broken_files(tmp_path: Path):
    folder = write(tmp_path / "sae", config("standard"), weights("standard"))
    with pytest.raises(InvalidFeatureError, match="not to be given"):
        load_dictionary(folder, activation="relu")
    (folder / "sae_weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InvalidFeatureError, match="safetensors"):
        load_dictionary(folder)
    (folder / "cfg.json").write_text("[1]")
    with pytest.raises(InvalidFeatureError, match="expected an object"):
        load_dictionary(folder)
