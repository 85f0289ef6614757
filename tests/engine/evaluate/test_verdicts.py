"""What the quality table and a GPU must show: which rows pass, and that a worse one fails."""

from types import SimpleNamespace

import pytest
from benchmarks.tables import COLUMNS, against, cells, cheap, on_a_gpu, to_markdown, verdicts


def row(name, **figures):
    none = dict.fromkeys((column for column, _, _ in COLUMNS), None)
    return SimpleNamespace(name=name, **{**none, **figures})


BEST = {"rise": 10.0, "transfer": 4.0, "ssim": 0.8, "distance": 0.2, "seconds": 30.0}


def test_better_everywhere():
    ours = row("natural", rise=11.0, transfer=4.0, ssim=0.9, distance=0.1, seconds=2.0)
    found = against(ours, row("faccent, best", **BEST))
    assert len(found) == 6
    assert all(verdict.holds for verdict in found)
    assert "better than faccent, best on 4 of 5 columns" in str(found[-1])
    assert str(found[0]) == "PASS  natural: rise 11.00 at least as good as faccent, best's 10.00"


@pytest.mark.parametrize(
    "worse", [{"rise": 9.0}, {"transfer": 3.9}, {"ssim": 0.7}, {"distance": 0.3}, {"seconds": 31.0}]
)
def test_worse_on_one_column_fails_there_alone(worse):
    ours = row("natural", **{**BEST, **worse})
    found = against(ours, row("faccent, best", **BEST))
    assert [verdict.holds for verdict in found[:-1]].count(False) == 1
    assert not found[-1].holds, "the same is not better"


def test_a_hundredth_is_no_difference():
    ours = row("natural", **{**BEST, "rise": 9.95, "distance": 0.201})
    assert all(verdict.holds for verdict in against(ours, row("faccent, best", **BEST))[:-1])


def test_fast():
    natural = row("natural", rise=10.0, transfer=4.0, transfer_logit=8.0, seconds=9.0)
    good = row("fast", rise=9.0, transfer=4.0, transfer_logit=7.3, seconds=3.0)
    assert [verdict.holds for verdict in cheap(good, natural)] == [True] * 4
    bad = row("fast", rise=8.9, transfer=3.5, transfer_logit=7.0, seconds=3.1)
    assert [verdict.holds for verdict in cheap(bad, natural)] == [False] * 4


def test_rows_that_are_not_there_are_not_compared():
    assert verdicts([row("natural", **BEST)]) == []
    found = verdicts([row("natural", **BEST), row("fast", rise=9.5, seconds=5.0)])
    assert [verdict.holds for verdict in found] == [True, True]


def test_markdown():
    text = to_markdown("title", [row("natural", **BEST)], [])
    assert "| natural | 10.00 | – | – | 4.00 |" in text
    assert cells(row("natural", share=0.5))[2] == "50%"


def test_on_a_gpu():
    """Five pictures a second are forty times faccent's if one of its takes eight seconds."""
    good, bad = on_a_gpu(5.0, 6.0, 8.0), on_a_gpu(4.9, 5.9, 8.0)
    assert [verdict.holds for verdict in good] == [True] * 3
    assert [verdict.holds for verdict in bad] == [False] * 3
    assert str(good[2]) == "PASS  40.0 × as fast as faccent: ≥ 40"
    assert len(on_a_gpu(5.0, 6.0, None)) == 2
