"""Where features lie on the map, and which are most alike."""

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from accentor.engine.dictionaries import ChannelDictionary, Dictionary
from accentor.engine.outputs.extras import needed
from accentor.engine.scan import Scan

NEAREST = 6
ROWS_AT_ONCE = 1024
FEW = 16
"""Features below which there is nothing for UMAP to find."""


def directions_of(dictionary: Dictionary, scan: Scan, units: Sequence[int]) -> Tensor:
    """Return a vector of length 1 for each feature, [features, values].

    Its direction in the layer. All channels are at right angles: theirs is what they do over the sampled images.
    """
    picked = torch.tensor(list(units))
    if isinstance(dictionary, ChannelDictionary):
        rows = scan.sampled.values.nan_to_num(0.0, 0.0, 0.0)[:, picked].T
        rows = rows - rows.mean(dim=1, keepdim=True)
    else:
        vectors = dictionary.vectors  # type: ignore[attr-defined]
        rows = vectors[picked].cpu().nan_to_num(0.0, 0.0, 0.0)
    return torch.nn.functional.normalize(rows.float(), dim=1)


def positions_of(directions: Tensor) -> Tensor:
    """Return a position [features, 2] for each direction: by UMAP where it is installed, else by PCA."""
    if len(directions) >= FEW and importlib.util.find_spec("umap") is not None:
        umap = needed("umap", "atlas", "the map")
        found = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(directions.numpy())
        return torch.as_tensor(found).float()
    return principal(directions)


def principal(directions: Tensor) -> Tensor:
    """Return the projection [features, 2] on the two main axes; signs are such that each axis' largest entry is > 0."""
    centered = directions - directions.mean(dim=0)
    padded = torch.nn.functional.pad(centered, (0, max(0, 2 - centered.shape[1])))
    _, _, axes = torch.linalg.svd(padded, full_matrices=False)
    axes = torch.nn.functional.pad(axes, (0, 0, 0, max(0, 2 - len(axes))))[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return padded @ (axes * largest.sign()).T


def nearest_of(directions: Tensor, count: int = NEAREST) -> Tensor:
    """Return the rows [features, count] of the most alike other features, by cosine; the nearest first."""
    size = len(directions)
    found = []
    for start in range(0, size, ROWS_AT_ONCE):
        part = directions[start : start + ROWS_AT_ONCE] @ directions.T
        part[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        found.append(part.topk(min(count, size - 1), dim=1).indices)
    return torch.cat(found)
