"""Uniform paths of a bounded cost (SPOS, Guo et al., ECCV 2020): a bin of FLOPs, then a path that is in it.

The released code draws one of the bins [290, 300), [300, 310), ... [350, 360) million FLOPs for each step,
then paths until one lies in it, up to 500. Here the nearest of these 500 is taken where none does, and
counted.
"""

from collections.abc import Callable, Sequence

import numpy as np

from bnrecal.data.draws import Int64s, draws, stream_key
from bnrecal.errors import BnrecalError
from bnrecal.networks.learner import Choices, Learner
from bnrecal.search.cost import Costs
from bnrecal.search.space import Space

MOST_TRIES = 500
FlopBins = tuple[float, float, float]  # lowest, highest, width of a bin

Flops = Callable[[tuple[int, ...]], int]  # of the path that takes these choices


def flops_of(choices: Choices, learner: Learner, input_shape: Sequence[int]) -> Flops:
    """Multiply-accumulates of a path on one image, added up over layers where they add."""
    space = Space(tuple(tuple(map(str, range(size))) for size in choices.sizes))
    costs = Costs(space, lambda arch: (choices.path(space.decode(arch)), learner.forward), input_shape)
    return lambda taken: costs.of_choices(taken).flops


def bounded_paths(
    bins: FlopBins, flops: Flops, seed: int, epoch: int, steps: int, sizes: Sequence[int]
) -> tuple[Int64s, int]:
    """(the path of every step of an epoch, shape (steps, 1, layers); how many lie outside their bin).

    Raises BnrecalError where not one of them lies in its bin.
    """
    low, high, width = bins
    edges = np.arange(low, high, width)
    drawn = draws(stream_key("train-bins", seed, epoch), np.arange(steps), 1)[:, 0] % np.uint64(len(edges))
    found = np.empty((steps, 1, len(sizes)), np.int64)
    n_inside = 0
    for step, at in enumerate(drawn.astype(np.int64)):
        lowest, highest = edges[at], min(edges[at] + width, high)
        found[step, 0], is_inside = _path_in(lowest, highest, flops, (seed, epoch, step), sizes)
        n_inside += is_inside
    if not n_inside:
        seen = [flops(tuple(path)) for path in found[:, 0].tolist()]
        raise BnrecalError(
            f"flops_bins: no path from {low:,.0f} to {high:,.0f} FLOPs was drawn; those nearest have "
            f"{min(seen):,} to {max(seen):,}"
        )
    return found, steps - n_inside


def _path_in(
    low: float, high: float, flops: Flops, key: tuple[int, int, int], sizes: Sequence[int]
) -> tuple[Int64s, bool]:
    """(the first path drawn with FLOPs in [low, high), else the nearest; whether it is inside)."""
    seed, epoch, step = key
    tried = draws(stream_key("train-bounded", seed, epoch, step), np.arange(MOST_TRIES), len(sizes))
    paths = (tried % np.array(sizes, np.uint64)).astype(np.int64)
    nearest, least = paths[0], float("inf")
    for path in paths:
        cost = flops(tuple(path.tolist()))
        if low <= cost < high:
            return path, True
        away = max(low - cost, cost - high)
        if away < least:
            nearest, least = path, away
    return nearest, False
