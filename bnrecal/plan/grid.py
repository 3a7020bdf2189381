"""A study's cells. Imports no torch."""

import itertools

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import STORED, Cell


def cells_of(opened: Opened) -> list[Cell]:
    """The networks as they stand, then every point of the grid as tables read: by order, batch size,
    samples, then architecture.

    Raises BnrecalError for an unknown task or architecture and for more samples than the task has.
    """
    study, task, source = opened.study, opened.task, opened.source
    for arch in study.arch:
        source.check(arch)
    if set(study.estimator) != {STORED} and max(study.samples) > task.n_calibration:
        raise BnrecalError(
            f"--samples: {max(study.samples)}: task {task.name!r} has {task.n_calibration} images to "
            "calibrate with"
        )
    orders = {seed: task.order(seed) for seed in study.seeds}
    digests = {
        (seed, n): task.order_digest(order[:n]) for seed, order in orders.items() for n in study.samples
    }
    weights = {arch: source.digest(arch) for arch in study.arch}
    data_digest = task.data_digest()
    stored = [
        Cell(
            task=task.name,
            metric=task.metric,
            data_digest=data_digest,
            order_digest=None,
            arch=arch,
            weights_digest=weights[arch],
            batch_size=None,
            n_samples=0,
            estimator=STORED,
            momentum=None,
            seed=None,
        )
        for arch in study.arch
        if study.baseline or STORED in study.estimator
    ]
    return stored + [
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
        if estimator != STORED
        for momentum in (study.momentum if estimator == "ema" else (None,))
        for batch_size, n, arch in itertools.product(study.bs, study.samples, study.arch)
    ]
