"""Resampled metrics against the plain computation on the resampled set, and how often intervals cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Detections, GroundTruth
from bnrecal.metrics.map50 import evidence, map50
from bnrecal.metrics.resampling import Evidence, Weights, draw, n_images, resampled


def some_set(
    seed: int, images: int, classes: int = 3, crowds: bool = False
) -> tuple[GroundTruth, Detections]:
    """Random objects, and detections that sit on some of them; all scores different."""
    random = np.random.default_rng(seed)
    per_image = random.integers(0, 4, images)
    image = np.repeat(np.arange(images), per_image)
    boxes = np.column_stack([random.uniform(0, 40, (len(image), 2)), random.uniform(8, 24, (len(image), 2))])
    labels = random.integers(0, classes, len(image))
    crowd = random.random(len(image)) < 0.2 if crowds else None
    seen = random.random(len(image)) < 0.7
    near = boxes[seen] + random.normal(0, 1.5, (seen.sum(), 4))
    n_false = images
    false = np.column_stack([random.uniform(0, 40, (n_false, 2)), random.uniform(8, 24, (n_false, 2))])
    found = np.concatenate([image[seen], random.integers(0, images, n_false)])
    scores = np.concatenate([random.beta(3, 2, seen.sum()), random.beta(2, 3, n_false)])
    found_labels = np.concatenate([labels[seen], random.integers(0, classes, n_false)])
    return (
        GroundTruth(images, image, boxes, labels, crowd),
        Detections(found, np.concatenate([near, false]), found_labels, scores),
    )


def repeated(truth: GroundTruth, found: Detections, images: list[int]) -> tuple[GroundTruth, Detections]:
    """The set made of these images, each occurrence an image of its own."""
    objects = [np.flatnonzero(truth.image == k) for k in images]
    seen = [np.flatnonzero(found.image == k) for k in images]
    of = np.concatenate(objects)
    at = np.concatenate(seen)
    crowd = None if truth.crowd is None else truth.crowd[of]
    n = np.arange(len(images))
    return (
        GroundTruth(
            len(images), np.repeat(n, [*map(len, objects)]), truth.boxes[of], truth.labels[of], crowd
        ),
        Detections(np.repeat(n, [*map(len, seen)]), found.boxes[at], found.labels[at], found.scores[at]),
    )


@given(seed=st.integers(0, 10_000), images=st.integers(1, 12), crowds=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_resample_is_the_metric_of_the_repeated_images(seed: int, images: int, crowds: bool) -> None:
    """Whatever images are drawn how often, evidence gives what map50 gives on that multiset."""
    truth, found = some_set(seed, images, crowds=crowds)
    weights = draw(images, 5, seed)
    figures = resampled(evidence(truth, found), weights)
    for k in range(5):
        again = repeated(truth, found, np.repeat(np.arange(images), weights[:, k]).tolist())
        plainly = map50(*again)
        if plainly == -1.0:
            assert np.isnan(figures[k])
        else:
            assert figures[k] == pytest.approx(plainly, abs=1e-12)


def test_every_image_once_is_the_metric_itself() -> None:
    """Weights of one give the score of the whole set, for both metrics."""
    truth, found = some_set(1, 50)
    once = np.ones((50, 1), np.int32)
    assert resampled(evidence(truth, found), once)[0] == pytest.approx(map50(truth, found), abs=1e-12)
    correct = np.array([1, 0, 1, 1], np.uint8)
    assert resampled({"correct": correct}, once[:4])[0] == 0.75


def test_draws_are_the_same_for_every_cell() -> None:
    """Same images, same draws, so differences are paired; each draws as many images as there are."""
    assert np.array_equal(draw(40, 7), draw(40, 7))
    assert (draw(40, 7).sum(0) == 40).all()
    assert not np.array_equal(draw(40, 7, seed=1), draw(40, 7, seed=2))


def test_evidence_that_does_not_fit_is_refused() -> None:
    """Unknown arrays, or weights for another number of images: one line that says so."""
    with pytest.raises(BnrecalError, match="unknown kind: it holds scores"):
        n_images({"scores": np.zeros(3)})
    with pytest.raises(BnrecalError, match="evidence of 3 images, weights of 4"):
        resampled({"correct": np.ones(3, np.uint8)}, draw(4, 2))


def covered(differences: np.ndarray, truth: float) -> float:
    """Share of the columns whose middle 95 % contains the truth."""
    low, high = np.percentile(differences, [2.5, 97.5], axis=0)
    return float(((low <= truth) & (truth <= high)).mean())


def test_paired_intervals_of_top1_cover() -> None:
    """1,000 trials of 500 images, two networks that agree on most: 93 to 97 % contain the difference."""
    random = np.random.default_rng(7)
    n, trials = 500, 1000
    both, only_first, only_second = 0.60, 0.08, 0.05
    outcome = random.choice(4, (n, trials), p=[both, only_first, only_second, 1 - 0.73])
    first, second = (outcome == 0) | (outcome == 1), (outcome == 0) | (outcome == 2)
    weights: Weights = draw(n)
    paired = (first.astype(float) - second).T @ weights / n  # (trials, resamples)
    some = resampled({"correct": first[:, 3].astype(np.uint8)}, weights) - resampled(
        {"correct": second[:, 3].astype(np.uint8)}, weights
    )
    assert np.allclose(some, paired[3])
    assert 0.93 <= covered(paired.T, only_first - only_second) <= 0.97


def two_detectors(random: np.random.Generator, images: int) -> tuple[Evidence, Evidence]:
    """A better and a worse detector on the same images of two classes, hard objects hard for both."""
    objects = random.poisson(1.5, (2, images))
    false_image = [np.repeat(np.arange(images), random.poisson(1.0, images)) for _ in objects]
    true_image = [np.repeat(np.arange(images), count) for count in objects]
    ease = [random.normal(0, 1, len(image)) for image in true_image]
    made: list[Evidence] = []
    for quality in (0.6, 0.4):
        image, hit, start = [], [], [0]
        for c in range(2):
            found = ease[c] + random.normal(quality, 0.5, len(ease[c])) > 0
            certain = (ease[c] + random.normal(1, 0.5, len(ease[c])))[found]
            order = np.argsort(-np.concatenate([certain, random.normal(-0.3, 1, len(false_image[c]))]))
            image.append(np.concatenate([true_image[c][found], false_image[c]])[order])
            hit.append((order < found.sum()).astype(np.uint8))
            start.append(start[-1] + len(order))
        arrays = {"image": np.concatenate(image), "hit": np.concatenate(hit)}
        made.append({**arrays, "start": np.array(start), "objects": objects})
    return made[0], made[1]


def test_paired_intervals_of_map50_cover() -> None:
    """400 trials of 150 images: 92 to 98 % contain the difference that other sets of that size average.

    Three standard errors of 400 trials are 3.3 %. The average over sets of the same size is the claim:
    the 101-point metric of an endless set differs from it by up to .004, a step of its recall axis.
    """
    random = np.random.default_rng(5)
    n, once = 150, np.ones((150, 1), np.int32)
    others = [two_detectors(random, n) for _ in range(2000)]
    expected = float(np.mean([resampled(a, once) - resampled(b, once) for a, b in others]))
    weights = draw(n, 400)
    trials = [two_detectors(random, n) for _ in range(400)]
    differences = np.stack([resampled(a, weights) - resampled(b, weights) for a, b in trials], 1)
    assert 0.92 <= covered(differences, expected) <= 0.98
