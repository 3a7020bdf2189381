"""One pass: a network walked over a task's calibration images, measured at each sample count.

In one walk over the images, and at each sample count of the pass:

    update pass -> statistics -> update metric: each batch predicted with the statistics as they
                                 stood right after it (prequential.py), scored over the pass so far
                              -> eval metric: the evaluation images with the final statistics (evaluator.py)

The update pass runs at the cell's own batch size and is timed alone. `exact` reads the images several
times and has no update metric, `stored` reads none; they end in the same evaluation. After that of `stored`
it is looked whether the images are scaled as in training (prepared.py).

Where memory runs out in an evaluation forward, fewer images are taken at a time and the row says how
many. The batches of the update pass are the experiment and are never made smaller.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bnrecal.measure.evaluator import Evaluator
from bnrecal.measure.images import (
    CalibrationBatches,
    ForwardSize,
    chunks,
    is_out_of_memory,
    read_ahead,
    to_input,
)
from bnrecal.measure.measured import Measured
from bnrecal.measure.prepared import SEED, prepared_otherwise
from bnrecal.measure.prequential import After, Prequential
from bnrecal.measure.stopwatch import Stopwatch
from bnrecal.metrics.resampling import Evidence
from bnrecal.networks.network import Network
from bnrecal.recalibration.estimators import make_estimator
from bnrecal.recalibration.exact import exact_statistics
from bnrecal.recalibration.frozen import left_alone
from bnrecal.recalibration.walk import Walk
from bnrecal.study.axes import MOMENTUM, STORED
from bnrecal.study.cells import Cell, Pass
from bnrecal.tasks.task import Int64s, Task

OnImages = Callable[[int], None]  # told how many calibration images were just done


def measure(
    todo: Pass,
    task: Task,
    network: Network,
    device: torch.device,
    on_images: OnImages,
    update_metric: bool = True,
) -> Generator[Measured, None, None]:
    """Yield one `Measured` per cell of the pass, as soon as it is known.

    Without `update_metric` no calibration image is predicted, and `update` is None.
    """
    clock, size, cell = Stopwatch(device), ForwardSize(device), todo.first
    with clock.part("setup"):
        network.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        evaluator = Evaluator(task, network, device, size)
        walked = cell.estimator not in (STORED, "exact")
        update = Prequential(network, evaluator.model, size) if walked and update_metric else None
        ids = None if cell.seed is None else task.order(cell.seed)[: todo.n_samples]
    if cell.estimator == STORED:
        yield _as_it_stands(cell, evaluator, clock)
        return
    assert ids is not None
    if cell.estimator == "exact":
        yield _exactly(cell, ids, evaluator, clock, on_images)
    else:
        yield from _walked(todo, ids, evaluator, update, clock, on_images)


def _as_it_stands(cell: Cell, evaluator: Evaluator, clock: Stopwatch) -> Measured:
    """Evaluate, then look at scaling and modes; the cell's time is without that."""
    task, network, device = evaluator.task, evaluator.network, evaluator.device
    found = evaluator.settle(cell, clock)
    ids, size = task.order(SEED), evaluator.size

    def as_they_are() -> tuple[float, Evidence]:
        return found.eval, found.evidence

    try:
        prepared = prepared_otherwise(task, network, device, ids, as_they_are, size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        prepared = None  # the cell was measured all the same
    return replace(found, prepared=prepared, left_alone=left_alone(network.module))


def _exactly(
    cell: Cell, ids: Int64s, evaluator: Evaluator, clock: Stopwatch, on_images: OnImages
) -> Measured:
    """Walk the images as often as `exact` needs, reading them anew each time; then evaluate."""
    assert cell.batch_size is not None
    network = evaluator.network
    batches = CalibrationBatches(evaluator.task, evaluator.device, ids, cell.batch_size)
    with clock.part("recal"):
        final, _ = exact_statistics(network.module, batches, cell.n_samples, network.forward)
    clock.move(batches.read_s, "recal", "read")
    on_images(cell.n_samples)
    return evaluator.settle(cell, clock, final)


def _walked(
    todo: Pass,
    ids: Int64s,
    evaluator: Evaluator,
    update: Prequential | None,
    clock: Stopwatch,
    on_images: OnImages,
) -> Iterator[Measured]:
    """Walk the images once, stopping at each sample count to score the pass so far and to evaluate."""
    task, network = evaluator.task, evaluator.network
    estimator = make_estimator(todo.first.estimator, todo.first.momentum or MOMENTUM)
    with Walk(network.module, estimator, network.forward) as walk:
        done = 0
        for cell in todo.cells:
            assert cell.batch_size is not None
            for start, stop in chunks(done, cell.n_samples, cell.batch_size, read_ahead(task)):
                with clock.part("read"):
                    images = to_input(task, task.calibration_images(ids[start:stop]), evaluator.device)
                _advance(walk, torch.split(images, cell.batch_size), start, update, clock)
                del images  # before the next are read
                on_images(stop - start)
            done = cell.n_samples
            so_far, score = clock.copy(), None
            if update is not None:
                with so_far.part("update"):
                    score = update.score(task, ids[:done])
            yield evaluator.settle(cell, so_far, walk.statistics(), score)


def _advance(
    walk: Walk, batches: Sequence[Tensor], start: int, update: Prequential | None, clock: Stopwatch
) -> None:
    """Take the batches, which begin at image `start` of the order, into the walk and the update metric."""
    after: list[After] = []
    with clock.part("recal"):
        for batch in batches:
            walk.step(batch)
            if update is not None:
                after.append((batch, walk.statistics()))
    if update is not None:
        with clock.part("update"):
            update.predict(start, after)
