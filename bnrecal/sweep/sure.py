"""A grid that is not measured to its end: settings shown worse are not refined (`--stop-when-sure`).

Cells are done in rounds, one for each order of the images and architecture, all settings of a round at a
time. A setting that a round shows worse than its best one by more than the tolerance cannot be advised any
more (report/analysis/choice.py), so it is left out of the rounds that follow: it gets no more architectures
and no more orders. Each cell left out is a row of kind `skipped` with the reason; other sweeps do it.

Shown means lower by more than the tolerance, and by a paired interval over the evaluation images without 0
that holds for all settings of the round at once (Bonferroni, 95 %); without evidence nothing is. A round
decides by its own rows, whenever they were measured: a sweep that was stopped ends as one that was not.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import utc_now
from bnrecal.plan.passes import passes_of
from bnrecal.report.analysis.choice import Setting
from bnrecal.report.analysis.uncertainty import Uncertainty, percentile_interval
from bnrecal.store.rows import SCHEMA_VERSION, SKIPPED, is_evaluated
from bnrecal.store.store import Row, Store
from bnrecal.study.axes import STORED, TOLERANCE
from bnrecal.study.cells import Cell
from bnrecal.study.inputs import Inputs
from bnrecal.sweep.plan import Plan

Place = tuple[str, float | None, int | None, int]  # estimator, momentum, batch size, samples
Measure = Callable[[Plan], Generator[Row, None, None]]  # the cells of a plan, as `sweep` does them


def sure(
    plan: Plan, store: Store, measure: Measure, study: str | None = None, limit: int | None = None
) -> Generator[Row, None, None]:
    """Do the plan's cells round by round; each yielded row is on disk, those of kind `skipped` as well.

    `measure` does the cells of a plan; at most `limit` are measured in all. Raises BnrecalError for a study
    that trains its networks.
    """
    if plan.opened.recipes:
        raise BnrecalError("--stop-when-sure: a study that trains is measured whole; leave it out")
    todo = {cell.key for cell in plan.todo}
    dropped: dict[Place, str] = {}
    known = _Known(store)
    for cells in rounds_of(plan.cells):
        mine = [cell for cell in cells if cell.key in todo]
        for cell in mine:
            if place_of(cell) in dropped:
                yield _skipped(cell, dropped[place_of(cell)], plan, store, study)
        left = [cell for cell in mine if place_of(cell) not in dropped]
        if limit is not None:
            left, limit = left[:limit], limit - len(left)
        if left:
            for row in measure(replace(plan, passes=tuple(passes_of(left)))):
                known.rows[row["key"]] = row
                yield row
        if limit is not None and limit <= 0:
            return
        for place, reason in worse(known.of(cells), Uncertainty(store.folder, known.of(cells))).items():
            dropped.setdefault(place, reason)


def rounds_of(cells: Iterable[Cell]) -> list[list[Cell]]:
    """By order of the images, then architecture; a network as it stands in the first round it can be in."""
    found: dict[tuple[int, str], list[Cell]] = defaultdict(list)
    first: dict[str, int] = {}
    cells = list(cells)
    for cell in cells:
        if cell.seed is not None:
            first.setdefault(cell.arch, cell.seed)
    for cell in cells:
        seed = first.get(cell.arch, 0) if cell.seed is None else cell.seed
        found[seed, cell.arch].append(cell)
    archs = {arch: k for k, arch in enumerate(dict.fromkeys(cell.arch for cell in cells))}
    return [found[at] for at in sorted(found, key=lambda at: (at[0], archs[at[1]]))]


def place_of(cell: Cell) -> Place:
    return cell.estimator, cell.momentum, cell.batch_size, cell.n_samples


def worse(rows: Sequence[Row], uncertainty: Uncertainty, tolerance: float = TOLERANCE) -> dict[Place, str]:
    """The settings that these rows of one architecture and order show worse than their best, each with why.

    An exponential average that still holds much of its start is never the best: its eval may be luck.
    """
    settings = {
        (row["estimator"], row["momentum"], row["batch_size"], row["n_samples"]): row
        for row in rows
        if row["estimator"] != STORED and row["status"] == "done" and uncertainty.figures(row) is not None
    }
    named = {at: Setting(*at, {row["arch"]: row}) for at, row in settings.items()}
    warm = [at for at in settings if not named[at].is_cold]
    if not warm:
        return {}
    best = max(warm, key=lambda at: float(settings[at]["eval"]))
    others = {at: row for at, row in settings.items() if at != best}
    found = {}
    for at, row in others.items():
        by = settings[best]["eval"] - row["eval"]
        interval = _interval(settings[best], row, uncertainty, len(others))
        if by > tolerance and interval is not None and interval[0] > 0:
            seed = f", seed {row['seed']}"
            found[at] = (
                f"shown worse on {row['arch']}{seed}: {by:.4f} below {named[best].short_name} "
                f"(at least {interval[0]:.4f})"
            )
    return found


def _interval(best: Row, row: Row, uncertainty: Uncertainty, n: int) -> tuple[float, float] | None:
    """Of the difference, paired, so wide that it holds for `n` of them at once."""
    one, two = uncertainty.figures(best), uncertainty.figures(row)
    return None if one is None or two is None else percentile_interval(one - two, n)


class _Known:
    """The rows of a store by key, read again only for cells that another sweep has done."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = self._read()

    def of(self, cells: Iterable[Cell]) -> list[Row]:
        cells = list(cells)
        status = self.store.seen().status
        if any(status.get(cell.key) == "done" and cell.key not in self.rows for cell in cells):
            self.rows = self._read()
        return [self.rows[cell.key] for cell in cells if cell.key in self.rows]

    def _read(self) -> dict[str, Row]:
        return {row["key"]: row for row in self.store.latest() if is_evaluated(row)}


def _skipped(cell: Cell, reason: str, plan: Plan, store: Store, study: str | None) -> Row:
    """The row that says a cell is left out, written unless there is one."""
    row = skipped_row(
        cell, reason, plan.study.model_dump(mode="json", include=set(Inputs.model_fields)), study
    )
    if store.seen().status.get(cell.key) not in ("done", SKIPPED):
        store.append(row)
    return row


def skipped_row(cell: Cell, reason: str, inputs: Mapping[str, Any], study: str | None) -> Row:
    return {
        "schema_version": SCHEMA_VERSION,
        "key": cell.key,
        "kind": SKIPPED,
        "status": SKIPPED,
        **cell.facts(),
        "n_updates": cell.n_updates,
        "reason": reason,
        "started_at": utc_now(),
        "inputs": {name: value for name, value in inputs.items() if value is not None},
        "study": study,
    }
