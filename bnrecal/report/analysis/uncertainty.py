"""Intervals by a paired bootstrap over evaluation images, from the evidence beside the rows.

Every figure is computed again on the same 1,000 resamples of the evaluation images
(metrics/resampling.py); the middle 95 % of these is its interval. The difference of two cells is taken
resample by resample, so what makes the images easy or hard for both cancels. An interval covers the
choice of evaluation images; the choice of calibration images is another matter (`--repeats`).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist

import numpy as np

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing, cache_folder
from bnrecal.metrics.boxes import Float64s
from bnrecal.metrics.resampling import N_RESAMPLES, SEED, draw, n_images, resampled
from bnrecal.report.analysis.sections import orders_of
from bnrecal.store import evidence
from bnrecal.store.store import Row

LEVEL = 0.95
FEWEST_IMAGES = 20  # fewer say nothing about others

Interval = tuple[float, float]


def percentile_interval(figures: Float64s, n_at_once: int = 1) -> Interval | None:
    """The middle 95 %; None where a resample has no figure (an object class that vanished wholly).

    Wider where `n_at_once` such intervals are to hold together (Bonferroni). Ends that lie beyond all
    resamples are those of a normal distribution as wide as these: a percentile would stay at the last.
    """
    if not np.isfinite(figures).all():
        return None
    outside = (1 - LEVEL) / 2 / n_at_once
    low, high = np.percentile(figures, [100 * outside, 100 * (1 - outside)])
    if outside * len(figures) < 1:
        reach = NormalDist().inv_cdf(1 - outside) * figures.std()
        low, high = min(low, figures.mean() - reach), max(high, figures.mean() + reach)
    return float(low), float(high)


class Uncertainty:
    """Intervals of the figures of one store or several; without a folder there are none."""

    def __init__(self, folder: Path | Sequence[Path] | None, rows: Iterable[Row] = ()) -> None:
        self.folders = (folder,) if isinstance(folder, Path) else tuple(folder or ())
        self._figures: dict[str, Float64s | None] = {}
        kept = frozenset[str]().union(*map(evidence.keys, self.folders))
        keys = [row["key"] for row in rows if row["status"] == "done" and row["key"] in kept]
        if not keys:
            self.folders = ()
        self._ahead = keys  # all at once, in threads, when the first is asked for: some reports ask for none

    def figures(self, row: Row) -> Float64s | None:
        """Eval under each resample, the mean over orders where there are several; shape (resamples,)."""
        if self._ahead:
            keys, self._ahead = self._ahead, []
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # numpy lets go of the lock
                self._figures.update(zip(keys, threads.map(self._computed, keys), strict=True))
        found = []
        for one in orders_of(row):
            if one["key"] not in self._figures:
                self._figures[one["key"]] = self._computed(one["key"])
            figures = self._figures[one["key"]]
            if figures is None:
                return None
            found.append(figures)
        total: Float64s = np.mean(found, 0)
        return total

    def interval(self, row: Row) -> Interval | None:
        """Of eval."""
        figures = self.figures(row)
        return None if figures is None else percentile_interval(figures)

    def difference(self, row: Row, other: Row) -> Interval | None:
        """Of eval of `row` minus eval of `other`; None unless both were evaluated on the same images."""
        if row["data_digest"] != other["data_digest"]:
            return None
        one, two = self.figures(row), self.figures(other)
        return None if one is None or two is None else percentile_interval(one - two)

    def n_evaluation(self, row: Row) -> int | None:
        """Evaluation images the intervals of this row are over; None without evidence."""
        key = orders_of(row)[0]["key"]
        if self.figures(row) is None:
            return None
        arrays = self._evidence(key)[1]
        return None if arrays is None else n_images(arrays)

    def half_width(self, row: Row) -> float | None:
        """Half the length of the interval of eval."""
        interval = self.interval(row)
        return None if interval is None else (interval[1] - interval[0]) / 2

    def _evidence(self, key: str) -> tuple[Path | None, evidence.Arrays | None]:
        """(where it lies, what it holds), of the first folder that has some."""
        for folder in self.folders:
            arrays = evidence.load(folder, key)
            if arrays is not None:
                return evidence.path_of(folder, key), arrays
        return None, None

    def _computed(self, key: str) -> Float64s | None:
        path, arrays = self._evidence(key)
        if arrays is None or path is None:
            return None
        try:
            if n_images(arrays) < FEWEST_IMAGES:
                return None
            return _remembered(path, arrays)
        except (BnrecalError, ValueError, IndexError, TypeError) as error:
            raise BnrecalError(
                f"{path}: damaged: {error}; remove it, its cell then has no interval"
            ) from None


def _remembered(path: Path, arrays: evidence.Arrays) -> Float64s:
    """The figures of this evidence, kept in the user's cache under its content; computed if not there."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    kept = cache_folder() / "resampled" / f"{content}-{SEED}-{N_RESAMPLES}.npy"
    try:
        with evidence.READING, kept.open("rb") as file:
            figures: Float64s = np.load(file, allow_pickle=False)
        if figures.shape == (N_RESAMPLES,):
            return figures
    except (OSError, ValueError, EOFError):
        pass
    figures = resampled(arrays, draw(n_images(arrays)))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with appearing(kept, durable=False) as work, work.open("wb") as file:
            np.save(file, figures, allow_pickle=False)
    except OSError:
        pass  # a cache that cannot be written is no cache
    return figures
