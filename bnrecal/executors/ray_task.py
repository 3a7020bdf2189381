"""What a node of a Ray cluster does with a pass."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job, Outcome
from bnrecal.executors.workplace import Workplace
from bnrecal.host.files import cache_folder
from bnrecal.measure.trained import is_whole
from bnrecal.store.artefacts import packed, trained_folder
from bnrecal.store.artefacts import unpack as unpack_trained
from bnrecal.study.cells import AnyPass, Training

# One workplace stays open in each of Ray's processes: the sweep is the same from task to task.
_open: dict[str, Workplace] = {}


def run_pass(
    job: Job, todo: AnyPass, keys: tuple[str, ...], bundle: list[Any], artefact: list[Any]
) -> tuple[str, Any]:
    """("outcomes", one for each cell), or ("lacks", why) when data or weights are not on this node.

    `bundle` holds a reference to the packed files, or nothing; `artefact` one to the trained network that
    the pass evaluates.
    """
    if tuple(cell.key for cell in todo.cells) != keys:
        return "lacks", "another version of bnrecal runs on this node; its figures may be others"
    try:
        workplace = _workplace(job, bundle)
        workplace.check(todo)
        if artefact and not isinstance(todo.first, Training) and todo.first.trained is not None:
            bring(workplace.job, todo.first.trained, lambda: _fetched(artefact[0]))
    except BnrecalError as error:
        return "lacks", f"{os.uname().nodename}: {error}"
    return "outcomes", [_sent(workplace.job, found) for found in workplace.run(todo, lambda *_: None)]


def bring(job: Job, training: Training, fetch: Callable[[], bytes]) -> None:
    """The trained network into this node's folder, if it does not stand there whole.

    An earlier try may have left a checkpoint, or damage. The node's processes take turns.
    """
    from filelock import FileLock

    assert job.trained is not None
    folder = Path(job.trained) / training.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{training.key}.lock"):
        if not is_whole(training, folder):
            unpack_trained(fetch(), folder)


def _fetched(reference: Any) -> bytes:
    import ray

    found: bytes = ray.get(reference)
    return found


def _sent(job: Job, outcome: Outcome) -> Outcome:
    """With what was trained here, packed: the sweep keeps it."""
    if not isinstance(outcome.cell, Training) or outcome.error is not None:
        return outcome
    assert job.trained is not None
    return replace(outcome, artefact=packed(Path(job.trained) / outcome.cell.key))


def _workplace(job: Job, bundle: list[Any]) -> Workplace:
    facts = f"{job!r} {[str(reference) for reference in bundle]}"
    if facts not in _open:
        _open.clear()
        job = replace(job, trained=str(trained_folder(cache_folder())))
        if bundle:
            import ray

            from bnrecal.executors.shipping import unpack

            job = replace(job, inputs=unpack(ray.get(bundle[0]), job.inputs))
        _open[facts] = Workplace(job)
    return _open[facts]
