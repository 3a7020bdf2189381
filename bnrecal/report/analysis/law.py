"""The law behind the table: update = A (1 - k0 / N), N the number of updates.

A pass scores about nothing for its first k0 batches, while the statistics still carry their start, and
like evaluation from then on. So over N batches the update metric is that share of A that is not warm-up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnrecal.store.store import Row

FEWEST_CELLS = 4  # below this two parameters fit anything
FEWEST_COUNTS = 3  # different N


@dataclass(frozen=True)
class Law:
    """Least squares of update on 1 / N for one architecture; standard errors by the delta method."""

    arch: str
    level: float  # A
    level_se: float
    warmup: float  # k0, in batches
    warmup_se: float
    r2: float
    n_cells: int
    mean_eval: float

    def holds(self) -> bool:
        """Whether the law describes these cells: nearly all of the variation, and a positive warm-up."""
        return self.r2 >= 0.98 and self.warmup > 2 * self.warmup_se


def fit_law(arch: str, rows: Sequence[Row]) -> Law | None:
    """The law of one architecture's done cells, or None if there are too few to tell."""
    n = np.array([row["n_updates"] for row in rows], float)
    update = np.array([row["update"] for row in rows], float)
    if len(rows) < FEWEST_CELLS or len(set(n)) < FEWEST_COUNTS:
        return None
    design = np.stack([np.ones_like(n), 1 / n], 1)
    (level, slope), *_ = np.linalg.lstsq(design, update, rcond=None)
    residual = update - design @ (level, slope)
    total = float(((update - update.mean()) ** 2).sum())
    if total == 0 or level == 0:
        return None
    variance = float(residual @ residual) / (len(rows) - 2)
    covariance = variance * np.linalg.inv(design.T @ design)
    warmup = -slope / level
    gradient = np.array([slope / level**2, -1 / level])  # of k0 by (A, slope)
    return Law(
        arch,
        float(level),
        math.sqrt(covariance[0, 0]),
        float(warmup),
        math.sqrt(gradient @ covariance @ gradient),
        1 - float(residual @ residual) / total,
        len(rows),
        float(np.mean([row["eval"] for row in rows])),
    )
