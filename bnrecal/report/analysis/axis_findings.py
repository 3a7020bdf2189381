"""What changes along each axis, beyond noise, and what re-estimation gives back to each trained network.

Differences are taken between matched cells, alike in everything else, training and order of images included.
With three trainings or more their scatter is the noise (Student's t over trainings), otherwise that of the
evaluation images (paired bootstrap).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, stdev
from typing import Any

import numpy as np

from bnrecal.metrics.boxes import Float64s
from bnrecal.report.analysis.by_axes import AS_IT_STANDS, OF_STATISTICS, Group, Point, Variants, grouped, said
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.uncertainty import LEVEL, Uncertainty

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


def difference(pairs: Pairs, uncertainty: Uncertainty, n_comparisons: int = 1) -> Difference:
    """Eval of the first minus eval of the second of each pair, averaged.

    The interval holds for `n_comparisons` such differences at once (Bonferroni).
    """
    by_training: dict[int, list[float]] = defaultdict(list)
    for one, two in pairs:
        by_training[one.training_seed].append(one.row["eval"] - two.row["eval"])
    each = [mean(values) for values in by_training.values()]
    level = 1 - (1 - LEVEL) / n_comparisons
    if len(each) >= FEWEST_TRAININGS:
        half = _t_half_width(each, level)
        return Difference(mean(each), mean(each) - half, mean(each) + half, TRAININGS, len(each))
    figures = _resampled(pairs, uncertainty)
    if figures is None:
        return Difference(mean(each), None, None)
    low, high = np.percentile(figures, [50 * (1 - level), 50 * (1 + level)])
    return Difference(mean(each), float(low), float(high), IMAGES)


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
    gap = difference([(at[best], at[worst]) for at in whole], uncertainty, n_pairs)
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


def _given_back(variants: Variants, uncertainty: Uncertainty) -> Finding | None:
    """As it stands against the one setting of the statistics with the highest mean over all networks."""
    best = best_setting(variants)
    if best is None:
        return None
    setting = {name: best[name] for name in OF_STATISTICS if name in best}
    how = ", ".join(said(name, value) for name, value in setting.items())
    items, clear = [], []
    by_variant = grouped(variants.points, lambda p: tuple(p.at[name] for name in variants.training_axes))
    paired = {place: _pairs(group.points, setting) for place, group in by_variant.items()}
    paired = {place: pairs for place, pairs in paired.items() if pairs}
    for place, pairs in paired.items():
        gain = difference(pairs, uncertainty, len(paired))
        clear.append((gain.is_clear and gain.mean > 0, gain.is_clear and gain.mean < 0))
        name = ", ".join(said(n, v) for n, v in zip(variants.training_axes, place, strict=True))
        before, after = (mean(p.row["eval"] for p in points) for points in zip(*pairs, strict=True))
        scores = f"{after:.4f} {AS_IT_STANDS}, {before:.4f} re-estimated"
        items.append(f"{name}: {scores}: {gain.mean:+.4f} ({gain.interval})")
    if not items:
        return None
    n_up, n_down = sum(up for up, _ in clear), sum(down for _, down in clear)
    adjusted = f" Intervals are adjusted for {len(items)} comparisons." if len(items) > 1 else ""
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
