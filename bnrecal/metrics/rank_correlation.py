"""Rank correlations of two lists, by scipy; and of many resamples of them at once.

A resample is a vector of weights: how often each item was drawn (`bnrecal.metrics.resampling.draw`). An
item drawn twice is two tied items, which tau-b takes as it takes any tie.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnrecal.metrics.boxes import Float64s

_BLOCK = 512  # rows of the matrix of pairs held at once


def kendall(a: Sequence[float] | Float64s, b: Sequence[float] | Float64s) -> float:
    """Kendall's tau-b; 0 where one of the two is constant, since nothing is ranked."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(a, b).statistic)
    return tau if tau == tau else 0.0


def spearman(a: Sequence[float] | Float64s, b: Sequence[float] | Float64s) -> float:
    """Spearman's rho, ties at their mean rank; 0 where one of the two is constant."""
    rho = float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]) if _varies(a) and _varies(b) else 0.0
    return max(-1.0, min(1.0, rho))


def kendall_resampled(
    a: Sequence[float] | Float64s, b: Sequence[float] | Float64s, weights: NDArray[np.int32]
) -> Float64s:
    """tau-b under each column of `weights` (items, resamples); 0 where nothing is ranked.

    With S = sign of all pairs' differences, tau-b = w'(Sa Sb)w / sqrt(w'|Sa|w w'|Sb|w), products of
    entries within: three sums over pairs for all resamples at once.
    """
    x, y, w = np.asarray(a, float), np.asarray(b, float), weights.astype(np.float32)
    sums = np.zeros((3, weights.shape[1]))
    for at in range(0, len(x), _BLOCK):
        rows = slice(at, at + _BLOCK)
        in_a = np.sign(x[rows, None] - x).astype(np.float32)
        in_b = np.sign(y[rows, None] - y).astype(np.float32)
        for k, pairs in enumerate((in_a * in_b, np.abs(in_a), np.abs(in_b))):
            # the entries are whole numbers below 2^24 for any number of items that fits in memory
            sums[k] += (w[rows].astype(np.float64) * (pairs @ w)).sum(0)
    both, only_a, only_b = sums
    scale = np.sqrt(only_a * only_b)
    return np.divide(both, scale, out=np.zeros_like(both), where=scale > 0)


def _varies(values: Sequence[float] | Float64s) -> bool:
    return len(values) > 1 and float(np.ptp(np.asarray(values, float))) > 0


def _ranks(values: Sequence[float] | Float64s) -> Float64s:
    from scipy.stats import rankdata

    ranks: Float64s = rankdata(values)
    return ranks


def spearman_resampled(
    a: Sequence[float] | Float64s, b: Sequence[float] | Float64s, weights: NDArray[np.int32]
) -> Float64s:
    """rho under each column of `weights` (items, resamples), with the ranks of that resample."""
    x, y = _ranks_resampled(np.asarray(a, float), weights), _ranks_resampled(np.asarray(b, float), weights)
    n = weights.sum(0)
    x, y = x - (weights * x).sum(0) / n, y - (weights * y).sum(0) / n
    scale = np.sqrt((weights * x * x).sum(0) * (weights * y * y).sum(0))
    both = (weights * x * y).sum(0)
    rho: Float64s = np.divide(both, scale, out=np.zeros_like(both), where=scale > 1e-9)
    return rho


def _ranks_resampled(values: Float64s, weights: NDArray[np.int32]) -> Float64s:
    """Mean rank of each item among those drawn, in each resample; shape (items, resamples)."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order], axis=0)  # drawn items up to each place
    _, first, n_equal = np.unique(values[order], return_index=True, return_counts=True)
    before = np.where(first[:, None] > 0, below[first - 1], 0)
    mean_rank = (before + below[first + n_equal - 1] + 1) / 2
    ranks = np.empty(weights.shape)
    ranks[order] = np.repeat(mean_rank, n_equal, axis=0)
    return ranks
