"""A sweep: plan, leave out what is done, hand out the rest, append each row as it comes.

The sweep alone writes to the store; executors only give outcomes back.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from bnrecal import evidence, networks, tasks
from bnrecal.executors.inline import OnImages, Outcome, run_inline
from bnrecal.plan import cells_of, passes_of
from bnrecal.store import SCHEMA_VERSION, Row, Store, finite_or_none
from bnrecal.study import Cell, Pass, Study
from bnrecal.tasks.task import OnDecoded

SECONDS_PER_IMAGE = 0.0012  # a calibration image with all that follows, on two CPU cores
START_S = 4.0  # importing torch, loading weights


@dataclass(frozen=True)
class Plan:
    """What a sweep would do: all cells of the study, and the passes that are still to be walked."""

    study: Study
    n_evaluation: int  # images each cell is evaluated on
    notes: tuple[str, ...]  # what the user should know before
    cells: tuple[Cell, ...]
    passes: tuple[Pass, ...]

    @property
    def todo(self) -> tuple[Cell, ...]:
        return tuple(cell for todo in self.passes for cell in todo.cells)

    @property
    def n_images(self) -> int:
        """Calibration images the passes read."""
        return sum(todo.n_samples for todo in self.passes)


def plan(study: Study, store: Store, limit: int | None = None) -> Plan:
    """Leave out cells the store holds as done; `limit` takes the first so many of the others."""
    cells = cells_of(study)
    done = store.done_keys()
    left = [cell for cell in cells if cell.key not in done][:limit]
    task = tasks.of(study)
    notes = tuple(note for note in (task.note, networks.of(study, task).note) if note)
    return Plan(study, task.n_evaluation, notes, tuple(cells), tuple(passes_of(left)))


def estimated_s(plan: Plan, store: Store) -> float:
    """Seconds the plan may take: from this store's own rows if it has some, else from two CPU cores."""
    rows = [row for row in store.rows() if row["status"] == "done"]
    per_image = SECONDS_PER_IMAGE
    if rows:
        per_image = sum(row["total_s"] for row in rows) / sum(row["n_samples"] for row in rows)
    return START_S + per_image * plan.n_images


def prepare(plan: Plan, on_decoded: OnDecoded) -> int:
    """Decode what the plan reads and the cache does not hold; returns how many images that was."""
    task = tasks.of(plan.study)
    seeds = {todo.first.seed for todo in plan.passes}
    most = max(todo.n_samples for todo in plan.passes)
    return sum(task.prepare(task.order(seed)[:most], on_decoded) for seed in sorted(seeds))


def sweep(plan: Plan, store: Store, device: str, on_images: OnImages) -> Iterator[Row]:
    """Run the plan's passes; each yielded row is already on disk."""
    for outcome in run_inline(plan.study, plan.passes, device, on_images):
        row = row_of(outcome)
        if outcome.evidence and row["status"] == "done":
            evidence.keep(store.folder, row["key"], outcome.evidence)
        store.append(row)
        yield row


def row_of(outcome: Outcome) -> Row:
    """The result row of an outcome; a figure that is no number makes the cell a failed one."""
    from bnrecal.environment import describe_environment

    figures = {name: finite_or_none(value) for name, value in outcome.figures.items()}
    error = outcome.error
    if error is None and any(figures[name] is None for name, v in outcome.figures.items() if v is not None):
        error = "the metric is not a number"
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
        "environment": describe_environment(outcome.device),
    }
