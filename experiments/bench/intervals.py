"""Seconds for 1,000 resamples of every cell of a study, and how often the intervals cover.

    python experiments/bench/intervals.py [results/published_grid]

The first part computes without the cache; the second repeats the simulation of
tests/metrics/test_resampling.py with 1,000 trials of mAP@0.5.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from bnrecal.metrics.resampling import draw, resampled
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Store
from tests.metrics.test_resampling import covered, two_detectors


def seconds(folder: Path) -> None:
    rows = Store(folder).latest()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["BNRECAL_CACHE_DIR"] = empty
        started = time.perf_counter()
        uncertainty = Uncertainty(folder, rows)
        passed = time.perf_counter() - started
    n = sum(uncertainty.figures(row) is not None for row in rows)
    print(f"{n} cells with evidence, 1,000 resamples each: {passed:.1f} s")


def coverage(trials: int = 1000, images: int = 150) -> None:
    random, once = np.random.default_rng(11), np.ones((images, 1), np.int32)
    others = [two_detectors(random, images) for _ in range(4000)]
    expected = float(np.mean([resampled(a, once) - resampled(b, once) for a, b in others]))
    weights = draw(images)
    pairs = [two_detectors(random, images) for _ in range(trials)]
    differences = np.stack([resampled(a, weights) - resampled(b, weights) for a, b in pairs], 1)
    share = covered(differences, expected)
    print(f"mAP@0.5, {trials} trials of {images} images: {share:.1%} of intervals cover")


if __name__ == "__main__":
    seconds(Path(sys.argv[1] if len(sys.argv) > 1 else "results/published_grid"))
    coverage()
