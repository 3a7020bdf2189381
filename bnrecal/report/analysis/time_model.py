"""Seconds of a cell as a fixed part, a part per image and a part per batch (an update)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_SETTINGS = 5  # three parameters fit four settings too easily
TOLD = 2.0  # standard errors from 0 that make a part more than noise


@dataclass(frozen=True)
class Part:
    """One coefficient in seconds, with its standard error."""

    name: str
    seconds: float
    se: float

    @property
    def told(self) -> bool:
        """Whether it is positive beyond its noise."""
        return self.seconds > TOLD * self.se


@dataclass(frozen=True)
class TimeModel:
    """Least squares of seconds on 1, images and batches."""

    fixed: Part
    per_image: Part
    per_batch: Part
    r2: float

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        return self.fixed, self.per_image, self.per_batch

    def holds(self) -> bool:
        return self.r2 >= 0.9

    def seconds(self, n_samples: float, n_updates: float) -> float:
        return self.fixed.seconds + self.per_image.seconds * n_samples + self.per_batch.seconds * n_updates


def fit_time(cells: Sequence[tuple[int, int, float]]) -> TimeModel | None:
    """From (images, batches, seconds) of each setting; None if there are too few, or too alike."""
    design = np.array([(1, images, batches) for images, batches, _ in cells], float).reshape(-1, 3)
    seconds = np.array([s for _, _, s in cells], float)
    scale = design.max(0, initial=1e-12)
    scaled = design / scale
    if len(cells) < FEWEST_SETTINGS or np.linalg.matrix_rank(scaled, tol=1e-6) < 3:
        return None
    found, *_ = np.linalg.lstsq(scaled, seconds, rcond=None)
    residual = seconds - scaled @ found
    total = float(((seconds - seconds.mean()) ** 2).sum())
    if total == 0:
        return None
    variance = float(residual @ residual) / (len(cells) - 3)
    errors = np.sqrt(variance * np.diag(np.linalg.inv(scaled.T @ scaled)))
    names = ("fixed", "per image", "per batch")
    values = zip(names, found / scale, errors / scale, strict=True)
    fixed, per_image, per_batch = (Part(name, float(value), float(se)) for name, value, se in values)
    return TimeModel(fixed, per_image, per_batch, 1 - float(residual @ residual) / total)
