"""Mean and variance of a layer's input, taken from the input itself and taken well."""

import torch
from torch import Tensor

# When PyTorch's train-mode kernel is not good enough. On channels-last and two-dimensional inputs its
# CPU version adds up in float32, one value after the other; measured relative errors of the variance
# for N(m, 1): 6e-6 at 65,536 values a channel and m = 10, 3e-5 at 262,144, 90 at 262,144 and m = 10^4.
FAR = 10.0  # standard deviations between a channel's mean and zero
MANY = 65536  # values per channel
_ROWS = 256  # added up in the input's precision before float64 takes over


def moments_into(mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Write mean and unbiased variance of x (images, channels, ...) into the two tensors (channels,).

    In at least float32, shifted by a first estimate of the mean so that nothing cancels, and added up
    in blocks whose sums go on in float64. Of a single value per channel the variance is written as 0, so
    that M2 = var (count - 1) holds.
    """
    rows = x.movedim(1, -1).reshape(-1, x.shape[1]).to(mean.dtype)  # (values, channels)
    n = len(rows)
    shift = rows[:1024].to(torch.float64).mean(0).to(mean.dtype)
    rows = rows - shift
    total, squares = _column_sums(rows), _column_sums(rows.square())
    mean.copy_(shift + total / n)
    var.copy_((squares - total.square() / n).clamp(min=0) / max(1, n - 1))


def _column_sums(rows: Tensor) -> Tensor:
    """Sums over the first dimension, in float64; shape (channels,)."""
    whole = len(rows) // _ROWS * _ROWS
    blocks = rows[:whole].view(-1, _ROWS, rows.shape[1]).sum(1)
    return blocks.to(torch.float64).sum(0) + rows[whole:].to(torch.float64).sum(0)
