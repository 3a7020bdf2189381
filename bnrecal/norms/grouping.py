"""Several small batches in one forward: groups of n consecutive images, each with its own statistics.

A batch of g n images (g n, C, ...) becomes one of n images with g C channels (n, g C, ...), channel
j C + c being channel c of group j; every kernel that takes statistics by channel then takes them by
group and channel. Averages over time see the groups one after another, in the order of the images.
"""

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError


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
    if n_images and size * x[0, 0].numel() == 1:
        raise BnrecalError(
            f"{layer}: one value per channel has no variance (statistics over {size} image of shape "
            f"{tuple(x.shape[1:])}); use more images"
        )
    return max(1, n_images // max(1, size))


def grouped(x: Tensor, g: int) -> Tensor:
    """(g n, C, ...) -> (n, g C, ...), dense; x itself for one group."""
    if g == 1:
        return x
    return x.reshape(g, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)


def ungrouped(y: Tensor, g: int, like: Tensor) -> Tensor:
    """The way back, in the memory format of `like`."""
    if g == 1:
        return y
    y = y.reshape(len(y), g, -1, *y.shape[2:]).transpose(0, 1).flatten(0, 1)
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return y.contiguous(memory_format=torch.channels_last)
    if like.dim() == 5 and like.is_contiguous(memory_format=torch.channels_last_3d):
        return y.contiguous(memory_format=torch.channels_last_3d)
    return y


def averages(start: Tensor, values: Tensor, momentum: float | None, n_before: int) -> Tensor:
    """An average as it stands before and after each of g successive updates: (g + 1, C).

    start (C,) is the average so far, values (g, C) what the groups give. With momentum a,
    m_j = (1 - a) m_(j-1) + a v_j; with None the plain mean of all values, n_before of them in `start`:
    a = 1 / (n_before + j), PyTorch's convention.
    """
    found = [start]
    for j, value in enumerate(values):
        rate = 1 / (n_before + j + 1) if momentum is None else momentum
        found.append(torch.lerp(found[-1], value.to(start.dtype), rate))
    return torch.stack(found)


def last_average(start: Tensor, values: Tensor, momentum: float | None, n_before: int) -> Tensor:
    """The last row of `averages`, in closed form: (1 - a)^g m_0 + sum_j a (1 - a)^(g - j) v_j."""
    g = len(values)
    if momentum is None:
        return torch.lerp(start, values.mean(0).to(start.dtype), g / (n_before + g))
    steps = torch.arange(g - 1, -1, -1, dtype=torch.float64)
    weights = (momentum * (1 - momentum) ** steps).to(values)
    return start * (1 - momentum) ** g + (weights @ values).to(start.dtype)
