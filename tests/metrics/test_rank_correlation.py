"""Rank correlations under weights against scipy on the resample written out."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from bnrecal.metrics.rank_correlation import kendall, kendall_resampled, spearman, spearman_resampled
from bnrecal.metrics.resampling import draw

LISTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30)


@given(LISTS, st.integers(0, 1000))
def test_resampled_equals_the_resample_written_out(pairs: list[tuple[int, int]], seed: int) -> None:
    """An item drawn w times is w equal items, with many ties; 0 where scipy finds nothing to rank."""
    a, b = np.array(pairs, float).T
    weights = draw(len(a), 5, seed)
    taus, rhos = kendall_resampled(a, b, weights), spearman_resampled(a, b, weights)
    for k in range(5):
        x, y = np.repeat(a, weights[:, k]), np.repeat(b, weights[:, k])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of constant lists
            tau, rho = kendalltau(x, y).statistic, spearmanr(x, y).statistic
        assert taus[k] == pytest.approx(np.nan_to_num(tau), abs=1e-9)
        assert rhos[k] == pytest.approx(np.nan_to_num(rho), abs=1e-9)


def test_more_items_than_a_block() -> None:
    """1,100 items, three blocks of pairs: once each gives tau and rho of the list itself."""
    a, b = np.random.default_rng(0).normal(size=(2, 1100))
    once = np.ones((1100, 1), np.int32)
    assert kendall_resampled(a, a + b, once)[0] == pytest.approx(kendall(a, a + b), abs=1e-12)
    assert spearman_resampled(a, a + b, once)[0] == pytest.approx(spearman(a, a + b), abs=1e-12)


def test_constant_lists_rank_nothing() -> None:
    """0, not NaN."""
    assert kendall([1, 1, 1], [1, 2, 3]) == spearman([1, 1, 1], [1, 2, 3]) == 0.0


def test_known_values() -> None:
    """tau-b with one tie: 2 concordant pairs of 3, one tied in a: 2 / sqrt(2 x 3)."""
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0
