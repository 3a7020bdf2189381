"""How many images, by which rule, without a grid: double the images until eval stops improving.

Every estimator climbs a ladder of image counts, each twice the last. Its rungs are ordinary cells: a round
plans the lowest rungs that are left, the sweep does what the store lacks, and what to do next depends on
the rows that came. A rung is enough when neither its doubling nor the best rung measured is better by more
than the tolerance on any architecture, by the upper end of the paired 95 % interval. Where the evaluation
set is too small to show that, two doublings in a row that give nothing beyond noise end the climb. What is
advised then follows from the rows alone (report/analysis/choice.py), as in `report`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bnrecal.errors import BnrecalError
from bnrecal.executors.deadline import Deadline
from bnrecal.plan.opened import Opened
from bnrecal.report.analysis.choice import settings_of
from bnrecal.report.analysis.sections import sections_of
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row, Store
from bnrecal.study.axes import EXPERIMENT, STORED
from bnrecal.study.cells import AnyPass
from bnrecal.study.selection import Choice as Selection
from bnrecal.sweep.ladders import Ladder, ladders_of, lowest, settle
from bnrecal.sweep.plan import Plan, plan
from bnrecal.sweep.sweep import sweep

if TYPE_CHECKING:
    from bnrecal.executors.executor import Executor

ESTIMATORS = ("pooled", "cumulative", "ema")
BATCH_SIZE = 64


@dataclass(frozen=True)
class Budget:
    """What may be spent: seconds in all, and calibration images per architecture over all estimators."""

    seconds: float = 60.0
    images: int | None = None


@dataclass(frozen=True)
class Climbed:
    """What was measured; `rows` are all the store has of these networks on these images, as in `report`."""

    ladders: tuple[Ladder, ...]
    rows: tuple[Row, ...]
    failed: tuple[Row, ...]
    seconds: float


OnRow = Callable[[Row], None]


class _OutOfTime(BaseException):
    """The budget's seconds are over. No `Exception`: nothing on the way may take it for its own."""


def climb(
    opened: Opened,
    store: Store,
    executor: "Executor",
    tolerance: float,
    budget: Budget,
    on_row: OnRow,
    batch_sizes: tuple[int, ...],
) -> Climbed:
    """Climb until one setting is enough, for every architecture of the study at once.

    Takes task, network, architectures, estimators, momenta and seed from the study. A rung whose rows the
    store holds is not measured again and counts no images. Raises BnrecalError if there are too few images
    for two rungs, or for any, and for a study that trains its networks.
    """
    spent = _Spent(budget)
    if opened.recipes:
        raise BnrecalError(
            "[train]: advise measures one set of weights an architecture; give trained ones by --weights"
        )
    ladders = ladders_of(opened, batch_sizes)
    counts = {count for ladder in ladders for count in ladder.counts}
    grid = {"bs": batch_sizes, "samples": tuple(sorted(counts)), "repeats": 1}
    opened = replace(opened, study=opened.study.model_copy(update=grid))
    rounds = _Rounds(opened, store, executor, on_row)
    if opened.study.baseline:
        todo = rounds.plan_as_they_stand()
        if not spent.in_time(rounds, todo):
            said = _over_early(budget, opened, "as they stand")
            raise BnrecalError(f"{said}, or leave that out by --no-baseline")
        rounds.read(todo)
    while climbing := lowest(ladders):
        rungs = spent.on_rungs(rounds, climbing)
        cut = not spent.in_time(rounds, rounds.merged(rungs))
        rounds.hang(rungs)
        for ladder, _ in rungs if cut else ():
            ladder.stopped = ladder.stopped or "out of time"
        settle(ladders, rounds.uncertainty, tolerance)
    for ladder in ladders:
        ladder.stopped = ladder.stopped or "all images read"
    if not any(ladder.rungs for ladder in ladders):
        raise _nothing_measured(rounds, ladders, budget)
    return Climbed(tuple(ladders), rounds.known(), tuple(rounds.failed), spent.seconds)


def _over_early(budget: Budget, opened: Opened, where: str) -> str:
    """What of the time was not enough for, and what to do."""
    archs = f"{len(opened.study.arch)} networks" if len(opened.study.arch) > 1 else "one network"
    return (
        f"--max-seconds {budget.seconds:g}: over before anything was measured; evaluating {archs} {where} on "
        f"{opened.task.n_evaluation:,} images takes longer here; give more, fewer architectures or images"
    )


def _nothing_measured(rounds: "_Rounds", ladders: Iterable[Ladder], budget: Budget) -> BnrecalError:
    """Why: the first failure, or which part of the budget was too small."""
    if rounds.failed:
        first = rounds.failed[0]
        return BnrecalError(f"{first['arch']}: nothing could be measured: {first['error']}")
    if any(ladder.stopped == "out of time" for ladder in ladders):
        return BnrecalError(_over_early(budget, rounds.opened, "on the first rung"))
    return BnrecalError("--max-images: too few for a single batch of every estimator; give more")


@dataclass
class _Spent:
    """What a climb has used of its budget, and what it may still do."""

    budget: Budget
    started: float = field(default_factory=time.perf_counter)
    images: int = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def in_time(self, rounds: "_Rounds", todo: Plan) -> bool:
        """Measure, and tell whether that ended before the time did: on a busy machine it may not."""
        if not todo.passes:
            return True  # rows that are there take no time
        try:
            with Deadline(max(0.0, self.budget.seconds - self.seconds), _OutOfTime).running():
                rounds.measure(todo)
        except _OutOfTime:
            return False
        return True

    def on_rungs(self, rounds: "_Rounds", climbing: Iterable[Ladder]) -> list[tuple[Ladder, Plan]]:
        """The next rung of each ladder that the budget allows; the other ladders stop."""
        rungs: list[tuple[Ladder, Plan]] = []
        for ladder in climbing:
            todo = rounds.plan(ladder, ladder.next_count or 0)
            # a rung costs at most twice the one before
            expected_s = 2 * sum(one.last_s for one in (ladder, *(other for other, _ in rungs)))
            reads = max((one.n_samples for one in todo.passes), default=0)
            if todo.passes and ladder.rungs and self.seconds + expected_s > self.budget.seconds:
                ladder.stopped = "out of time"
            elif self.budget.images is not None and self.images + reads > self.budget.images:
                ladder.stopped = "out of images"
            else:
                self.images += reads
                rungs.append((ladder, todo))
        return rungs


class _Rounds:
    """Plans rungs as cells of the store, runs them, and gives the ladders what came."""

    def __init__(self, opened: Opened, store: Store, executor: "Executor", on_row: OnRow) -> None:
        self.opened, self.store, self.executor, self.on_row = opened, store, executor, on_row
        self.rows: list[Row] = []
        self.failed: list[Row] = []
        self.uncertainty = Uncertainty(None)
        self.share = 1.0  # processes work side by side: seconds waited for one of a cell's own

    def plan_as_they_stand(self) -> Plan:
        """The cells of the networks as they stand, and what the store lacks of them."""
        return self._plan(estimator=(STORED,))

    def plan(self, ladder: Ladder, count: int) -> Plan:
        """The cells of one rung and what the store lacks of them."""
        momentum = {} if ladder.momentum is None else {"momentum": (ladder.momentum,)}
        return self._plan(
            bs=(ladder.batch_size,), samples=(count,), estimator=(ladder.estimator,), **momentum
        )

    def merged(self, rungs: Sequence[tuple[Ladder, Plan]]) -> Plan:
        """These rungs as one plan, to be measured together."""
        self.share = 1.0
        return _merged(self.opened, [todo for _, todo in rungs])

    def measure(self, todo: Plan) -> None:
        """Measure what the store lacks, and note which share of the cells' seconds it took."""
        began = time.perf_counter()
        new = self._measure(todo)
        work_s = sum(row["total_s"] or 0.0 for row in new)
        self.share = min(1.0, (time.perf_counter() - began) / work_s) if work_s else 1.0

    def hang(self, rungs: Sequence[tuple[Ladder, Plan]]) -> None:
        """Hang those of these rungs that are whole into their ladders, if measuring was cut short too."""
        for ladder, todo in rungs:
            done = self.read(todo)
            ladder.last_s = self.share * sum(row["total_s"] for row in done)
            failed = [row for row in self.failed if row["key"] in {cell.key for cell in todo.cells}]
            if failed:
                where = f"{failed[0]['arch']} failed at {failed[0]['n_samples']:,} images"
                ladder.stopped = f"{where}: {failed[0]['error']}"
            else:
                ladder.rungs += settings_of(sections_of(done), self.opened.study.arch)
        self.uncertainty = Uncertainty(self.store.folder, self.rows)

    def known(self) -> tuple[Row, ...]:
        """Every finished row of these networks and images, those of other calls too."""

        def whose(row: Row) -> tuple[object, ...]:
            return tuple(row[name] for name in (*EXPERIMENT, "arch", "weights_digest"))

        mine = {whose(row) for row in self.rows}
        return tuple(row for row in self.store.evaluated() if row["status"] == "done" and whose(row) in mine)

    def _plan(self, **grid: Any) -> Plan:
        """Those of these cells without a row, and those that failed before this call."""
        study = self.opened.study.model_copy(update={"baseline": False, "reference": False, **grid})
        opened = Opened(study, self.opened.task, self.opened.source)
        again = plan(opened, self.store, Selection(retry_failed=True))
        return _merged(opened, [plan(opened, self.store), replace(again, cells=())])

    def _measure(self, todo: Plan) -> list[Row]:
        """The rows that were not there yet."""
        if not todo.passes:
            return []
        self.store.prepare()
        kept = self.store.keep_study(self.opened.study)
        found = []
        for row in sweep(todo, self.store, self.executor, _unwatched, study=kept.name):
            self.on_row(row)
            found.append(row)
        return found

    def read(self, todo: Plan) -> list[Row]:
        """The finished rows of these cells; the others are noted as failed."""
        keys = {cell.key for cell in todo.cells}
        found = [row for row in self.store.latest() if row["key"] in keys]
        done = [row for row in found if row["status"] == "done"]
        self.rows += done
        self.failed += [row for row in found if row["status"] == "failed"]
        return done


def _unwatched(todo: AnyPass, n: int, what: str = "", /) -> None:
    """Rows alone are shown."""


def _merged(opened: Opened, plans: Sequence[Plan]) -> Plan:
    return Plan(
        opened,
        tuple(cell for one in plans for cell in one.cells),
        tuple(todo for one in plans for todo in one.passes),
        {key: n for one in plans for key, n in one.n_rows.items()},
    )
