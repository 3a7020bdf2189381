"""Finished cells done again and compared with what their rows say."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Executor
from bnrecal.plan.grid import cells_of
from bnrecal.plan.judgements import to_rank
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import grouped
from bnrecal.store.provenance import inputs_of, study_of
from bnrecal.store.rows import Row
from bnrecal.study.cells import Cell, Judgement, is_judgement
from bnrecal.study.inputs import Inputs

FIGURES = ("update", "eval", "score")
Open = Callable[[Inputs, int | None], Executor]  # of these inputs, with so many threads


@dataclass(frozen=True)
class Comparison:
    """A row, and what became of its cell the second time."""

    row: Row
    again: dict[str, float | None] | None = None
    error: str | None = None  # why there is nothing to compare

    def differs(self, by: float) -> bool:
        """Whether a figure is another one by more than that; those the row has not are not asked for.

        A ranking measures no update metric.
        """
        if self.again is None:
            return False
        had = [name for name in FIGURES if self.row.get(name) is not None]
        return any(not _close(self.row[name], self.again.get(name), by) for name in had)


def _close(before: float, after: float | None, by: float) -> bool:
    return after is not None and abs(before - after) <= by  # False for NaN


def drawn(rows: Sequence[Row], n: int, seed: int) -> list[Row]:
    """`n` of the finished rows, drawn by `seed`, in the order they were written."""
    done = [k for k, row in enumerate(rows) if row["status"] == "done"]
    return [rows[k] for k in sorted(random.Random(seed).sample(done, min(n, len(done))))]


def repeated(rows: Sequence[Row], open_executor: Open) -> Iterator[Comparison]:
    """Each row's cell done again by itself, with as many threads as the first time."""
    together: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        together[json.dumps([inputs_of(row), row["environment"].get("threads")], sort_keys=True)].append(row)
    for group in together.values():
        cells: dict[Cell | Judgement, Row] = {}
        for row in group:
            try:
                cells[_cell_of(row)] = row
            except BnrecalError as error:
                yield Comparison(row, error=str(error))
        if not cells:
            continue
        threads = group[0]["environment"].get("threads")
        inputs = study_of(next(iter(cells.values())))
        with open_executor(inputs, threads if isinstance(threads, int) else None) as executor:
            for cell in cells:  # by itself, in whichever pass it was the first time
                for outcome in executor.run(iter(grouped([cell])), lambda *_: None):
                    yield Comparison(cells[cell], outcome.figures or None, outcome.error)


def _cell_of(row: Row) -> Cell | Judgement:
    """The row's cell as it is planned here and now; raises BnrecalError if that is another one."""
    opened = Opened.of(study_of(row))
    cell: Cell | Judgement
    (cell,) = to_rank(opened, [row["judge"]])[1] if is_judgement(row) else cells_of(opened)
    if cell.key == row["key"]:
        return cell
    for name in ("data_digest", "order_digest", "weights_digest", "code_digest"):
        if getattr(cell, name, None) != row.get(name):
            raise BnrecalError(f"{name} was {row.get(name)}, is now {getattr(cell, name)}")
    raise BnrecalError("the definitions of the figures have changed since (algorithm version)")
