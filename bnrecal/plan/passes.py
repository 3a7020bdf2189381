"""Cells grouped into the passes that serve them."""

from collections import defaultdict
from collections.abc import Iterable

from bnrecal.study.cells import Cell, Pass

BY_COUNT = ("n_samples", "order_digest")  # the fields in which cells of one walk may differ


def passes_of(cells: Iterable[Cell]) -> list[Pass]:
    """Group cells that one walk over the images can serve.

    Cells that differ in `n_samples` alone share a walk if their counts are multiples of the batch
    size. Another count ends in a short batch that no longer walk contains: it walks by itself. So does
    every `exact` cell, whose statistics belong to its own set of images.
    """
    together: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        alone = cell.estimator == "exact" or bool(cell.batch_size and cell.n_samples % cell.batch_size)
        alike = (value for name, value in cell.facts().items() if name not in BY_COUNT)
        together[*alike, cell.n_samples if alone else 0].append(cell)
    return [Pass(tuple(sorted(group, key=lambda c: c.n_samples))) for group in together.values()]
