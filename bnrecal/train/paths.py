"""Which paths through a supernet a step trains.

Uniform (SPOS, Guo et al., ECCV 2020): one path a step, each operation as likely as the others of its layer.
Fair (FairNAS, Chu et al., ICCV 2021, strict): in each layer a permutation of its m operations; path k takes
the k-th of each, the gradients of the m paths on one batch are added up, and one step is made of them. Each
operation is so trained exactly once a step.
"""

from collections.abc import Sequence

import numpy as np

from bnrecal.data.draws import Int64s, draws, stream_key
from bnrecal.errors import BnrecalError


def check_choices(sampling: str, choices: Sequence[int]) -> None:
    """Fair sampling needs as many operations in each layer."""
    if sampling == "fair" and len(set(choices)) > 1:
        counts = ", ".join(map(str, choices))
        raise BnrecalError(
            f"sampling: fair needs as many operations in each layer, this supernet has {counts}; use uniform"
        )


def paths(sampling: str, seed: int, epoch: int, steps: int, choices: Sequence[int]) -> Int64s:
    """The operation of each layer for every path of an epoch; shape (steps, paths of a step, layers).

    `choices`: how many operations each layer offers.
    """
    if sampling == "uniform":
        drawn = draws(stream_key("train-paths", seed, epoch), np.arange(steps), len(choices))
        return (drawn % np.array(choices, np.uint64)).astype(np.int64)[:, None]
    n_layers, n_operations = len(choices), choices[0]
    drawn = draws(stream_key("train-fair", seed, epoch), np.arange(steps * n_layers), n_operations)
    return drawn.argsort(1, kind="stable").reshape(steps, n_layers, n_operations).transpose(0, 2, 1)
