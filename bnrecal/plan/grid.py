"""A study's cells. Imports torch only where networks are to be trained."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import Opened
from bnrecal.study.axes import STORED
from bnrecal.study.cells import USUAL, Cell, Training
from bnrecal.study.recipe import WITHOUT_STATISTICS
from bnrecal.study.study import Study
from bnrecal.tasks.task import Int64s


@dataclass(frozen=True)
class Weights:
    """Weights that cells stand on, by architecture: their digests, and how they came about."""

    digests: dict[str, str]
    trained: Training | None = None

    @property
    def keep_statistics(self) -> bool:
        return self.trained is None or self.trained.recipe.norm not in WITHOUT_STATISTICS


def cells_of(opened: Opened) -> list[Cell]:
    """The networks as they stand, then every point of the grid as tables read: by order, batch size,
    samples, then architecture; last the reference. All of one training, then of the next.

    Raises BnrecalError for an unknown task or architecture and for more samples than the task has.
    """
    study, task = opened.study, opened.task
    if set(study.estimator) != {STORED} and max(study.samples) > task.n_calibration:
        raise BnrecalError(
            f"--samples: {max(study.samples)}: task {task.name!r} has {task.n_calibration} images to "
            "calibrate with"
        )
    data_digest = task.data_digest()
    orders = _Orders(opened)
    found = [
        cell
        for weights in weights_of(opened, data_digest)
        for cell in (
            *_stored(opened, data_digest, weights),
            *(_reestimated(opened, data_digest, weights, orders) if weights.keep_statistics else ()),
        )
    ]
    return list({cell.key: cell for cell in found}.values())  # the reference may stand in the grid as well


def _stored(opened: Opened, data_digest: str, weights: Weights) -> Iterator[Cell]:
    study, task = opened.study, opened.task
    if not (study.baseline or STORED in study.estimator):
        return
    for arch, digest in weights.digests.items():
        yield Cell(
            task=task.name,
            metric=task.metric,
            data_digest=data_digest,
            order_digest=None,
            arch=arch,
            weights_digest=digest,
            batch_size=None,
            n_samples=0,
            estimator=STORED,
            momentum=None,
            seed=None,
            trained=weights.trained,
        )


def _reestimated(opened: Opened, data_digest: str, weights: Weights, orders: "_Orders") -> Iterator[Cell]:
    """The cells of the grid, then those of the reference."""
    study, task = opened.study, opened.task
    for seed, (estimator, momentum, batch_size, n_samples), arch in _settings(
        study, task.n_calibration, weights.digests
    ):
        yield Cell(
            task=task.name,
            metric=task.metric,
            data_digest=data_digest,
            order_digest=orders.digest(seed, n_samples),
            arch=arch,
            weights_digest=weights.digests[arch],
            batch_size=batch_size,
            n_samples=n_samples,
            estimator=estimator,
            momentum=momentum,
            seed=seed,
            trained=weights.trained,
        )


_Setting = tuple[str, float | None, int, int]  # estimator, momentum, batch size, samples


def _settings(study: Study, n_images: int, archs: Iterable[str]) -> Iterator[tuple[int, _Setting, str]]:
    """Seed, setting and architecture of each cell."""
    for seed in study.seeds:
        for estimator in study.estimator:
            if estimator == STORED:
                continue
            momenta = study.momentum if estimator == "ema" else (None,)
            for momentum, size, n, arch in itertools.product(momenta, study.bs, study.samples, archs):
                yield seed, (estimator, momentum, size, n), arch
    usual, batch_size, n_samples = USUAL
    if study.reference and n_images >= batch_size:
        for seed, arch in itertools.product(study.seeds, archs):
            yield seed, (usual, None, batch_size, min(n_samples, n_images)), arch


class _Orders:
    """Orders of the calibration images and the digests of their beginnings, each found once."""

    def __init__(self, opened: Opened) -> None:
        self.task = opened.task
        self.orders: dict[int, Int64s] = {}
        self.digests: dict[tuple[int, int], str] = {}

    def digest(self, seed: int, n_samples: int) -> str:
        if seed not in self.orders:
            self.orders[seed] = self.task.order(seed)
        if (seed, n_samples) not in self.digests:
            self.digests[seed, n_samples] = self.task.order_digest(self.orders[seed][:n_samples])
        return self.digests[seed, n_samples]


def weights_of(opened: Opened, data_digest: str) -> Iterator[Weights]:
    """What there is to evaluate: the source's own weights, or those of each training of the study."""
    study, source = opened.study, opened.source
    for arch in study.arch:
        source.check_name(arch)
    if not opened.recipes:
        for arch in study.arch:
            source.check(arch)
        yield Weights({arch: source.digest(arch) for arch in study.arch})
        return
    for training in trainings_of(opened, data_digest):
        archs = study.arch if training.arch is None else (training.arch,)
        yield Weights({arch: trained_digest(training, arch) for arch in archs}, training)


def trained_digest(training: Training, arch: str) -> str:
    """Stands for the weights of one architecture before they exist."""
    return hashlib.sha256(f"{training.key} {arch}".encode()).hexdigest()[:16]


def trainings_of(opened: Opened, data_digest: str) -> Iterator[Training]:
    """One for each recipe where a whole supernet is trained, else one for each architecture as well."""
    import numpy as np

    study, task = opened.study, opened.task
    content = task.order_digest(np.sort(task.order(0)))
    starts: dict[tuple[str | None, int], str] = {}
    for recipe in opened.recipes:
        for arch in study.arch if recipe.sampling == "none" else (None,):
            at = arch, recipe.seed
            if at not in starts:
                starts[at] = opened.source.learner(*at).digest
            n_images = recipe.epochs * task.n_calibration
            yield Training(task.name, task.metric, data_digest, content, arch, starts[at], recipe, n_images)
