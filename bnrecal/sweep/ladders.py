"""Ladders of image counts, each twice the last: which rungs there are, and when there are enough of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import Opened
from bnrecal.report.analysis.choice import Setting, gaps
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.study.axes import STORED, short_rule
from bnrecal.study.cells import n_updates

FEWEST_IMAGES = 64
FAR = 16  # times the images of another estimator that are enough: then it is not worth going on


@dataclass
class Ladder:
    """One rule and batch size, and the rungs climbed so far."""

    estimator: str
    momentum: float | None
    batch_size: int
    counts: Sequence[int]
    rungs: list[Setting] = field(default_factory=list)
    stopped: str = ""  # why it climbs no further
    last_s: float = 0.0  # what its last rung took, over all architectures

    @property
    def next_count(self) -> int | None:
        left = self.counts[len(self.rungs) :]
        return left[0] if left and not self.stopped else None

    @property
    def name(self) -> str:
        how = short_rule({"estimator": self.estimator, "momentum": self.momentum})
        return f"{how} bs {self.batch_size}"


def ladders_of(opened: Opened, batch_sizes: tuple[int, ...]) -> list[Ladder]:
    """Counts that double, of whole batches, up to all whole batches there are."""
    study, n_calibration = opened.study, opened.task.n_calibration
    ladders = []
    for batch_size in batch_sizes:
        counts = counts_of(batch_size, n_calibration)
        if len(counts) < 2:
            raise BnrecalError(
                f"--bs: {batch_size}: {n_calibration} calibration images are too few to double one "
                f"batch; at most {n_calibration // 2}"
            )
        for estimator in study.estimator:
            if estimator == STORED:
                continue
            momenta = study.momentum if estimator == "ema" else (None,)
            ladders += [Ladder(estimator, momentum, batch_size, counts) for momentum in momenta]
    if not ladders:
        raise BnrecalError(f"--estimator: {STORED!r} re-estimates nothing; add another")
    return ladders


def counts_of(batch_size: int, n_calibration: int) -> tuple[int, ...]:
    """From about FEWEST_IMAGES, doubled, and last all whole batches."""
    count = n_updates(FEWEST_IMAGES, batch_size) * batch_size
    if 2 * count > n_calibration:
        count = batch_size
    counts = []
    while count <= n_calibration:
        counts.append(count)
        count *= 2
    whole = n_calibration // batch_size * batch_size
    return (*counts, whole) if counts and whole > counts[-1] else tuple(counts)


def lowest(ladders: Sequence[Ladder]) -> list[Ladder]:
    """The ladders whose next rung is lowest."""
    counts = [count for ladder in ladders if (count := ladder.next_count) is not None]
    return [ladder for ladder in ladders if counts and ladder.next_count == min(counts)]


def settle(ladders: Sequence[Ladder], known: Uncertainty, tolerance: float) -> None:
    """Stop ladders that have an answer, and those that have become too dear to give a better one."""
    if not any(ladder.rungs for ladder in ladders):
        return
    best = max((rung for ladder in ladders for rung in ladder.rungs), key=lambda rung: rung.mean_eval)
    found = [rung for ladder in ladders if (rung := enough(ladder, best, known, tolerance))]
    fewest = min((rung.n_samples for rung in found), default=None)
    for ladder in ladders:
        if ladder.stopped:
            continue
        if enough(ladder, best, known, tolerance):
            ladder.stopped = "enough"
        elif stands_still(ladder, best, known, tolerance):
            ladder.stopped = "stands still"
        elif fewest is not None and ladder.rungs and 2 * ladder.rungs[-1].n_samples > FAR * fewest:
            ladder.stopped = f"more than {FAR} times the images of another"


def enough(ladder: Ladder, best: Setting, known: Uncertainty, tolerance: float) -> Setting | None:
    """The lowest rung that its doubling and the best are shown not to beat by more than the tolerance."""
    for rung, doubled in pairwise(ladder.rungs):
        found = [gap for one in (doubled, best) for gap in gaps(one.rows, rung.rows, rung.rows, known)]
        if not rung.is_cold and all(gap.shown_within(tolerance) for gap in found):
            return rung
    return None


def stands_still(ladder: Ladder, best: Setting, known: Uncertainty, tolerance: float) -> bool:
    """Whether two doublings in a row gave nothing beyond noise, though intervals are too wide to show it."""
    last = ladder.rungs[-3:]
    if len(last) < 3 or last[0].is_cold:
        return False
    gains = [
        gap
        for rung, one in (*pairwise(last), (last[0], best))
        for gap in gaps(one.rows, rung.rows, rung.rows, known)
    ]
    return not any(gap.shown_over(tolerance) for gap in gains)
