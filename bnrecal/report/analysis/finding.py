"""A finding as data, and when an exponential average counts as warm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.sections import Section

WARM = 0.002  # of the starting statistics left: an exponential average this far on is as good as warm
WARM_UPS = 3  # where momentum is not stated: so many times k0 count as warm


@dataclass(frozen=True)
class Finding:
    """A sentence or two on one topic, with lines of detail where it has some."""

    topic: str
    text: str
    items: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"  {item}" for item in self.items)])


def start_left(momentum: float, n_updates: int) -> float:
    """Weight of mean 0, variance 1 in the average after so many updates: (1 - momentum)^N."""
    return float((1 - momentum) ** n_updates)


def window(momentum: float) -> float:
    """Batches an exponential average remembers: as many as a plain mean of equal variance, (2 - a) / a."""
    return (2 - momentum) / momentum


def warm_from(section: Section, laws: Sequence[Law]) -> int:
    """The number of updates from which on the average has forgotten its start; 0: always."""
    if section.estimator != "ema":
        return 0
    if section.momentum is not None:
        return 1 if section.momentum == 1 else math.ceil(math.log(WARM) / math.log(1 - section.momentum))
    return math.ceil(max((WARM_UPS * law.warmup for law in laws if law.holds()), default=0))
