"""What a sweep would do: a study's cells without those that are done, and the trainings they stand on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import Grouping, grouped
from bnrecal.store.artefacts import trained_folder
from bnrecal.store.store import Store
from bnrecal.study.cells import AnyCell, AnyPass, Cell, Judgement, Pass, SharedPass, Training, TrainingPass
from bnrecal.study.selection import Choice
from bnrecal.study.study import Study
from bnrecal.tasks.task import OnDecoded

# On two CPU cores, before this store's own rows say better.
SECONDS_PER_IMAGE = 0.0012  # a calibration image with all that follows
SECONDS_PER_TRAINED_IMAGE = 0.0015
START_S = 4.0  # importing torch, loading weights


@dataclass(frozen=True)
class Plan:
    """All cells of the study, and the passes that are still to be walked, trainings first."""

    opened: Opened
    cells: tuple[Cell, ...]
    passes: tuple[AnyPass, ...]
    n_rows: dict[str, int] = field(default_factory=dict)  # of each cell to do, when this was planned
    n_kept: int = 0  # cells that have rows and are not to be done again
    judgements: tuple[Judgement, ...] = ()  # of a ranking: those of `cells` are what needs images
    grouping: Grouping = grouped

    @property
    def study(self) -> Study:
        return self.opened.study

    @property
    def n_evaluation(self) -> int:
        """Images each cell is evaluated on."""
        return self.opened.task.n_evaluation

    @property
    def todo(self) -> tuple[AnyCell, ...]:
        return tuple(cell for todo in self.passes for cell in todo.cells)

    @property
    def cells_to_do(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.todo if isinstance(cell, Cell))

    @property
    def judgements_to_do(self) -> tuple[Judgement, ...]:
        return tuple(cell for cell in self.todo if isinstance(cell, Judgement))

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Networks to be trained."""
        return tuple(cell for cell in self.todo if isinstance(cell, Training))

    @property
    def n_images(self) -> int:
        """Calibration images the walks read."""
        return sum(todo.n_samples for todo in self.passes if isinstance(todo, Pass | SharedPass))

    @property
    def n_trained_on(self) -> int:
        """Images the trainings read, over all epochs."""
        return sum(training.n_samples for training in self.trainings)


def plan(opened: Opened, store: Store, choice: Choice | None = None) -> Plan:
    """Leave out cells the store holds rows of, or as `choice` says; trainings come with the cells on them."""
    return plan_of(opened, store, cells_of(opened), choice=choice)


def plan_of(
    opened: Opened,
    store: Store,
    cells: Sequence[Cell],
    judgements: Sequence[Judgement] = (),
    grouping: Grouping = grouped,
    choice: Choice | None = None,
) -> Plan:
    """The same of these cells and judgements; `choice` is about cells, and whether to do what failed."""
    choice = choice or Choice()
    status = store.seen().status
    done = {key for key, found in status.items() if found == "done"}
    failed = {key for key, found in status.items() if found == "failed"}
    if choice.retry_failed:  # a sweep that was stopped may not have come to the cells of a failed training
        every: tuple[Cell | Judgement, ...] = (*cells, *judgements)
        failed |= {one.key for one in every if one.trained and one.trained.key in failed} - done
    left = choice.among(cells, done, failed)
    kept = done if choice.retry_failed else done | failed
    judged = [one for one in judgements if one.key not in kept]
    again = choice.retry_failed or choice.force
    trainings = [
        training
        for training in trainings_under((*left, *judged))
        if _is_to_do(training, status.get(training.key), store.folder, again)
    ]
    todo: tuple[AnyCell, ...] = (*trainings, *left, *judged)
    n_rows = {cell.key: store.seen().n_rows.get(cell.key, 0) for cell in todo}
    with_result = done | failed  # a cell that was left out by --stop-when-sure has none
    n_kept = sum(cell.key in with_result for cell in cells) - sum(cell.key in with_result for cell in left)
    passes: tuple[AnyPass, ...] = (*map(TrainingPass, trainings), *grouping((*left, *judged)))
    return Plan(opened, tuple(cells), passes, n_rows, n_kept, tuple(judgements), grouping)


def trainings_under(cells: Iterable[Cell | Judgement]) -> list[Training]:
    """What these cells stand on, each once."""
    return list({cell.trained.key: cell.trained for cell in cells if cell.trained}.values())


def _is_to_do(training: Training, status: str | None, out: Path, failed_again: bool) -> bool:
    """A finished training is done again when its weights are gone or damaged."""
    if status != "done":
        return status is None or failed_again
    from bnrecal.measure.trained import is_whole

    return not is_whole(training, trained_folder(out) / training.key)


def estimated_s(plan: Plan, store: Store) -> float:
    """Seconds the plan may take: from this store's own rows if it has some, else from two CPU cores."""
    if not plan.passes:
        return 0.0
    seen = store.seen()
    per_image = seen.done_s / seen.done_samples if seen.done_samples else SECONDS_PER_IMAGE
    trained = seen.trained_s / seen.trained_samples if seen.trained_samples else SECONDS_PER_TRAINED_IMAGE
    return START_S + per_image * plan.n_images + trained * plan.n_trained_on


def prepare(plan: Plan, on_decoded: OnDecoded) -> int:
    """Decode what the plan reads and the cache does not hold; returns how many images that was."""
    task = plan.opened.task
    seeds = {cell.seed for cell in plan.cells_to_do if cell.seed is not None}
    most = max((cell.n_samples for cell in plan.cells_to_do), default=0)
    orders = [task.order(seed)[:most] for seed in sorted(seeds)] or [task.order(0)[:0]]
    if plan.trainings:
        orders.append(task.order(0))
    return sum(task.prepare(ids, on_decoded) for ids in orders)
