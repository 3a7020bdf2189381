"""Passes one after another in this process: the reference every other executor must equal."""

import datetime
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.study import Cell, Inputs, Pass

OnImages = Callable[[Pass, int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: figures and times, or an error."""

    cell: Cell
    device: str
    started_at: str  # UTC, ISO 8601
    figures: dict[str, float | None]  # update, eval and the times; empty if it failed
    error: str | None = None
    evidence: Mapping[str, Any] | None = None  # per-image evidence of `eval`, for intervals


def run_inline(inputs: Inputs, passes: Sequence[Pass], device: str, on_images: OnImages) -> Iterator[Outcome]:
    """Yield an `Outcome` for every cell; a failing pass gives failed cells and the next goes on."""
    from bnrecal import networks, tasks
    from bnrecal.device import choose_device
    from bnrecal.measure import measure

    chosen = choose_device(device)
    task = tasks.of(inputs)
    source = networks.of(inputs, task)
    for todo in passes:
        started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        left = list(todo.cells)
        try:
            network = source.build(todo.first.arch)

            def done(n: int, todo: Pass = todo) -> None:
                on_images(todo, n)

            for result in measure(todo, task, network, chosen, done):
                names = ("update", "eval", "recal_s", "update_s", "eval_s", "total_s")
                figures = {name: getattr(result, name) for name in names}
                left.remove(result.cell)
                yield Outcome(result.cell, str(chosen), started_at, figures, evidence=result.evidence)
        except BnrecalError as error:
            reason = str(error)
        except Exception:  # a bug or a broken network: keep the row, name the place
            reason = traceback.format_exc(limit=-1).strip()
        for cell in left:
            yield Outcome(cell, str(chosen), started_at, {}, reason)
