"""Fitting a dictionary to a layer's activations, with the library overcomplete (extra ``dictionaries``)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from accentor.engine.canvas import ImageLike
from accentor.engine.dictionaries.kinds import DirectionDictionary, EncoderDictionary
from accentor.engine.dictionaries.overcomplete import from_overcomplete
from accentor.engine.dictionaries.samples import sample_activations
from accentor.engine.loading import Skipped
from accentor.engine.models import Model
from accentor.errors import InvalidFeatureError, InvalidRequestError

Method = Literal["nmf", "topk_sae"]

HELD_OUT = 0.1
"""Share of the images that the fit does not see, and R² is measured on."""
MAX_NEGATIVE = 0.05
"""Largest share of the activations' energy below zero, which a factorisation into non-negative parts loses."""
FIRST_ITERATIONS = 100
LAST_ITERATIONS = 300
TOLERANCE = 1e-4
"""Of the factorisation: multiplicative updates, then alternating least squares until Z changes by less than this."""
BATCH_POSITIONS = 512
"""Positions in one step of the autoencoder."""
LEARNING_RATE = 2e-3
ORDER_POSITIONS = 4096
"""Positions that tell which features of the autoencoder carry most energy."""


def fit_dictionary(
    model: Model,
    images: Sequence[ImageLike],
    layer: str,
    size: int,
    method: Method = "nmf",
    *,
    k: int = 8,
    positions: int = 20_000,
    steps: int = 1_500,
    seed: int = 0,
    name: str | None = None,
    on_skipped: Callable[[Skipped], None] | None = None,
) -> DirectionDictionary | EncoderDictionary:
    """Fit a dictionary to the activations of images at a layer.

    ``nmf`` finds X ≈ Z D with Z, D ≥ 0 and gives the rows of D, at unit length, as directions: a row is read out by its
    dot product with the activations. Its code in Z would be the solution of a problem over all rows, without a
    formula of its own, and without a gradient wherever other rows explain the activation; the dot product is that
    problem's gradient at Z = 0. ``topk_sae`` trains a sparse autoencoder with k codes on at a position, on
    activations less their mean and over their standard deviation, both of which are folded into it.

    Features come in order of the energy that their codes carry.

    Parameters
    ----------
    model
        From `load_model`.
    images
        As for `accentuate`.
    layer
        The layer's dotted name.
    size
        Number of features.
    method
        ``nmf`` for layers that are hardly ever negative; ``topk_sae`` for any.
    k
        Codes that stay on at a position, for ``topk_sae``.
    positions
        Positions sampled from all images together, at most.
    steps
        Steps of the autoencoder, 512 positions each.
    seed
        Random seed of the positions and of the fit.
    name
        What the dictionary is called; none: after the method, the layer and the size.
    on_skipped
        Told of every image that cannot be read, its ``id`` and the ``reason``; the fit goes on without it. None: it is
        an error.

    Returns
    -------
    DirectionDictionary or EncoderDictionary
        Its ``details`` hold ``r2``, the share of variance explained on the tenth of the images that were held out (on
        all of them if there are fewer than ten), and the numbers of images that were read and of positions.

    Raises
    ------
    ImportError
        If overcomplete is not installed.
    InvalidRequestError
        If a number is out of its range.
    InvalidImageError
        If an image cannot be read and ``on_skipped`` is none, or if no image can be.
    UnknownLayerError, InvalidFeatureError
        If there is no such layer, or it is too negative for ``nmf``.
    """
    _check(size, k, steps, method)
    import_overcomplete()
    generator = torch.Generator().manual_seed(seed)
    samples = sample_activations(model, images, layer, positions, generator, on_skipped)
    train, test = _split(samples, generator)
    if size > len(train):
        raise InvalidRequestError(f"size is {size}: expected {len(train)} at most, the positions that are fitted")
    called = name or f"{method}-{layer}-{size}"
    fitted: DirectionDictionary | EncoderDictionary
    with _global_seed(seed):
        if method == "nmf":
            fitted, restored = _fit_nmf(train, test, size, called, layer)
        else:
            fitted = _fit_topk_sae(train.to(model.device), size, k, steps, called, layer, generator)
            restored = fitted.decode(fitted.encode(test))
    details = {
        "method": method,
        "images": len(samples),
        "positions": samples.shape[0] * samples.shape[1],
        "seed": seed,
        "r2": round(explained_variance(test, restored), 4),
    }
    return replace(fitted, details=details)


def explained_variance(activations: Tensor, restored: Tensor) -> float:
    """Return R² = 1 - Σ|x - x̂|² / Σ|x - x̄|² over positions and units, x̄ being the mean of each unit [units].

    Parameters
    ----------
    activations, restored
        x and x̂, [positions, units].
    """
    total = (activations - activations.mean(dim=0)).square().sum()
    return float(1 - (activations - restored).square().sum() / total)


def import_overcomplete() -> None:
    """Import overcomplete, or say how to get it.

    Its import asks ``matplotlib.cm`` for ``get_cmap``, which matplotlib 3.11 no longer has there.
    """
    try:
        import matplotlib.cm
        import matplotlib.pyplot

        before = matplotlib.cm.__dict__.get("get_cmap")
        matplotlib.cm.__dict__["get_cmap"] = matplotlib.pyplot.get_cmap
        try:
            import overcomplete  # noqa: F401
        finally:
            matplotlib.cm.__dict__.pop("get_cmap")
            if before is not None:
                matplotlib.cm.__dict__["get_cmap"] = before
    except ImportError as error:
        raise ImportError(
            f"fit_dictionary needs overcomplete, which cannot be imported ({error}): "
            "pip install 'accentor[dictionaries]', with Python 3.11 or 3.12"
        ) from error


def _check(size: int, k: int, steps: int, method: str) -> None:
    if method not in get_args(Method):
        raise InvalidRequestError(f"the method is {method!r}: expected {' or '.join(get_args(Method))}")
    if size < 1 or steps < 1:
        raise InvalidRequestError(f"size is {size}, steps {steps}: expected 1 or more")
    if method == "topk_sae" and not 1 <= k <= size:
        raise InvalidRequestError(f"k is {k}: expected 1 to {size}, the number of features")


def _split(samples: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return positions [n, units] to fit, and those of the held-out images."""
    images = len(samples)
    held_out = int(images * HELD_OUT)
    order = torch.randperm(images, generator=generator)
    train = samples[order[held_out:]].flatten(0, 1)
    return train, samples[order[:held_out]].flatten(0, 1) if held_out else train


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global random states, which overcomplete draws from, and put them back."""
    import numpy as np

    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _fit_nmf(train: Tensor, test: Tensor, size: int, name: str, layer: str) -> tuple[DirectionDictionary, Tensor]:
    """Return the atoms as directions, and the test positions as their non-negative sums."""
    from overcomplete.optimization import NMF
    from overcomplete.optimization.nmf import hierarchical_als

    lost = float(train.clamp(max=0.0).square().sum() / train.square().sum())
    if lost > MAX_NEGATIVE:
        raise InvalidFeatureError(
            f"{layer} has {lost:.0%} of its energy below zero, at most {MAX_NEGATIVE:.0%} can be left to nmf: "
            "take topk_sae, or a layer after a ReLU"
        )
    # Alternating least squares end sooner and lower, but from the library's own start they leave many atoms zero.
    codes, atoms = NMF(size, solver="mu").fit(train.clamp(min=0.0), max_iter=FIRST_ITERATIONS)
    codes, atoms = hierarchical_als(train.clamp(min=0.0), codes, atoms, max_iter=LAST_ITERATIONS, tol=TOLERANCE)
    first = (test @ atoms.T).clamp(min=0.0)
    found, _ = hierarchical_als(
        test.clamp(min=0.0), first, atoms, update_D=False, max_iter=LAST_ITERATIONS, tol=TOLERANCE
    )
    restored = found @ atoms
    order = (codes.square().sum(dim=0) * atoms.square().sum(dim=1)).argsort(descending=True)
    return DirectionDictionary(name=name, layer=layer, vectors=normalize(atoms[order], dim=1)), restored


def _fit_topk_sae(
    train: Tensor, size: int, k: int, steps: int, name: str, layer: str, generator: torch.Generator
) -> EncoderDictionary:
    """Train on (x - μ) / s, and fold both in: W' = W / s, c = μ, D' = s D."""
    from overcomplete.sae import TopKSAE, train_sae

    mean = train.mean(dim=0)
    deviation = (train - mean).square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    standard = (train - mean) / deviation
    module = TopKSAE(train.shape[1], size, top_k=k, device=str(train.device))
    _start_from(module, normalize(_pick(standard, size, generator), dim=1))
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    batches = (_pick(standard, BATCH_POSITIONS, generator) for _ in range(steps))
    device = str(train.device)
    train_sae(module, batches, _reconstruction, optimizer, schedule, nb_epochs=1, monitoring=0, device=device)
    raw = from_overcomplete(module.eval(), layer, name)
    decoder = module.get_dictionary().detach().cpu() * deviation.cpu()
    scaled = replace(raw, vectors=raw.vectors / deviation.cpu(), center=mean.cpu(), offset=mean.cpu())
    return _in_order(scaled, decoder, train[:ORDER_POSITIONS].cpu())


def _start_from(module: torch.nn.Module, atoms: Tensor) -> None:
    """Start decoder and encoder from the same unit vectors: the share of units that never respond stays small."""
    state = module.state_dict()
    weights = {"dictionary._weights": atoms, "encoder.final_block.0.weight": atoms}
    module.load_state_dict({**state, **weights, "encoder.final_block.0.bias": torch.zeros(len(atoms))})


def _pick(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]


def _reconstruction(inputs: Tensor, restored: Tensor, *_: Tensor) -> Tensor:
    return mse_loss(restored, inputs)


def _in_order(dictionary: EncoderDictionary, decoder: Tensor, sample: Tensor) -> EncoderDictionary:
    """Sort the features by Σ|z_i D_i|² over sample positions [n, units]."""
    energy = dictionary.encode(sample).square().sum(dim=0) * decoder.square().sum(dim=1)
    order = energy.argsort(descending=True, stable=True)
    bias = dictionary.bias[order] if dictionary.bias is not None else None
    return replace(dictionary, vectors=dictionary.vectors[order], bias=bias, decoder=decoder[order])
