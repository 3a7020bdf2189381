"""A metric again, for many resamples of the evaluation images at once: the ground of every interval.

A resample is a vector of weights: how often each image was drawn. What a cell keeps of its evaluation
(its evidence) is one bit an image for top-1, and for mAP@0.5 what `map50.evidence` gives. All cells
with the same images see the same resamples, so differences between cells are paired.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Float64s
from bnrecal.metrics.map50 import RECALLS

N_RESAMPLES = 1000
SEED = 20211118
ABREAST = 64  # resamples worked on together: their sums then stay in the processor's cache
_IMAGES = 256  # images whose weights are made floats at a time, for the same reason

Evidence = Mapping[str, NDArray[Any]]
Weights = NDArray[np.int32]  # (images, resamples)


@functools.lru_cache(maxsize=1)  # every cell of a report asks for the same
def draw(n_images: int, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Weights:
    """How often each image occurs in each of `n_resamples` draws of all with replacement; read-only."""
    random = np.random.Generator(np.random.PCG64(seed))
    weights = np.empty((n_images, n_resamples), np.int32)
    for k in range(n_resamples):
        weights[:, k] = np.bincount(random.integers(0, n_images, n_images), minlength=n_images)
    weights.setflags(write=False)
    return weights


def n_images(evidence: Evidence) -> int:
    """Images the evidence covers. Raises BnrecalError if it is of no known kind."""
    if "correct" in evidence:
        return len(evidence["correct"])
    if {"image", "hit", "start", "objects"} <= evidence.keys():
        return int(evidence["objects"].shape[1])
    raise BnrecalError(f"evidence of unknown kind: it holds {', '.join(sorted(evidence)) or 'nothing'}")


def resampled(evidence: Evidence, weights: Weights) -> Float64s:
    """The metric under each column of `weights`; shape (resamples,).

    A resample in which no object occurs at all gives nan.
    """
    if n_images(evidence) != len(weights):
        raise BnrecalError(f"evidence of {n_images(evidence)} images, weights of {len(weights)}")
    if "correct" in evidence:
        return _share_correct(evidence["correct"], weights)
    parts = [weights[:, k : k + ABREAST] for k in range(0, weights.shape[1], ABREAST)]
    return np.concatenate([_map50(evidence, np.ascontiguousarray(part)) for part in parts])


def _share_correct(correct: NDArray[Any], weights: Weights) -> Float64s:
    """Correct images drawn, of all that are: both sums are whole numbers, exact in float32 below 2^24."""
    kind = np.float32 if int(weights.sum(0, dtype=np.int64).max(initial=0)) < 2**24 else np.float64
    counted = np.stack([correct, np.ones(len(correct))]).astype(kind)
    sums = np.zeros((2, weights.shape[1]), kind)
    for at in range(0, len(weights), _IMAGES):
        rows = slice(at, at + _IMAGES)
        sums += counted[:, rows] @ weights[rows].astype(kind)
    right, drawn = sums.astype(np.float64)
    share: Float64s = right / drawn
    return share


def _map50(evidence: Evidence, weights: Weights) -> Float64s:
    """Mean over the classes that occur in each resample of its average precision."""
    start = evidence["start"]
    total = np.zeros(weights.shape[1])
    n_classes = np.zeros(weights.shape[1])
    for c, objects in enumerate(evidence["objects"]):
        here = np.flatnonzero(objects)
        to_find = objects[here].astype(np.int32) @ weights[here]
        mine = slice(start[c], start[c + 1])
        total += _average_precision(evidence["image"][mine], evidence["hit"][mine], to_find, weights)
        n_classes += to_find > 0
    with np.errstate(invalid="ignore"):
        return total / n_classes


def _average_precision(
    image: NDArray[Any], hit: NDArray[Any], to_find: NDArray[Any], weights: Weights
) -> Float64s:
    """101-point average precision of one class under each resample, 0 where it has no object.

    Copies of an image stand beside each other in the order of scores, so a hit drawn w times adds w to
    both counts at once: precision is largest, and its envelope decided, at the last of them. Only hits
    can begin a new recall, so only they are looked at.
    """
    hits = np.flatnonzero(hit)
    if not len(hits):
        return np.zeros(weights.shape[1])
    drawn = weights[image]
    n_seen = np.cumsum(drawn, axis=0, dtype=np.int32)[hits]
    n_hits = np.cumsum(drawn[hits], axis=0, dtype=np.int32)
    precision = n_hits / (n_seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = n_hits / np.maximum(to_find, 1)
    # recalls of the 101 that are reached: floor(100 recall) + 1, mended where rounding decides
    reached = (recall * (len(RECALLS) - 1)).astype(np.int32) + 1
    padded = np.append(RECALLS, np.inf)
    reached += padded[reached] <= recall
    reached -= padded[reached - 1] > recall
    newly = np.diff(reached, axis=0, prepend=0)
    ap: Float64s = (envelope * newly).sum(0) / len(RECALLS)
    return np.where(to_find > 0, ap, 0.0)
