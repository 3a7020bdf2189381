"""What a node of a Ray cluster does with a pass."""

import os
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job, Outcome
from bnrecal.executors.workplace import Workplace
from bnrecal.study.cells import Pass

# One workplace stays open in each of Ray's processes: the sweep is the same from task to task.
_open: dict[str, Workplace] = {}


def run_pass(job: Job, todo: Pass, keys: tuple[str, ...], bundle: list[Any]) -> tuple[str, Any]:
    """("outcomes", one for each cell), or ("lacks", why) when data or weights are not on this node.

    `bundle` holds a reference to the packed files, or nothing.
    """
    if tuple(cell.key for cell in todo.cells) != keys:
        return "lacks", "another version of bnrecal runs on this node; its figures may be others"
    try:
        workplace = _workplace(job, bundle)
        workplace.check(todo)
    except BnrecalError as error:
        return "lacks", f"{os.uname().nodename}: {error}"
    return "outcomes", list[Outcome](workplace.run(todo, lambda n: None))


def _workplace(job: Job, bundle: list[Any]) -> Workplace:
    facts = f"{job!r} {[str(reference) for reference in bundle]}"
    if facts not in _open:
        _open.clear()
        if bundle:
            from dataclasses import replace

            import ray

            from bnrecal.executors.shipping import unpack

            job = replace(job, inputs=unpack(ray.get(bundle[0]), job.inputs))
        _open[facts] = Workplace(job)
    return _open[facts]
