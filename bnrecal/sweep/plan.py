"""From a study to its cells, and from the cells still to do to passes. Imports no torch."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import NetworkSource
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.inputs import make_inputs
from bnrecal.study.study import GRIDS, Study, make_study


def complete_study(settings: Mapping[str, Any], places: Mapping[str, str]) -> Study:
    """The study these settings ask for, with what its task and networks decide filled in.

    That is the preprocessing of `preprocess = "model"`, the architectures of the source (also those of
    "random:K" and "random:K:SEED"), and batch sizes and sample counts that the task has images for.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    inputs = make_inputs(given, places)
    if inputs.task not in tasks.SCENES:  # those bring their images along as they are
        given = {**networks.preprocessing(inputs, tasks.metric_of(inputs.task)), **given}
    inputs = make_inputs(given, places)
    task = tasks.of(inputs)
    source = networks.of(inputs, task)
    archs = given.get("arch", source.names)
    given["arch"] = tuple(a for arch in archs for a in _drawn(arch, source)) if _is_list(archs) else archs
    if inputs.task not in GRIDS and "samples" not in given:
        given["samples"] = default_samples(task.n_calibration)
        if "bs" not in given:
            given["bs"] = [b for b in GRIDS["garments"][0] if b <= given["samples"][0]] or [1]
    return make_study(given, places)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _drawn(arch: str, source: NetworkSource) -> tuple[str, ...]:
    """The architecture itself, or those that "random:K" or "random:K:SEED" stands for."""
    kind, *numbers = arch.split(":")
    if kind != "random" or not numbers:
        return (arch,)
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise BnrecalError(f"--arch: {arch!r}; allowed: random:K or random:K:SEED, such as random:10:1")
    n, seed = int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0
    if not (1 <= n <= 100_000 and seed < 2**63):
        raise BnrecalError(f"--arch: {arch!r}: 1 to 100,000 architectures, a seed below 2^63")
    return source.random(n, seed)


def default_samples(n_images: int) -> tuple[int, ...]:
    """The published counts if there are so many images, else a quarter, a half and all of them.

    Multiples of 64 if possible, so that one walk serves all counts at every usual batch size.
    """
    usual = tuple(n for n in GRIDS["garments"][1] if n <= n_images)
    if len(usual) > 1:
        return usual
    unit = 64 if n_images >= 256 else 1
    parts = (n_images // 4, n_images // 2, n_images)
    return tuple(dict.fromkeys(max(1, part // unit * unit) for part in parts))


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
    orders = {seed: task.order(seed) for seed in study.seeds}
    digests = {
        (seed, n): task.order_digest(order[:n]) for seed, order in orders.items() for n in study.samples
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
