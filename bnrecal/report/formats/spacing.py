"""Where marks go so that none lies on another, and which range an axis shows."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from bnrecal.report.analysis.uncertainty import Interval

REACH = 3.0  # interquartile ranges beyond the quartiles that still belong to the others
FEW = 0.1  # share of the values that may lie off the axis
PRESSED = 2.5  # times as long an axis, and the others are pressed together
GROUP = 0.72  # of the room between two places, what the series there take
APART = 0.04  # of the axis: what lines have to be apart everywhere to be drawn


def places(n_series: int) -> list[float]:
    """Shifts of series that stand beside each other at the places 0, 1, 2, ..."""
    return [GROUP * ((k + 0.5) / n_series - 0.5) for k in range(n_series)]


def mark_size(n_places: int, n_series: int, points: float, most: float = 4.5) -> float:
    """Points that a mark may measure on an axis of so many points, each series beside the last."""
    return float(np.clip(points * GROUP / (max(n_places, 1) * n_series) * 0.9, 1.8, most))


def focus(marks: Sequence[tuple[float, Interval | None]]) -> tuple[float, float]:
    """The range of an axis that shows these values and their intervals.

    All of them, unless a few (FEW at most) lie more than REACH interquartile ranges outside the quartiles
    and would press the others together: on the whole axis they would take less than 1 / PRESSED of it.
    """
    values = [value for value, _ in marks]
    low, high = np.quantile(values, [0.25, 0.75])
    reach = REACH * max(high - low, 1e-3)
    core = [mark for mark in marks if low - reach <= mark[0] <= high + reach]
    whole, near = _ends(marks), _ends(core)
    is_few = len(marks) - len(core) <= max(1, FEW * len(marks))
    is_pressed = whole[1] - whole[0] > PRESSED * (near[1] - near[0])
    return near if is_few and is_pressed else whole


def _ends(marks: Sequence[tuple[float, Interval | None]]) -> tuple[float, float]:
    """With a margin."""
    ends = [end for value, interval in marks for end in (*(interval or ()), value)]
    margin = 0.06 * max(max(ends) - min(ends), 1e-3)
    return min(ends) - margin, max(ends) + margin


def lie_apart(lines: Sequence[Mapping[float, float]], span: float) -> bool:
    """Whether lines over the same places never come closer than APART of the axis."""
    for place in {place for line in lines for place in line}:
        found = sorted(line[place] for line in lines if place in line)
        if any(b - a < APART * span for a, b in pairwise(found)):
            return False
    return True
