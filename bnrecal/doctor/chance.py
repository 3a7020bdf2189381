"""When two metrics of the same images are further apart than chance explains.

Where both say which images they got right, by the rule of `recalibrate`, `advise` and `report`: the paired
interval of the difference. A metric that a user's function gives is a number alone, and judged as one.
"""

import math
from collections.abc import Callable

from bnrecal.measure.prepared import change
from bnrecal.metrics.resampling import Evidence


class Scored(float):
    """A metric that knows what it rests on, image by image."""

    evidence: Callable[[], Evidence]

    def __new__(cls, metric: float, evidence: Callable[[], Evidence]) -> "Scored":
        made = super().__new__(cls, metric)
        made.evidence = evidence
        return made


def differ(a: float, b: float, n_images: int) -> bool:
    """Whether two metrics of n images are further apart than chance explains.

    Of `Scored` ones the 95 % interval of the paired difference excludes 0; too few images never do. Other
    metrics within 0 to 1 are taken as fractions of the images: apart by two standard deviations of the
    difference of independent fractions, 2 sqrt((a (1 - a) + b (1 - b)) / n), and by two images. The
    images are the same ones, so chance explains less than that. Others: by 1.5 / sqrt(n) of the larger,
    and by 2 %. A metric that is no number differs from any that is.
    """
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) != math.isnan(b)
    if isinstance(a, Scored) and isinstance(b, Scored):
        interval = change(a.evidence(), b.evidence())
        return interval is not None and not interval[0] <= 0 <= interval[1]
    if min(a, b) >= 0 and max(a, b) <= 1:
        spread = math.sqrt((a * (1 - a) + b * (1 - b)) / n_images)
        return abs(a - b) > max(2 * spread, 2 / n_images)
    return abs(a - b) > max(0.02, 1.5 / math.sqrt(n_images)) * max(abs(a), abs(b))
