"""Racing: what it promises, by simulation, and that it saves evaluations."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from bnrecal.errors import BnrecalError
from bnrecal.metrics.resampling import Evidence
from bnrecal.search.racing import Raced, race, survivors

SIZES = (64, 128, 256, 512)


def classifiers(seed: int, n: int, spread: float) -> dict[str, np.ndarray]:
    """Right or wrong on 512 images by n classifiers: images differ in difficulty, classifiers in skill."""
    random = np.random.default_rng(seed)
    difficulty = random.normal(0, 1.5, 512)
    skill = random.normal(1, spread, n)
    noise = random.logistic(0, 1, (n, 512))
    return {f"a{i}": (skill[i] - difficulty + noise[i] > 0).astype(np.uint8) for i in range(n)}


def raced(right: Mapping[str, np.ndarray], k: int, confidence: float = 0.95, sizes: Sequence[int] = SIZES):  # type: ignore[no-untyped-def]
    def evaluate(archs: Sequence[str], n: int) -> Mapping[str, Evidence]:
        return {arch: {"correct": right[arch][:n]} for arch in archs}

    return race(list(right), k, sizes, evaluate, confidence)


def true_best(right: Mapping[str, np.ndarray], k: int) -> float:
    """The k-th highest metric on all images: who reaches it is among the best, ties included."""
    return sorted((r.mean() for r in right.values()), reverse=True)[k - 1]


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_best_are_kept_as_often_as_promised(spread: float) -> None:
    """In at least 90 of 100 races at 90 % confidence nobody of the 3 best of 40 on all images is dropped:
    without any difference in skill, where the best are luck of the images, as with clear ones."""
    kept = 0
    for seed in range(100):
        right = classifiers(seed, 40, spread)
        least = true_best(right, 3)
        best = {arch for arch, r in right.items() if r.mean() > least}
        dropped = {arch for look in raced(right, 3, 0.9).looks for arch in look.dropped}
        kept += not best & dropped
    assert kept >= 90


def test_images_seen_count() -> None:
    """The more of all images were seen, the smaller a difference that tells: with all of them any does."""
    random = np.random.default_rng(0)
    samples = random.normal(size=(30, 200)) * 0.05
    values = np.linspace(0.6, 0.3, 30)
    left = [int(survivors(samples, values, 3, 0.05, seen)[0].sum()) for seen in (0.0, 0.5, 0.9, 1.0)]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[1] > left[2] > left[3] == 3


def test_clear_differences_save_most_evaluations() -> None:
    """Where skills are spread widely less than half of the evaluations are made, and the best found are the
    best."""
    right = classifiers(1, 200, 1.5)
    found = raced(right, 5)
    assert found.n_evaluated < found.n_plain / 2
    assert all(right[arch].mean() >= true_best(right, 5) for arch, _ in found.best)
    assert "95 % confidence" in found.says(512)


def test_without_differences_nobody_is_dropped() -> None:
    """Equal predictions are no evidence; the answer says that all images decided, and who is as good."""
    same = np.random.default_rng(0).integers(0, 2, 512).astype(np.uint8)
    found = raced({f"a{i}": same for i in range(9)}, 2)
    assert not any(look.dropped for look in found.looks)
    assert found.n_evaluated == found.n_plain
    said = "nobody was dropped: the 2 best by all 512 images"
    assert found.says(512) == f"{said}; 7 more have the same metric as the last of them"
    ahead = {f"a{i}": np.where(np.arange(512) < i, 1, same).astype(np.uint8) for i in (8, 16, 24)}
    assert raced(ahead, 2).says(512) == said


def test_a_race_that_ends_early_says_so() -> None:
    """Two who are right on every image and eight who are right on few: one look is enough."""
    random = np.random.default_rng(3)
    right = {f"a{i}": (random.random(512) < (0.98 if i < 2 else 0.05)).astype(np.uint8) for i in range(10)}
    found = raced(right, 2)
    assert {arch for arch, _ in found.best} == {"a0", "a1"}
    assert len(found.looks) == 1
    assert "the race ended at 64" in found.says(512)


def test_who_fails_is_out() -> None:
    """An architecture without evidence leaves the race at that look; too few left end it in one line."""
    right = classifiers(2, 6, 1.0)

    def evaluate(archs: Sequence[str], n: int) -> Mapping[str, Evidence]:
        return {arch: {"correct": right[arch][:n]} for arch in archs if arch != "a3"}

    look = race(list(right), 2, SIZES, evaluate).looks[0]
    assert look.failed == ("a3",)
    assert "a3" not in look.kept
    with pytest.raises(BnrecalError, match="1 architectures failed, 5 are left; needs 6"):
        race(list(right), 6, SIZES, evaluate)


def test_the_same_race_twice() -> None:
    """Everything random in it has a seed of its own."""
    right = classifiers(5, 60, 1.0)
    assert raced(right, 4) == raced(right, 4)


@pytest.mark.parametrize(
    ("k", "sizes", "confidence", "message"),
    [
        (0, SIZES, 0.95, "best 0 of 5"),
        (6, SIZES, 0.95, "best 6 of 5"),
        (2, (64, 64), 0.95, "sizes 64, 64"),
        (2, (), 0.95, "sizes"),
        (2, SIZES, 1.0, "confidence 1.0"),
    ],
)
def test_impossible_races_are_refused(
    k: int, sizes: tuple[int, ...], confidence: float, message: str
) -> None:
    """One line that names the value."""
    with pytest.raises(BnrecalError, match=message):
        raced(classifiers(0, 5, 1.0), k, confidence, sizes)


def losing(right: Mapping[str, np.ndarray], lost: set[str], k: int) -> Raced:
    """A race in which some cannot be evaluated."""

    def evaluate(archs: Sequence[str], n: int) -> Mapping[str, Evidence]:
        return {arch: {"correct": right[arch][:n]} for arch in archs if arch not in lost}

    return race(list(right), k, SIZES, evaluate)


def test_who_failed_was_not_dropped_by_a_race() -> None:
    """They are told by themselves, and the answer is of the others alone; with as many left as are wanted
    there was nothing to race for, and no confidence is spoken of."""
    right = classifiers(1, 40, 1.5)
    found = losing(right, {"a3", "a4"}, 2)
    assert found.looks[0].failed == ("a3", "a4")
    assert found.looks[0].dropped
    assert not {"a3", "a4"} & {arch for look in found.looks for arch in look.dropped}
    assert "of those that could be evaluated (2 could not)" in found.says(512)
    assert "could not" not in raced(right, 2).says(512)
    few = losing({arch: right[arch] for arch in ("a0", "a1", "a2", "a3")}, {"a0", "a1"}, 2).says(512)
    assert few == (
        "no more than 2 to choose from, of those that could be evaluated (2 could not): the race ended at 64 "
        "of 512 images, their order among each other is not certain"
    )


def test_all_there_are_need_no_race() -> None:
    """The best 3 of 3: after the first look, which is not all images; a single winner is one."""
    right = classifiers(1, 3, 1.5)
    assert raced(right, 3).says(512) == (
        "no more than 3 to choose from: the race ended at 64 of 512 images, their order among each other "
        "is not certain"
    )
    clear = {"a0": np.ones(512, np.uint8), "a1": np.zeros(512, np.uint8), "a2": np.zeros(512, np.uint8)}
    clear["a1"][:9] = clear["a2"][5:20] = 1
    assert "this is the best on the 512 evaluation images" in raced(clear, 1).says(512)
