"""How many images, by which rule, without a grid: double the images until eval stops improving.

Every estimator climbs a ladder of image counts, each twice the last; one walk over the images serves all
its rungs. A rung is enough for an architecture when neither its doubling nor the best rung measured is
better by more than the tolerance, by the upper end of the paired 95 % interval (report/uncertainty.py).
Where the evaluation set is too small to show that, two doublings in a row that give nothing beyond noise
end the climb, and the answer says that it is the weaker one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean

import numpy as np

from bnrecal.errors import BnrecalError
from bnrecal.host.device import choose_device
from bnrecal.metrics.boxes import Float64s
from bnrecal.metrics.resampling import Weights, draw, n_images, resampled
from bnrecal.networks.network import NetworkSource
from bnrecal.plan.opened import Opened
from bnrecal.report.analysis.finding import start_left
from bnrecal.report.analysis.uncertainty import percentile_interval
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.study import Study
from bnrecal.tasks.task import Task

ESTIMATORS = ("pooled", "cumulative", "ema")  # also the order of preference at equal images
FEWEST_IMAGES = 64
BATCH_SIZE = 64
COLD = 0.05  # of the start left: an exponential average this cold stands still for want of updates
FAR = 16  # times the images of another estimator that are enough: then it is not worth going on


@dataclass(frozen=True)
class Budget:
    """What may be spent: seconds in all, and calibration images per architecture over all estimators."""

    seconds: float = 60.0
    images: int | None = None


@dataclass(frozen=True)
class Rung:
    """One count of images by one rule: eval and its resamples by architecture, mean seconds of the pass."""

    estimator: str
    momentum: float | None
    batch_size: int
    n_samples: int
    evals: Mapping[str, float]
    figures: Mapping[str, Float64s]
    recal_s: float

    @property
    def mean_eval(self) -> float:
        return mean(self.evals.values())

    @property
    def cold(self) -> bool:
        n_updates = -(-self.n_samples // self.batch_size)
        return self.momentum is not None and start_left(self.momentum, n_updates) > COLD


@dataclass(frozen=True)
class Behind:
    """How far one rung is behind another, on the architecture where that is most."""

    beyond_noise: float  # as measured, where the paired interval excludes 0; else nothing
    bound: float | None  # upper end of the paired interval


def behind(rung: Rung, other: Rung) -> Behind:
    gaps = {arch: other.evals[arch] - rung.evals[arch] for arch in rung.evals}
    intervals = {a: percentile_interval(other.figures[a] - rung.figures[a]) for a in gaps}
    clear = [gap for a, gap in gaps.items() if (interval := intervals[a]) is None or interval[0] > 0]
    bounds = [interval[1] for interval in intervals.values() if interval]
    return Behind(max(clear, default=0.0), max(bounds) if len(bounds) == len(gaps) else None)


@dataclass
class Ladder:
    """One rule and batch size, and the rungs climbed so far."""

    estimator: str
    momentum: float | None
    batch_size: int
    counts: list[int]
    rungs: list[Rung] = field(default_factory=list)
    walks: dict[str, Iterator[tuple[float, float, Float64s]]] = field(default_factory=dict)
    stopped: str = ""  # why it climbs no further

    @property
    def next_count(self) -> int | None:
        left = self.counts[len(self.rungs) :]
        return left[0] if left and not self.stopped else None


@dataclass(frozen=True)
class Recommendation:
    """`chosen` is enough: shown by intervals, or only nothing better beyond noise; None: neither."""

    tolerance: float
    archs: tuple[str, ...]
    metric: str
    ladders: tuple[Ladder, ...]
    best: Rung
    chosen: Rung | None
    shown: bool
    seconds: float
    n_evaluation: int


OnRung = Callable[[Rung], None]


def advise(
    opened: Opened,
    device: str,
    tolerance: float,
    budget: Budget,
    on_rung: OnRung,
    batch_sizes: tuple[int, ...],
) -> Recommendation:
    """Climb until one setting is enough, for every architecture of the study at once.

    Takes task, network, architectures, estimators, momenta and seed from `study`; raises BnrecalError
    if there are too few images for two rungs.
    """
    started = time.perf_counter()
    study, task, source = opened.study, opened.task, opened.source
    for arch in study.arch:
        source.check(arch)
    climber = _Climber(study, task, source, device)
    ladders = _ladders(study, task, batch_sizes)
    spent, last_s = 0, {id(ladder): 0.0 for ladder in ladders}
    while (ladder := _lowest(ladders)) is not None:
        count = ladder.next_count
        assert count is not None
        done = ladder.rungs[-1].n_samples if ladder.rungs else 0
        reads = count - (0 if ladder.estimator == "exact" else done)
        # measured start-up aside, a rung costs at most twice the one before
        if time.perf_counter() - started + 2 * last_s[id(ladder)] > budget.seconds and ladder.rungs:
            ladder.stopped = "out of time"
            continue
        if budget.images is not None and spent + reads > budget.images:
            ladder.stopped = "out of images"
            continue
        rung_started = time.perf_counter()
        ladder.rungs.append(climber.climb(ladder, count))
        last_s[id(ladder)] = time.perf_counter() - rung_started
        spent += reads
        on_rung(ladder.rungs[-1])
        _settle(ladders, tolerance)
    return _recommended(ladders, study.arch, task, tolerance, time.perf_counter() - started)


def _ladders(study: Study, task: Task, batch_sizes: tuple[int, ...]) -> list[Ladder]:
    ladders = []
    for batch_size in batch_sizes:
        count = -(-FEWEST_IMAGES // batch_size) * batch_size
        if 2 * count > task.n_calibration:
            count = batch_size
        counts = []
        while count <= task.n_calibration:
            counts.append(count)
            count *= 2
        if len(counts) < 2:
            raise BnrecalError(
                f"--bs: {batch_size}: {task.n_calibration} calibration images are too few to double one "
                f"batch; at most {task.n_calibration // 2}"
            )
        for estimator in study.estimator:
            momenta = study.momentum if estimator == "ema" else (None,)
            ladders += [Ladder(estimator, momentum, batch_size, counts) for momentum in momenta]
    return ladders


def _lowest(ladders: list[Ladder]) -> Ladder | None:
    """The ladder whose next rung is lowest, the first of equals."""
    climbing = [(ladder.next_count, k) for k, ladder in enumerate(ladders) if ladder.next_count is not None]
    return ladders[min(climbing)[1]] if climbing else None


class _Climber:
    """Measures rungs; holds one walk for every architecture of a ladder."""

    def __init__(self, study: Study, task: Task, source: NetworkSource, device: str) -> None:
        self.study, self.task, self.source = study, task, source
        self.device = choose_device(device)
        self.weights: Weights | None = None

    def climb(self, ladder: Ladder, count: int) -> Rung:
        found = {arch: next(self._walk(ladder, arch, count)) for arch in self.study.arch}
        return Rung(
            ladder.estimator,
            ladder.momentum,
            ladder.batch_size,
            count,
            {arch: evaluated for arch, (evaluated, _, _) in found.items()},
            {arch: figures for arch, (_, _, figures) in found.items()},
            mean(seconds for _, seconds, _ in found.values()),
        )

    def _walk(self, ladder: Ladder, arch: str, count: int) -> Iterator[tuple[float, float, Float64s]]:
        if ladder.estimator == "exact":  # its statistics belong to one set of images
            return self._measured(ladder, arch, [count])
        if arch not in ladder.walks:
            ladder.walks[arch] = self._measured(ladder, arch, ladder.counts)
        return ladder.walks[arch]

    def _measured(
        self, ladder: Ladder, arch: str, counts: list[int]
    ) -> Iterator[tuple[float, float, Float64s]]:
        """Eval, seconds of the update pass so far, and resamples of eval, at each count."""
        from bnrecal.measure.recalibrated import measure

        cells = tuple(self._cell(ladder, arch, count) for count in counts)
        network = self.source.build(arch)
        for result in measure(
            Pass(cells), self.task, network, self.device, lambda _: None, update_metric=False
        ):
            if not np.isfinite(result.eval):
                raise BnrecalError(f"{arch}: eval is not a number after {result.cell.n_samples} images")
            if self.weights is None:
                self.weights = draw(n_images(result.evidence))
            yield result.eval, result.recal_s, resampled(result.evidence, self.weights)

    def _cell(self, ladder: Ladder, arch: str, count: int) -> Cell:
        """A cell that is measured and not stored: nobody asks for its digests."""
        return Cell(
            task=self.task.name,
            metric=self.task.metric,
            data_digest="",
            order_digest="",
            arch=arch,
            weights_digest="",
            batch_size=ladder.batch_size,
            n_samples=count,
            estimator=ladder.estimator,
            momentum=ladder.momentum,
            seed=self.study.seed,
        )


def _settle(ladders: list[Ladder], tolerance: float) -> None:
    """Stop ladders that have an answer, and those that have become too dear to give a better one."""
    best = _best(ladders)
    found = [rung for ladder in ladders if (rung := _enough(ladder, best, tolerance, shown=True))]
    fewest = min((rung.n_samples for rung in found), default=None)
    for ladder in ladders:
        if ladder.stopped:
            continue
        if _enough(ladder, best, tolerance, shown=True):
            ladder.stopped = "enough"
        elif _stands_still(ladder, best, tolerance):
            ladder.stopped = "stands still"
        elif fewest is not None and ladder.rungs and 2 * ladder.rungs[-1].n_samples > FAR * fewest:
            ladder.stopped = f"more than {FAR} times the images of another"


def _best(ladders: list[Ladder]) -> Rung:
    return max((rung for ladder in ladders for rung in ladder.rungs), key=lambda rung: rung.mean_eval)


def _enough(ladder: Ladder, best: Rung, tolerance: float, shown: bool) -> Rung | None:
    """The lowest rung that its doubling and the best do not beat by more than the tolerance."""
    for rung, doubled in pairwise(ladder.rungs):
        gaps = (behind(rung, doubled), behind(rung, best))
        figures = [gap.bound if shown else gap.beyond_noise for gap in gaps]
        if not rung.cold and all(figure is not None and figure <= tolerance for figure in figures):
            return rung
    return None


def _stands_still(ladder: Ladder, best: Rung, tolerance: float) -> bool:
    """Whether two doublings in a row gave nothing beyond noise, though intervals are too wide to show it."""
    last = ladder.rungs[-3:]
    if len(last) < 3 or last[0].cold:
        return False
    gains = [behind(rung, doubled).beyond_noise for rung, doubled in pairwise(last)]
    return max(gains) <= tolerance and behind(last[0], best).beyond_noise <= tolerance


def _recommended(
    ladders: list[Ladder], archs: tuple[str, ...], task: Task, tolerance: float, seconds: float
) -> Recommendation:
    if not any(ladder.rungs for ladder in ladders):
        raise BnrecalError("--max-images: too few for a single batch of every estimator; give more")
    best = _best(ladders)
    chosen, shown = None, False
    for strictly in (True, False):
        found = [rung for ladder in ladders if (rung := _enough(ladder, best, tolerance, shown=strictly))]
        if found:
            chosen, shown = min(found, key=lambda rung: rung.n_samples), strictly
            break
    return Recommendation(
        tolerance, archs, task.metric, tuple(ladders), best, chosen, shown, seconds, task.n_evaluation
    )
