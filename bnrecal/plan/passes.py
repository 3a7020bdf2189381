"""Cells grouped into the passes that serve them."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from bnrecal.study.cells import AnyPass, Cell, Judgement, JudgePass, Pass, SharedPass

BY_COUNT = ("n_samples", "order_digest")  # the fields in which cells of one walk may differ
BY_ARCH = ("arch", "weights_digest")  # those in which cells of one tree of beginnings do, and judgements
IN_ONE_WALK = ("ema", "cumulative", "pooled")  # statistics of a layer depend on the layers before it alone
MOST_SHARED = 128  # subnets of a tree: their predictions are held until all images are seen
MOST_JUDGED = 1000  # architectures before a judge at a time

Grouping = Callable[[Iterable[Cell | Judgement]], list[AnyPass]]


def grouped(cells: Iterable[Cell | Judgement]) -> list[AnyPass]:
    """Judgements first, which take no time, then walks."""
    cells = list(cells)
    walks = passes_of(cell for cell in cells if isinstance(cell, Cell))
    return [*_before_judges(cell for cell in cells if isinstance(cell, Judgement)), *walks]


def grouped_sharing(size: int) -> Grouping:
    """`grouped`, with cells that differ in the architecture alone together, up to `size` of them.

    Neighbours in the order of their names stand together: those that are written alike begin alike.
    """

    def grouped_so(cells: Iterable[Cell | Judgement]) -> list[AnyPass]:
        cells = list(cells)
        alike: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
        others: list[Cell | Judgement] = []
        for cell in cells:
            if isinstance(cell, Cell) and cell.estimator in IN_ONE_WALK:
                alike[tuple(v for name, v in cell.facts().items() if name not in BY_ARCH)].append(cell)
            else:
                others.append(cell)
        shared: list[AnyPass] = []
        for group in alike.values():
            group.sort(key=lambda cell: cell.arch)
            shared += [SharedPass(tuple(group[at : at + size])) for at in range(0, len(group), size)]
        return [*grouped(others), *shared]

    return grouped_so


def _before_judges(judgements: Iterable[Judgement]) -> list[JudgePass]:
    alike: dict[tuple[object, ...], list[Judgement]] = defaultdict(list)
    for one in judgements:
        alike[tuple(v for name, v in one.facts().items() if name not in BY_ARCH)].append(one)
    return [
        JudgePass(tuple(group[at : at + MOST_JUDGED]))
        for group in alike.values()
        for at in range(0, len(group), MOST_JUDGED)
    ]


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
