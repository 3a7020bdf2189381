"""A sweep: hand out what a plan has left to do, append each row as it comes.

The sweep alone writes rows; executors only give outcomes back. What is to do may depend on what came out:
networks are trained, then evaluated.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from bnrecal.executors.executor import Executor, OnImages, Outcome, failed
from bnrecal.store import evidence
from bnrecal.store.artefacts import trained_folder, unpack
from bnrecal.store.store import Row, Store
from bnrecal.study.cells import AnyCell, Training
from bnrecal.sweep.outcomes import row_of
from bnrecal.sweep.plan import Plan
from bnrecal.sweep.share import Claimed, Share, wait

NOT_TRAINED = "not trained"


def sweep(
    plan: Plan,
    store: Store,
    executor: Executor,
    on_images: OnImages,
    on_wait: Callable[[int], None] = lambda n: None,
    study: str | None = None,
    on_note: Callable[[str], None] = lambda said: None,
) -> Generator[Row, None, None]:
    """Run the plan's passes; each yielded row is already on disk.

    Cells another sweep has taken are waited for, and done here should it end without them; `on_wait`
    is told how many. Cells whose training failed are failed rows. `study` names the study file kept beside
    the rows. `on_note` is told what else the user should know, such as that a checkpoint was damaged.
    """
    claimed = Claimed(store, store.claims(), plan.n_rows)
    left: Sequence[AnyCell] = plan.todo
    try:
        while left:
            share = Share(claimed, left, plan.grouping)
            for outcome in _outcomes(share, executor, store, on_images):
                row = row_of(outcome, plan.study, study)
                for note in (*outcome.notes, *_keep(outcome, row, store.folder)):
                    on_note(note)
                store.append(row)
                claimed.claims.release(outcome.cell.key)
                if isinstance(outcome.cell, Training):
                    share.ended(outcome.cell)
                yield row
            left = share.elsewhere
            if left:
                on_wait(len(left))
                left = wait(left, claimed)
    finally:
        claimed.claims.release_all()


def _outcomes(share: Share, executor: Executor, store: Store, on_images: OnImages) -> Iterator[Outcome]:
    """Those of the executor, and those of cells whose training failed."""
    yield from _lost(share, store)
    for outcome in executor.run(share, on_images):
        yield outcome
        yield from _lost(share, store)


def _lost(share: Share, store: Store) -> Iterator[Outcome]:
    rows = store.rows() if share.lost else []
    for cell in share.taken_lost():
        assert cell.trained is not None
        errors = [row["error"] for row in rows if row["key"] == cell.trained.key]
        reason = f"its training {cell.trained.key[:8]} failed: {errors[-1] if errors else 'no row of it'}"
        yield from failed([cell], "", NOT_TRAINED, reason)


def _keep(outcome: Outcome, row: Row, folder: Path) -> Iterator[str]:
    """What belongs to a row besides it, before it is written; yields what is to be said of it."""
    if row["status"] != "done":
        return
    if outcome.evidence:
        evidence.keep(folder, row["key"], outcome.evidence)
    if outcome.artefact is not None and isinstance(outcome.cell, Training):
        from bnrecal.measure.trained import moved_aside

        place = trained_folder(folder) / row["key"]
        moved = moved_aside(outcome.cell, place)
        if moved is not None:
            yield moved
        unpack(outcome.artefact, place)
