"""Cells and passes: frozen data, known before any tensor exists.

A `Cell` is one point of a study's grid with everything that decides its figures, and nothing that does
not: its `key` is the same on every machine, device and day. A `Training` is a cell of another kind: it
gives weights, and the cells that need them say so. A third is a `Judgement`, of one architecture by one
judge. A pass is what one process does at a time: a `Pass` is an ordered walk over the calibration images that
serves several cells at once, a `SharedPass` many architectures up to where they part, a `TrainingPass` one
training, a `JudgePass` many architectures before one judge.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from bnrecal.study.axes import LATER
from bnrecal.study.recipe import Recipe

# Raise when a change of code changes figures: finished cells of the old version are then done again.
ALGORITHM = 1

# What one network is re-estimated by when nothing is said: estimator, batch size, images or all there are.
USUAL = ("pooled", 32, 1024)
TRAIN = "train"  # the kind of a training's row; a row without a kind is of a recalibrated network
JUDGE = "judge"  # the kind of a judgement's row


def is_judgement(row: Mapping[str, Any]) -> bool:
    """Whether the row is of one architecture before a judge."""
    return row.get("kind") == JUDGE


def n_updates(n_samples: int, batch_size: int | None) -> int:
    """Batches that hold so many images; none where nothing is read."""
    return -(-n_samples // batch_size) if batch_size else 0


def trained_name(arch: str | None) -> str:
    """What a training trains, in words."""
    return arch or "the supernet"


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Training:
    """A network to be trained: images, a start and a recipe.

    `order_digest` covers all calibration images, sorted; `network_digest` the weights training starts from
    and the code of the module. `arch` is None where a whole supernet is trained. `n_samples`, the images it
    reads over all epochs, follows from the others.
    """

    task: str
    metric: str
    data_digest: str
    order_digest: str
    arch: str | None
    network_digest: str
    recipe: Recipe
    n_samples: int

    @property
    def name(self) -> str:
        """What is trained, in words."""
        return trained_name(self.arch)

    def facts(self) -> dict[str, Any]:
        """The scientific fields of a row, flat."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": TRAIN, **found, "recipe": self.recipe.facts()}

    @cached_property
    def key(self) -> str:
        """Digest of the facts, the recipe by its own key; 20 hex digits."""
        facts = self.facts()
        del facts["n_samples"]
        return _digest({**facts, "recipe": self.recipe.key})


@dataclass(frozen=True)
class Cell:
    """One point of a study: the scientific fields of a result row.

    `order_digest` covers the ids of exactly the `n_samples` images the cell reads, in order;
    `weights_digest` the weights file and the path taken through it. `momentum` is None for
    estimators that have none. The `stored` statistics read no images: no batch size, no order, no seed.
    Where the study trains the network, `trained` says how: its key stands for the weights before they exist.
    """

    task: str
    metric: str
    data_digest: str
    order_digest: str | None
    arch: str
    weights_digest: str
    batch_size: int | None
    n_samples: int
    estimator: str
    momentum: float | None
    seed: int | None
    trained: Training | None = None

    @property
    def n_updates(self) -> int:
        """Batches read; the last one is short when n_samples is no multiple of batch_size."""
        return n_updates(self.n_samples, self.batch_size)

    def facts(self) -> dict[str, Any]:
        """The scientific fields of a row, flat; `trained` is the key of the training, if there is one."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.trained is not None:
            found["trained"] = self.trained.key
        return {name: value for name, value in found.items() if value is not None or name not in LATER}

    @cached_property
    def key(self) -> str:
        """Digest of the scientific fields and the algorithm version; 20 hex digits."""
        return _digest({"algorithm": ALGORITHM, **self.facts()})


@dataclass(frozen=True)
class Judgement:
    """One architecture before one judge (search/judges.py) that needs no evaluation images.

    `seed` is that of the judge `random` and of the images a judge of the user's own is shown; these are the
    `n_samples` that `order_digest` covers, and `code_digest` is of its file. None where a judge has none.
    """

    task: str
    metric: str
    data_digest: str
    judge: str
    arch: str
    weights_digest: str
    seed: int | None = None
    order_digest: str | None = None
    n_samples: int = 0
    code_digest: str | None = None
    trained: Training | None = None

    def facts(self) -> dict[str, Any]:
        """The scientific fields of a row, flat, those that are set; `trained` is the key of the training."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.trained is not None:
            found["trained"] = self.trained.key
        return {"kind": JUDGE, **{name: value for name, value in found.items() if value is not None}}

    @cached_property
    def key(self) -> str:
        """Digest of the scientific fields and the algorithm version; 20 hex digits."""
        return _digest({"algorithm": ALGORITHM, **self.facts()})


AnyCell = Cell | Training | Judgement


@dataclass(frozen=True)
class Pass:
    """Cells that one walk over the images serves: they differ in `n_samples` alone.

    Sorted by `n_samples`; all but the last are multiples of the batch size, so that each is a
    prefix of the next.
    """

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def n_samples(self) -> int:
        """Images the pass reads."""
        return self.cells[-1].n_samples


@dataclass(frozen=True)
class TrainingPass:
    """One training, from its first epoch or from where it was left."""

    training: Training

    @property
    def cells(self) -> tuple[Training]:
        return (self.training,)

    @property
    def first(self) -> Training:
        return self.training

    @property
    def n_samples(self) -> int:
        """Images it reads, over all epochs."""
        return self.training.n_samples


@dataclass(frozen=True)
class SharedPass:
    """Cells that differ in `arch` alone, of networks that begin alike: see measure/prefixes.py."""

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def n_samples(self) -> int:
        """Images the cells calibrate with, each by itself."""
        return sum(cell.n_samples for cell in self.cells)


@dataclass(frozen=True)
class JudgePass:
    """Judgements of one judge, which differ in the architecture alone."""

    cells: tuple[Judgement, ...]

    @property
    def first(self) -> Judgement:
        return self.cells[0]

    @property
    def n_samples(self) -> int:
        """No image is told of: whoever is shown some sees the same few."""
        return 0


AnyPass = Pass | SharedPass | TrainingPass | JudgePass


def pass_of(cells: Sequence[AnyCell]) -> AnyPass:
    """The pass of these cells, which are what is left of one."""
    first = cells[0]
    if isinstance(first, Training):
        return TrainingPass(first)
    if isinstance(first, Judgement):
        return JudgePass(tuple(cell for cell in cells if isinstance(cell, Judgement)))
    measured = tuple(cell for cell in cells if isinstance(cell, Cell))
    return Pass(measured) if len({cell.arch for cell in measured}) == 1 else SharedPass(measured)
