"""Whether two random seeds change an image alike."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

AGREES = 0.6
"""Of the reference model's, 0.81 to 0.93 agree."""
CELLS = 32
"""Changes are compared in so many cells a side: finer ones hang on where crops happened to lie."""


def agreement(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """Return the cosine of two changes, each from a seed to an accentuated picture, [3, H, W] of one size."""
    changes = [adaptive_avg_pool2d(after - before, CELLS).flatten() for before, after in (first, second)]
    return float(cosine_similarity(changes[0], changes[1], dim=0)) if all(map(torch.any, changes)) else 1.0
