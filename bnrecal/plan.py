"""From a study to its cells, and from the cells still to do to passes. Imports no torch."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.study import Cell, Pass, Study, make_study


def complete_study(settings: Mapping[str, Any], places: Mapping[str, str]) -> Study:
    """The study these settings ask for, as far as its task and networks decide what is left open."""
    return make_study(settings, places)


def cells_of(study: Study) -> list[Cell]:
    """Every point of the grid: by order, batch size, samples, then architecture, as tables read.

    Raises BnrecalError for an unknown task or architecture and for more samples than the task has.
    """
    task = tasks.of(study)
    source = networks.of(study, task)
    for arch in study.arch:
        source.check(arch)
    if max(study.samples) > task.n_calibration:
        raise BnrecalError(
            f"--samples: {max(study.samples)}: task {task.name!r} has {task.n_calibration} images to "
            "calibrate with"
        )
    orders = {seed: task.order(seed).astype("<i8") for seed in study.seeds}
    digests = {
        (seed, n): hashlib.sha256(order[:n].tobytes()).hexdigest()[:16]
        for seed, order in orders.items()
        for n in study.samples
    }
    weights = {arch: source.digest(arch) for arch in study.arch}
    data_digest = task.data_digest()
    return [
        Cell(
            task=task.name,
            metric=task.metric,
            data_digest=data_digest,
            order_digest=digests[seed, n],
            arch=arch,
            weights_digest=weights[arch],
            batch_size=batch_size,
            n_samples=n,
            estimator=estimator,
            momentum=momentum,
            seed=seed,
        )
        for seed in study.seeds
        for estimator in study.estimator
        for momentum in (study.momentum if estimator == "ema" else (None,))
        for batch_size, n, arch in itertools.product(study.bs, study.samples, study.arch)
    ]


def passes_of(cells: Iterable[Cell]) -> list[Pass]:
    """Group cells that one walk over the images can serve.

    Cells that differ in `n_samples` alone share a walk if their counts are multiples of the batch
    size. Another count ends in a short batch that no longer walk contains: it walks by itself. So does
    every `exact` cell, whose statistics belong to its own set of images.
    """
    together: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        alone = cell.n_samples % cell.batch_size or cell.estimator == "exact"
        alike = (cell.task, cell.arch, cell.batch_size, cell.estimator, cell.momentum, cell.seed)
        together[*alike, cell.n_samples if alone else 0].append(cell)
    return [Pass(tuple(sorted(group, key=lambda c: c.n_samples))) for group in together.values()]
