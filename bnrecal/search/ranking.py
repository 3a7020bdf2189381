"""How well judges rank architectures: against each other and against true values, and what is noise.

Intervals are percentile bootstraps over architectures, 95 % (those of differences are studentised): they
say how a figure would vary with other architectures of the same space, not with another training of the
supernet. All judges see the same resamples, so differences between them are paired. Of fewer than ten
architectures there are none: an order that comes out perfect is perfect in every resample too, and of eight
such intervals one in nine had no width at all (300 simulated judges of correlation .96).

A judge that says the same of all, or a truth that does, ranks nothing: its figures are NaN.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Float64s
from bnrecal.metrics.rank_correlation import kendall, kendall_resampled, spearman, spearman_resampled
from bnrecal.metrics.resampling import N_RESAMPLES, draw
from bnrecal.search.truth import Truth

FEWEST = 3  # architectures: an order of two says too little
FEWEST_SURE = 10  # for an interval
TOP_K = (1, 10)
LEVEL = 0.95
Values = Mapping[str, float]  # by architecture, more is better


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval; the ends are NaN where there is none, all is NaN if undefined."""

    value: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether 0 lies in the interval, or there is none that could exclude it."""
        return not (self.low > 0 or self.high < 0)

    @property
    def is_defined(self) -> bool:
        """Whether something was ranked."""
        return not math.isnan(self.value)

    @property
    def is_sure(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)


UNDEFINED = Figure(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Agreement:
    """Between a judge and another, or the truth."""

    kendall: Figure  # tau-b
    spearman: Figure


@dataclass(frozen=True)
class AgainstTruth(Agreement):
    """Of one judge, also among the architectures that are truly the best tenth (None: too few).

    `regret[k]` is how far the truly best of the judge's k highest falls short of the best there is, in the
    truth's unit; ties of the judge are taken at their worst. None where k are all there are.
    """

    best_tenth: Figure | None
    regret: dict[int, float | None]


@dataclass(frozen=True)
class Ceiling:
    """One training of every architecture as judge of the mean of the others: mean over the runs.

    What a judge gets who knows as much as one more training. Not a bound: a judge that follows what the
    trainings have in common, without the luck of one, agrees better. The tenth is that of the others' mean:
    chosen by a mean that the judge is part of, its luck would speak against it there.
    """

    kendall: Figure
    best_tenth: Figure | None
    n_runs: int


@dataclass(frozen=True)
class Ranking:
    """Of the architectures that every judge and the truth know."""

    archs: tuple[str, ...]
    between: dict[tuple[str, str], Agreement]  # two judges
    against: dict[str, AgainstTruth]  # empty without truth
    differences: dict[tuple[str, str], Figure]  # tau of the first against the truth minus that of the second;
    # all these intervals hold at once, so that the best may be chosen after looking
    ceiling: Ceiling | None  # None without runs


def rank(judged: Mapping[str, Values], truth: Truth | None = None, n_resamples: int = N_RESAMPLES) -> Ranking:
    """Compare these judges, by name. Raises BnrecalError for fewer than three common architectures."""
    known = [set(values) for values in judged.values()] + ([set(truth.values)] if truth else [])
    archs = tuple(sorted(set.intersection(*known))) if known else ()
    if len(archs) < FEWEST:
        whom = "every judge and the truth" if truth else "every judge"
        raise BnrecalError(f"{len(archs)} architectures are known to {whom}; a ranking needs {FEWEST}")
    weights = draw(len(archs), n_resamples)
    columns = {name: _column(values, archs) for name, values in judged.items()}
    between = {
        (a, b): _agreement(columns[a], columns[b], weights) for a, b in itertools.combinations(columns, 2)
    }
    if truth is None:
        return Ranking(archs, between, {}, {}, None)
    true = _column(truth.values, archs)
    against = {name: _against(column, true, weights) for name, column in columns.items()}
    return Ranking(
        archs, between, against, differences(columns, true, weights), _ceiling(truth, archs, weights)
    )


def differences(
    columns: Mapping[str, Float64s], true: Float64s, weights: np.ndarray
) -> dict[tuple[str, str], Figure]:
    """tau of one judge against the truth minus that of another, for all pairs of `columns` (archs,).

    Intervals hold together, by the bootstrap (`weights`: archs, resamples) of the largest studentised
    deviation (Romano & Wolf, Econometrica 2005). Judges that are nearly one another count as nearly one, and
    of the resamples no farther tail is asked than 5 %; Bonferroni's percentiles for 153 pairs lie beyond a
    thousand of them.
    """
    samples = {name: kendall_resampled(column, true, weights) for name, column in columns.items()}
    values = {name: _tau(column, true) for name, column in columns.items()}
    errors, largest = {}, np.zeros(weights.shape[1])
    for a, b in itertools.combinations(columns, 2):
        if math.isnan(values[a] - values[b]):
            continue
        deviations = samples[a] - samples[b]
        deviations -= deviations.mean()
        errors[a, b] = float(deviations.std())
        if errors[a, b] > 0:
            np.maximum(largest, np.abs(deviations) / errors[a, b], out=largest)
    reach = float(np.quantile(largest, LEVEL)) if len(true) >= FEWEST_SURE else math.nan
    found = {}
    for a, b in itertools.combinations(columns, 2):
        apart = values[a] - values[b]
        away = reach * errors.get((a, b), math.nan)
        found[a, b] = Figure(apart, max(-2.0, apart - away), min(2.0, apart + away))
        if math.isnan(away):
            found[a, b] = Figure(apart, math.nan, math.nan)
    return found


def best_tenth(true: Float64s) -> np.ndarray:
    """Positions of the highest tenth, rounded up; of equal ones the first."""
    return np.argsort(-true, kind="stable")[: -(-len(true) // 10)]


def regret(judge: Float64s, true: Float64s, k: int) -> float:
    """The best true value minus the best among the judge's k highest, ties of the judge at their worst."""
    chosen = np.lexsort((true, -judge))[:k]  # of equal judgements the truly worst first
    return float(true.max() - true[chosen].max())


def _column(values: Values, archs: Sequence[str]) -> Float64s:
    return np.array([values[arch] for arch in archs], dtype=np.float64)


def _tau(a: Float64s, b: Float64s) -> float:
    """tau-b; NaN where one of the two is constant."""
    return kendall(a, b) if _ranks(a, b) else math.nan


def _ranks(a: Float64s, b: Float64s) -> bool:
    return bool(np.ptp(a) > 0 and np.ptp(b) > 0)


def _figure(value: float, samples: Float64s, n: int) -> Figure:
    """`samples` of the figure of `n` architectures."""
    if math.isnan(value) or n < FEWEST_SURE:
        return Figure(value, math.nan, math.nan)
    outside_pct = 100 * (1 - LEVEL)
    low, high = np.percentile(samples, [outside_pct / 2, 100 - outside_pct / 2])
    return Figure(value, float(low), float(high))


def _kendall(a: Float64s, b: Float64s, weights: np.ndarray) -> Figure:
    return _figure(_tau(a, b), kendall_resampled(a, b, weights), len(a))


def _agreement(a: Float64s, b: Float64s, weights: np.ndarray) -> Agreement:
    if not _ranks(a, b):
        return Agreement(UNDEFINED, UNDEFINED)
    rho = _figure(spearman(a, b), spearman_resampled(a, b, weights), len(a))
    return Agreement(_kendall(a, b, weights), rho)


def _against(judge: Float64s, true: Float64s, weights: np.ndarray) -> AgainstTruth:
    whole = _agreement(judge, true, weights)
    top = best_tenth(true)
    within = None
    if len(top) >= FEWEST_SURE:
        within = _kendall(judge[top], true[top], draw(len(top), weights.shape[1]))
    regrets = {k: regret(judge, true, k) if k < len(true) else None for k in TOP_K}
    return AgainstTruth(whole.kendall, whole.spearman, within, regrets)


def _ceiling(truth: Truth, archs: Sequence[str], weights: np.ndarray) -> Ceiling | None:
    runs = np.array([truth.runs.get(arch, ()) for arch in archs], dtype=np.float64)  # (archs, runs)
    n_runs = runs.shape[1]
    if n_runs < 2:
        return None
    others = [np.delete(runs, k, axis=1).mean(1) for k in range(n_runs)]
    pairs = list(zip(runs.T, others, strict=True))
    within = None
    tenths = [(a[top], b[top]) for a, b in pairs for top in (best_tenth(b),)]
    n_top = len(tenths[0][0])
    if n_top >= FEWEST_SURE:
        within = _mean_tau(tenths, draw(n_top, weights.shape[1]))
    return Ceiling(_mean_tau(pairs, weights), within, n_runs)


def _mean_tau(pairs: Sequence[tuple[Float64s, Float64s]], weights: np.ndarray) -> Figure:
    samples = np.mean([kendall_resampled(a, b, weights) for a, b in pairs], axis=0)
    return _figure(float(np.mean([_tau(a, b) for a, b in pairs])), samples, len(weights))
