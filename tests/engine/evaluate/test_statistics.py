"""Similarities of vectors, by hand and against SciPy's and NumPy's where they are installed."""

import pytest
import torch

from accentor.engine.evaluate.statistics import cosine_matrix, pearson_matrix, ranks, spearman_matrix


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ranks_share_ties():
    values = torch.tensor([10.0, -1.0, 3.0, 3.0, 3.0, 10.0])
    torch.testing.assert_close(ranks(values), torch.tensor([5.5, 1.0, 3.0, 3.0, 3.0, 5.5], dtype=torch.float64))


def test_by_hand():
    a = torch.tensor([[1.0, 2.0, 3.0]])
    b = torch.tensor([[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [1.0, 8.0, 9.0], [11.0, 12.0, 13.0]])
    cosines = torch.tensor([[1.0, 10 / 14, 44 / (14 * 146) ** 0.5, 74 / (14 * 434) ** 0.5]], dtype=torch.float64)
    pearsons = torch.tensor([[1.0, -1.0, 8 / (2 * 38) ** 0.5, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(cosine_matrix(a, b), cosines)
    torch.testing.assert_close(pearson_matrix(a, b), pearsons)
    torch.testing.assert_close(spearman_matrix(a, b), torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64))


def test_pearson_is_numpys():
    import numpy as np

    left, right = vectors(4, 30), vectors(3, 30, seed=1)
    expected = np.corrcoef(left.numpy(), right.numpy())[:4, 4:]
    torch.testing.assert_close(pearson_matrix(left, right), torch.from_numpy(expected))


def test_spearman_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    left, right = vectors(3, 40).mul(2).round(), vectors(2, 40, seed=1).mul(2).round()
    expected = [[stats.spearmanr(a.numpy(), b.numpy()).statistic for b in right] for a in left]
    torch.testing.assert_close(spearman_matrix(left, right), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("measure", [pearson_matrix, spearman_matrix])
@pytest.mark.parametrize("count", [5, 6, 7, 11, 49])
def test_a_constant_vector_is_like_nothing(measure, count):
    """Its mean is off by rounding for some counts, and what is left then has a direction."""
    flat = torch.full((1, count), 0.1, dtype=torch.float64)
    others = torch.cat([vectors(2, count), flat])
    torch.testing.assert_close(measure(flat, others), torch.zeros(1, 3, dtype=torch.float64))


def test_nothing_is_like_zero():
    zero = torch.zeros(1, 5, dtype=torch.float64)
    torch.testing.assert_close(cosine_matrix(zero, vectors(2, 5)), torch.zeros(1, 2, dtype=torch.float64))


def test_small_vectors_are_not_noise():
    tiny = vectors(1, 9) * 1e-30
    for measure in (cosine_matrix, pearson_matrix, spearman_matrix):
        torch.testing.assert_close(measure(tiny, tiny), torch.ones(1, 1, dtype=torch.float64))
