"""Intervals from resamples: the middle of them, and what lies beyond them."""

from statistics import NormalDist

import numpy as np
import pytest

from bnrecal.report.analysis.uncertainty import percentile_interval


@pytest.mark.parametrize("n_at_once", [1, 10])
def test_intervals_are_percentiles_where_resamples_reach(n_at_once: int) -> None:
    """Of 0 to 1,000 in equal steps: 2.5 % off each end, a tenth of that for ten at once."""
    found = percentile_interval(np.linspace(0, 1000, 1001), n_at_once)
    assert found == pytest.approx((25 / n_at_once, 1000 - 25 / n_at_once))


def test_intervals_of_many_at_once_reach_beyond_the_resamples() -> None:
    """Of a thousand at once the ends are farther out than a thousand resamples: near the normal ones."""
    figures = np.random.default_rng(0).normal(3, 2, size=1000)
    low, high = percentile_interval(figures, 1000) or (0, 0)
    reach = NormalDist().inv_cdf(1 - 0.025 / 1000) * 2
    assert low < figures.min()
    assert high > figures.max()
    assert (low, high) == pytest.approx((3 - reach, 3 + reach), abs=0.5)


def test_a_resample_without_a_figure_leaves_none() -> None:
    """An object class may vanish from a resample."""
    assert percentile_interval(np.array([0.1, np.nan, 0.2])) is None
