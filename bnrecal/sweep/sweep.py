"""A sweep: plan, leave out what is done, hand out the rest, append each row as it comes.

The sweep alone writes to the store; executors only give outcomes back. Two sweeps on one store share
the work: a cell is taken (see bnrecal/store/claims.py) before it is done, and looked for among the rows once
more when it is taken.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from bnrecal.executors.executor import Executor, OnImages, Outcome
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import passes_of
from bnrecal.store import evidence
from bnrecal.store.claims import Claims
from bnrecal.store.store import SCHEMA_VERSION, Row, Store, finite_or_none
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.inputs import Inputs
from bnrecal.study.selection import Choice
from bnrecal.study.study import Study
from bnrecal.tasks.task import OnDecoded

SECONDS_PER_IMAGE = 0.0012  # a calibration image with all that follows, on two CPU cores
START_S = 4.0  # importing torch, loading weights
POLL_S = 0.5  # how often cells that another sweep has taken are looked at again


@dataclass(frozen=True)
class Plan:
    """What a sweep would do: all cells of the study, and the passes that are still to be walked."""

    opened: Opened
    cells: tuple[Cell, ...]
    passes: tuple[Pass, ...]
    n_rows: dict[str, int] = field(default_factory=dict)  # of each cell to do, when this was planned
    n_kept: int = 0  # cells that have rows and are not to be done again

    @property
    def study(self) -> Study:
        return self.opened.study

    @property
    def n_evaluation(self) -> int:
        """Images each cell is evaluated on."""
        return self.opened.task.n_evaluation

    @property
    def todo(self) -> tuple[Cell, ...]:
        return tuple(cell for todo in self.passes for cell in todo.cells)

    @property
    def n_images(self) -> int:
        """Calibration images the passes read."""
        return sum(todo.n_samples for todo in self.passes)


def plan(opened: Opened, store: Store, choice: Choice | None = None) -> Plan:
    """Leave out cells the store holds rows of, or as `choice` says."""
    cells = cells_of(opened)
    seen = store.seen()
    done = {key for key, status in seen.status.items() if status == "done"}
    left = (choice or Choice()).among(cells, done, seen.status.keys() - done)
    n_rows = {cell.key: seen.n_rows.get(cell.key, 0) for cell in left}
    n_kept = sum(cell.key in seen.status for cell in cells) - sum(cell.key in seen.status for cell in left)
    return Plan(opened, tuple(cells), tuple(passes_of(left)), n_rows, n_kept)


def estimated_s(plan: Plan, store: Store) -> float:
    """Seconds the plan may take: from this store's own rows if it has some, else from two CPU cores."""
    seen = store.seen()
    per_image = seen.done_s / seen.done_samples if seen.done_samples else SECONDS_PER_IMAGE
    return START_S + per_image * plan.n_images


def prepare(plan: Plan, on_decoded: OnDecoded) -> int:
    """Decode what the plan reads and the cache does not hold; returns how many images that was."""
    task = plan.opened.task
    seeds = {seed for todo in plan.passes if (seed := todo.first.seed) is not None}
    most = max(todo.n_samples for todo in plan.passes)
    orders = [task.order(seed)[:most] for seed in sorted(seeds)] or [task.order(0)[:0]]
    return sum(task.prepare(ids, on_decoded) for ids in orders)


def sweep(
    plan: Plan,
    store: Store,
    executor: Executor,
    on_images: OnImages,
    on_wait: Callable[[int], None] = lambda n: None,
    study: str | None = None,
) -> Generator[Row, None, None]:
    """Run the plan's passes; each yielded row is already on disk.

    Cells another sweep has taken are waited for, and done here should it end without them; `on_wait`
    is told how many. `study` names the study file kept beside the rows.
    """
    claims = store.claims()
    left: Sequence[Cell] = plan.todo
    try:
        while left:
            share = _Share(store, claims, left, plan.n_rows)
            for outcome in executor.run(iter(share), on_images):
                row = row_of(outcome, plan.study, study)
                if outcome.evidence and row["status"] == "done":
                    evidence.keep(store.folder, row["key"], outcome.evidence)
                store.append(row)
                claims.release(outcome.cell.key)
                yield row
            left = share.elsewhere
            if left:
                on_wait(len(left))
                left = _wait(left, store, claims, plan.n_rows)
    finally:
        claims.release_all()


class _Share:
    """The passes of some cells, without those that others have taken or done meanwhile."""

    def __init__(self, store: Store, claims: Claims, cells: Iterable[Cell], n_rows: dict[str, int]) -> None:
        self.store, self.claims, self.n_rows = store, claims, n_rows
        self.passes = passes_of(cells)
        self.elsewhere: list[Cell] = []

    def __iter__(self) -> Iterator[Pass]:
        for todo in self.passes:
            mine = tuple(cell for cell in todo.cells if self._take(cell))
            if mine:
                yield Pass(mine)

    def _take(self, cell: Cell) -> bool:
        if not self.claims.take(cell.key):
            self.elsewhere.append(cell)
            return False
        # A claim ends when the row is on the disk, so whoever holds it sees the row if there is one.
        if has_new_row(cell, self.store, self.n_rows):
            self.claims.release(cell.key)
            return False
        return True


def has_new_row(cell: Cell, store: Store, n_rows: dict[str, int]) -> bool:
    """Whether the cell got a row since the plan was made."""
    return store.seen().n_rows.get(cell.key, 0) > n_rows.get(cell.key, 0)


def _wait(cells: Sequence[Cell], store: Store, claims: Claims, n_rows: dict[str, int]) -> list[Cell]:
    """The cells without a row, as soon as one of them is free or all have one."""
    while True:
        left = [cell for cell in cells if not has_new_row(cell, store, n_rows)]
        for cell in left:
            if claims.take(cell.key):
                claims.release(cell.key)
                return left
        if not left:
            return []
        time.sleep(POLL_S)


def row_of(outcome: Outcome, study: Study, study_file: str | None = None) -> Row:
    """The result row of an outcome; a figure that is no number makes the cell a failed one."""
    figures = {name: finite_or_none(value) for name, value in outcome.figures.items()}
    error, failure = outcome.error, outcome.failure
    lost = [name for name, value in outcome.figures.items() if value is not None and figures[name] is None]
    if error is None and lost:
        error, failure = f"{', '.join(lost)}: not a finite number", "not a number"
    return {
        "schema_version": SCHEMA_VERSION,
        "key": outcome.cell.key,
        "status": "failed" if error else "done",
        **asdict(outcome.cell),
        "n_updates": outcome.cell.n_updates,
        **dict.fromkeys(("update", "eval", "recal_s", "update_s", "eval_s", "total_s")),
        **{n: v if v is None or n in ("update", "eval") else round(v, 6) for n, v in figures.items()},
        "device": outcome.device,
        "started_at": outcome.started_at,
        "error": error,
        "environment": outcome.environment,
        "failure": failure,
        "evaluation_batch": outcome.evaluation_batch,
        "inputs": study.model_dump(mode="json", include=set(Inputs.model_fields), exclude_none=True),
        "study": study_file,
        **outcome.usage,
    }
