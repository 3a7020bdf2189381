"""Several small batches in one forward: groups of n consecutive images, each with its own statistics.

Averages over time see the groups one after another, in the order of the images.
"""

import functools

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError


class AnyDimensions:
    """For any number of dimensions, in the place of a SyncBatchNorm."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")


def check_norm_batch(norm_batch: object) -> None:
    """Raise BnrecalError unless it is None or a whole number of images."""
    whole = isinstance(norm_batch, int) and not isinstance(norm_batch, bool)
    if norm_batch is not None and not (whole and norm_batch >= 1):  # type: ignore[operator]
        raise BnrecalError(f"norm_batch={norm_batch!r}: a whole number of images from 1 on, or None")


def n_groups(x: Tensor, norm_batch: int | None, layer: str) -> int:
    """Groups in the batch x (images, C, ...); 1 without a norm_batch.

    Raises BnrecalError if the images are no whole multiple of it, or if a group gives a channel one
    value alone, which has no variance.
    """
    n_images = x.shape[0]
    if norm_batch is not None and n_images % norm_batch:
        raise BnrecalError(
            f"{layer}: {n_images} images are no whole multiple of norm_batch={norm_batch}; choose batches "
            "that are, and leave out a short last one"
        )
    size = norm_batch or n_images
    if size * x[0, 0].numel() == 1:
        raise BnrecalError(
            f"{layer}: one value per channel has no variance (statistics over {size} image of shape "
            f"{tuple(x.shape[1:])}); use more images"
        )
    return n_images // size


def averages(start: Tensor, values: Tensor, momentum: float | None, n_before: int) -> Tensor:
    """An average as it stands before and after each of g successive updates: (g + 1, C).

    start (C,) is the average so far, values (g, C) what the groups give. With momentum a,

        m_j = (1 - a)^j m_0 + sum over i <= j of a (1 - a)^(j - i) v_i

    with None the plain mean of all values, n_before of them in m_0 (PyTorch's convention):

        m_j = (n_before m_0 + sum over i <= j of v_i) / (n_before + j)
    """
    weights, of_start = _weights(len(values), momentum, n_before)
    return of_start.to(values) * start.to(values.dtype) + weights.to(values) @ values


@functools.lru_cache(maxsize=64)
def _weights(g: int, momentum: float | None, n_before: int) -> tuple[Tensor, Tensor]:
    """What each value (g + 1, g) and the start (g + 1, 1) weigh in `averages`; float64."""
    steps = torch.arange(g + 1, dtype=torch.float64)
    age = steps[:, None] - steps[1:]  # (updates made, group): how many came after this one's
    if momentum is not None:
        weights = torch.where(age >= 0, momentum * (1 - momentum) ** age.clamp(min=0), 0.0)
        return weights, ((1 - momentum) ** steps)[:, None]
    total = (n_before + steps).clamp(min=1)[:, None]
    of_start = n_before / total
    if not n_before:
        of_start[0] = 1
    return (age >= 0) / total, of_start
