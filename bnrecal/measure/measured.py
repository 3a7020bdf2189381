"""What one cell gave, however it was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bnrecal.data.prepared import Prepared
from bnrecal.study.cells import Cell
from bnrecal.study.frozen import LeftAlone


@dataclass(frozen=True)
class Measured:
    """Figures and times of one cell; seconds as the columns of bnrecal/store/rows.py define them."""

    cell: Cell
    update: float | None  # None for `exact`, which has no such pass, and where it was not asked for
    eval: float
    recal_s: float
    update_s: float
    eval_s: float
    total_s: float
    evidence: Mapping[str, NDArray[Any]]  # of `eval`, image by image: see tasks/task.py
    evaluation_batch: int  # images in one evaluation forward
    prepared: Prepared | None = None  # of `stored`: how the images would fit the network far better
    left_alone: LeftAlone | None = None  # of `stored`: BatchNorms whose mode keeps them from re-estimation


def measured(
    cell: Cell,
    update: float | None,
    evaluated: float,
    seconds: Mapping[str, float],
    evidence: Mapping[str, NDArray[Any]],
    evaluation_batch: int,
) -> Measured:
    """`seconds` by part of the work: of "recal", "update" and "eval" those there are, and whatever else
    the cell alone would have cost, such as "setup" and "read"."""
    recal_s, update_s, eval_s = (seconds.get(part, 0.0) for part in ("recal", "update", "eval"))
    total_s = sum(seconds.values())
    return Measured(cell, update, evaluated, recal_s, update_s, eval_s, total_s, evidence, evaluation_batch)
