"""What changes along each axis, beyond noise, and what re-estimation gives back to each trained network.

Differences are taken between matched cells, alike in everything else, training and order of images included.
With three trainings or more their scatter is the noise (Student's t over trainings), otherwise that of the
evaluation images (paired bootstrap). Three trainings tell little about a scatter: that of all values of an
axis, or of all kinds of network, is taken as one, as in the analysis of a randomised block design.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, stdev
from typing import Any

import numpy as np

from bnrecal.metrics.boxes import Float64s
from bnrecal.report.analysis.by_axes import (
    AS_IT_STANDS,
    OF_STATISTICS,
    Group,
    Point,
    Variants,
    grouped,
    named,
    place_of,
    said,
)
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.uncertainty import LEVEL, Uncertainty, percentile_interval

FEWEST_TRAININGS = 3  # fewer say nothing about others
AS_THEY_STAND = "networks as they stand"
TRAININGS, IMAGES = "trainings", "evaluation images"


@dataclass(frozen=True)
class Difference:
    """A mean difference of eval with its interval, which is None where nothing says how certain it is."""

    mean: float
    low: float | None
    high: float | None
    over: str = ""  # TRAININGS or IMAGES
    n: int = 0  # trainings, where they are the noise

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def interval(self) -> str:
        """ "95 % +0.0100 to +0.0300 over 3 trainings"."""
        if self.low is None or self.high is None:
            return "nothing says how certain that is"
        over = f"{self.n} {self.over}" if self.over == TRAININGS else self.over
        return f"95 % {self.low:+.4f} to {self.high:+.4f} over {over}"


Pairs = Sequence[tuple[Point, Point]]


@dataclass(frozen=True)
class Scatter:
    """Of a difference from training to training: standard deviation, and its degrees of freedom."""

    deviation: float
    freedom: int

    def half_width(self, n: int, level: float) -> float:
        """Of the interval of a mean over `n` trainings."""
        from scipy.stats import t

        return float(t.ppf((1 + level) / 2, self.freedom)) * self.deviation / math.sqrt(n)


def scatter_within(samples: Iterable[Sequence[float]]) -> Scatter | None:
    """Of differences around the mean of their own sample, all samples together; None if none has two."""
    squares, freedom = 0.0, 0
    for values in samples:
        squares += sum((value - mean(values)) ** 2 for value in values)
        freedom += len(values) - 1
    return Scatter(math.sqrt(squares / freedom), freedom) if freedom > 0 else None


def scatter_along(table: Mapping[Any, Sequence[float]]) -> Scatter | None:
    """Of the difference of two values of an axis: `table` has a mean for each value and training, in order.

    What is left of a figure without the means of its value and of its training, on
    (values - 1)(trainings - 1) degrees of freedom; a difference has twice that variance.
    """
    rows = list(table.values())
    freedom = (len(rows) - 1) * (len(rows[0]) - 1)
    if freedom < 1:
        return None
    by_training = [mean(column) for column in zip(*rows, strict=True)]
    whole = mean(by_training)
    rest = [
        value - mean(row) - of + whole for row in rows for value, of in zip(row, by_training, strict=True)
    ]
    return Scatter(math.sqrt(2 * sum(x * x for x in rest) / freedom), freedom)


def by_training(pairs: Pairs) -> list[float]:
    """The mean difference of each training."""
    found: dict[int, list[float]] = defaultdict(list)
    for one, two in pairs:
        found[one.training_seed].append(one.row["eval"] - two.row["eval"])
    return [mean(values) for values in found.values()]


def difference(
    pairs: Pairs, uncertainty: Uncertainty, scatter: Scatter | None, n_comparisons: int = 1
) -> Difference:
    """Eval of the first minus eval of the second of each pair, averaged.

    `scatter` is the noise where there are trainings enough. The interval holds for `n_comparisons` such
    differences at once (Bonferroni).
    """
    each = by_training(pairs)
    level = 1 - (1 - LEVEL) / n_comparisons
    if len(each) >= FEWEST_TRAININGS and scatter is not None:
        half = scatter.half_width(len(each), level)
        return Difference(mean(each), mean(each) - half, mean(each) + half, TRAININGS, len(each))
    figures = _resampled(pairs, uncertainty)
    interval = None if figures is None else percentile_interval(figures, n_comparisons)
    if interval is None:
        return Difference(mean(each), None, None)
    return Difference(mean(each), *interval, IMAGES)


def _t_half_width(values: Sequence[float], level: float) -> float:
    from scipy.stats import t

    error = stdev(values) / math.sqrt(len(values))
    return float(t.ppf((1 + level) / 2, len(values) - 1)) * error


def _resampled(pairs: Pairs, uncertainty: Uncertainty) -> Float64s | None:
    total: list[Float64s] = []
    for one, two in pairs:
        first, second = uncertainty.figures(one.row), uncertainty.figures(two.row)
        if first is None or second is None:
            return None
        total.append(first - second)
    found: Float64s = np.mean(total, 0)
    return found if np.isfinite(found).all() else None


def half_width(group: Group, uncertainty: Uncertainty) -> float | None:
    """Half of the 95 % interval of a group's eval; see `noise_of` for what it is over."""
    values = list(group.by_training.values())
    if len(values) >= FEWEST_TRAININGS:
        return _t_half_width(values, LEVEL)
    figures = [uncertainty.figures(point.row) for point in group.points]
    known = [found for found in figures if found is not None]
    if len(known) < len(figures):
        return None
    low, high = np.percentile(np.mean(known, 0), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(high - low) / 2


def noise_of(variants: Variants) -> str:
    """What the intervals of its tables are over."""
    groups = [g for block in variants.blocks for g in (*block.groups.values(), *block.stored.values())]
    counts = {len(group.by_training) for group in groups}
    enough = sorted(n for n in counts if n >= FEWEST_TRAININGS)
    if enough:
        n = f"{enough[0]}" if len(enough) == 1 else f"{enough[0]} to {enough[-1]}"
        over = f"half of the 95 % interval over {n} trainings that differ by their seed (Student's t)"
        others = " where there are so many, elsewhere over the evaluation images (bootstrap)"
        return over + (others if min(counts) < FEWEST_TRAININGS else "")
    return (
        "half of the 95 % interval over the evaluation images (bootstrap); trainings of other seeds may "
        "differ more"
    )


def axis_findings(variants: Variants, uncertainty: Uncertainty) -> list[Finding]:
    """One for what re-estimation gives back, then one for each axis: its best and its worst value."""
    found = [_given_back(variants, uncertainty)] if variants.training_axes else []
    for name in variants.axes:
        stored = [p for p in variants.points if p.is_stored]
        points = [p for p in variants.points if not p.is_stored] or stored
        along = _along(variants, name, points, uncertainty)
        if along is None and name in variants.training_axes:  # some have nothing to re-estimate
            along = _along(variants, name, stored, uncertainty, f", {AS_THEY_STAND}")
        found.append(along)
    return [finding for finding in found if finding is not None]


def _along(
    variants: Variants, name: str, points: Sequence[Point], uncertainty: Uncertainty, which: str = ""
) -> Finding | None:
    """Of cells that were measured at every value of the axis: best and worst, and whether they differ."""
    values = variants.axes[name]
    matched: dict[tuple[Any, ...], dict[Any, Point]] = defaultdict(dict)
    for point in points:
        if name in point.at:
            others = tuple((k, v) for k, v in point.at.items() if k != name and k in variants.axes)
            matched[(others, point.training_seed, point.row["seed"])][point.at[name]] = point
    whole = [at for at in matched.values() if len(at) == len(values)]
    if not whole:
        return None
    level = {value: mean(at[value].row["eval"] for at in whole) for value in values}
    best, worst = max(values, key=lambda v: level[v]), min(values, key=lambda v: level[v])
    n_pairs = len(list(combinations(values, 2)))
    table = {value: _of_trainings(whole, value) for value in values}
    gap = difference([(at[best], at[worst]) for at in whole], uncertainty, scatter_along(table), n_pairs)
    of = f"{len(whole)} matched cells each" if len(whole) > 1 else "one cell each"
    adjusted = f", adjusted for {n_pairs} pairs" if n_pairs > 1 else ""
    names = f"{said(name, best)} ({level[best]:.4f}) and {said(name, worst)} ({level[worst]:.4f})"
    if gap.is_clear:
        text = (
            f"Along {name}{which}: {said(name, best)} scores highest, {level[best]:.4f}, and "
            f"{said(name, worst)} lowest, {level[worst]:.4f}: {gap.mean:.4f} apart "
            f"({gap.interval}{adjusted}; {of})."
        )
    else:
        text = (
            f"Along {name}{which}: no value is told from another. The farthest apart, {names}, differ by "
            f"{gap.mean:.4f} ({gap.interval}{adjusted}; {of})."
        )
    return Finding(f"along {name}", text)


def _of_trainings(whole: Sequence[Mapping[Any, Point]], value: Any) -> list[float]:
    """The mean eval of each training at this value, trainings in order."""
    found: dict[int, list[float]] = defaultdict(list)
    for at in whole:
        found[at[value].training_seed].append(at[value].row["eval"])
    return [mean(found[seed]) for seed in sorted(found)]


def _given_back(variants: Variants, uncertainty: Uncertainty) -> Finding | None:
    """As it stands against the one setting of the statistics with the highest mean over all networks."""
    best = best_setting(variants)
    if best is None:
        return None
    setting = {name: best[name] for name in OF_STATISTICS if name in best}
    how = ", ".join(said(name, value) for name, value in setting.items())
    items, gains = [], []
    by_variant = grouped(variants.points, lambda p: place_of(p, variants.training_axes))
    paired = {place: _pairs(group.points, setting) for place, group in by_variant.items()}
    paired = {place: pairs for place, pairs in paired.items() if pairs}
    scatter = scatter_within(map(by_training, paired.values()))
    for place, pairs in sorted(paired.items(), key=lambda x: variants.ranks(variants.training_axes, x[0])):
        gain = difference(pairs, uncertainty, scatter, len(paired))
        gains.append(gain)
        name = named(variants.training_axes, place)
        before, after = (mean(p.row["eval"] for p in points) for points in zip(*pairs, strict=True))
        scores = f"{after:.4f} {AS_IT_STANDS}, {before:.4f} re-estimated"
        items.append(f"{name}: {scores}: {gain.mean:+.4f} ({gain.interval})")
    if not items:
        return None
    n_up, n_down = (sum(gain.is_clear and sign * gain.mean > 0 for gain in gains) for sign in (1, -1))
    adjusted = ""
    if len(items) > 1 and any(gain.over for gain in gains):
        pooled = "take one scatter for all and " if any(gain.over == TRAININGS for gain in gains) else ""
        adjusted = f" Intervals {pooled}are adjusted for {len(items)} comparisons."
    text = (
        f"Re-estimating the statistics ({how}, the highest mean of all settings) against the networks as "
        f"they stand: better beyond noise for {n_up} of {len(items)} kinds of network, worse for "
        f"{n_down}.{adjusted}"
    )
    return Finding("re-estimation", text, tuple(items))


def best_setting(variants: Variants) -> Mapping[str, Any] | None:
    """Where along the statistics' axes the mean over all trained networks is highest."""
    settings = grouped(
        (p for p in variants.points if not p.is_stored), lambda p: tuple(p.at[name] for name in OF_STATISTICS)
    )
    if not settings:
        return None
    most = max(len(group.points) for group in settings.values())
    whole = {at: group for at, group in settings.items() if len(group.points) == most}
    at = max(whole, key=lambda at: whole[at].eval)
    return dict(zip(OF_STATISTICS, at, strict=True))


def _pairs(points: Sequence[Point], setting: Mapping[str, Any]) -> Pairs:
    """(re-estimated, as it stands) of each training and architecture."""
    stored = {(p.training_seed, p.row["arch"]): p for p in points if p.is_stored}
    return [
        (p, stored[p.training_seed, p.row["arch"]])
        for p in points
        if not p.is_stored
        and all(p.at[name] == value for name, value in setting.items())
        and (p.training_seed, p.row["arch"]) in stored
    ]
