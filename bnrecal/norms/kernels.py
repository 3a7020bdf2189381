"""Normalising by the mean and variance of each group of images and channel.

Two ways, by how the input lies in memory; both leave it as it is:

- channel after channel (torch's default): torch.native_group_norm with as many groups as channels takes
  statistics over the rest, so that groups of images become channels of one image,
  (g n, C, L) -> (1, g C, n L). It is several times faster than the BatchNorm kernel, which adds up one
  value after the other;
- pixel after pixel (channels-last, or no pixels at all): the BatchNorm kernel for one group; for
  several, rows (g, n L, C) reduced over the second dimension. Here the group kernel takes
  E[x^2] - E[x]^2, which cancels.

Everything is computed in at least float32, whatever the activations are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Affine = Tensor | None  # (C,), or (g, C) for groups that differ


def normalised(x: Tensor, g: int, weight: Affine, bias: Affine, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / sqrt(v + eps)) of x (g n, C, ...), v biased.

    y = weight (x - mean) / sqrt(v + eps) + bias, in the precision and memory format of x. The other two
    have shape (g, C) and no gradient.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    weight, bias = (None if p is None else p.to(wide.dtype) for p in (weight, bias))
    if not _pixel_after_pixel(x):
        y, mean, inverse = _by_channels(wide, g, weight, bias, eps)
    elif g > 1:
        y, mean, inverse = _by_rows(wide, g, weight, bias, eps)
    else:
        w, b = _flat(weight), _flat(bias)
        y, mean, inverse = torch.native_batch_norm(wide, w, b, None, None, True, 0.0, eps)
    return y.to(x.dtype), mean.view(g, -1), inverse.view(g, -1)


def moments(x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
    """(mean, sqrt(v + eps)) of each group and channel, (g, C), in at least float32, without gradient."""
    with torch.no_grad():
        _, mean, inverse = normalised(x.detach(), g, None, None, eps)
        return mean, inverse.reciprocal()


def moments_with_gradient(x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
    """`moments`, through which gradients reach x; v, the biased variance, in the place of its root."""
    mean, var = _Moments.apply(x if x.dtype == torch.float64 else x.float(), g, eps)
    return mean, var


def unbiased(sigma: Tensor, eps: float, n_values: int) -> Tensor:
    """The unbiased variance of n values for sigma = sqrt(v + eps), v the biased one."""
    return (sigma.square() - eps).clamp(min=0) * (n_values / (n_values - 1))


def _pixel_after_pixel(x: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])
    return x.dim() == 2 or (last and not x.is_contiguous())


def _flat(p: Affine) -> Affine:
    return None if p is None else p.reshape(-1)


def _by_channels(
    x: Tensor, g: int, weight: Affine, bias: Affine, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    n_images, c = x.shape[:2]
    by_channel = x.reshape(g, n_images // g, c, -1).transpose(1, 2)  # (g, C, n, L)
    rows = by_channel.reshape(1, g * c, -1)
    weight, bias = (p if p is None or p.dim() == 2 or g == 1 else p.repeat(g) for p in (weight, bias))
    w, b = _flat(weight), _flat(bias)
    y, mean, inverse = torch.native_group_norm(rows, w, b, 1, g * c, rows.shape[-1], g * c, eps)
    return y.view(by_channel.shape).transpose(1, 2).reshape(x.shape), mean, inverse


def _by_rows(x: Tensor, g: int, weight: Affine, bias: Affine, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    last = x.movedim(1, -1)  # dense: (g n, ..., C)
    c = last.shape[-1]
    weight, bias = (None if p is None else p.view(-1, 1, c) for p in (weight, bias))
    y, mean, inverse = _Rows.apply(last.reshape(g, -1, c), weight, bias, eps)
    return y.view(last.shape).movedim(-1, 1), mean, inverse


class _Rows(torch.autograd.Function):
    """The formula of `normalised` for rows (g, M, C), with weight and bias (1, 1, C) or (g, 1, C).

    With dy what flows back and means over M: dx = weight / sigma (dy - mean(dy) - hat mean(dy hat)).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Affine, bias: Affine, eps: float) -> tuple[Tensor, ...]:
        mean = rows.mean(1, keepdim=True)
        hat = rows - mean
        inverse = (hat.square().mean(1, keepdim=True) + eps).rsqrt()
        hat *= inverse
        if weight is None:
            y = hat.clone()  # what is kept must not be what an activation in place may change
        else:
            y = hat * weight if bias is None else torch.addcmul(bias, hat, weight)
        ctx.save_for_backward(hat, inverse, weight)
        ctx.has_bias, ctx.shared = bias is not None, weight is not None and len(weight) < len(rows)
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        hat, inverse, weight = ctx.saved_tensors
        sums = dy.sum(1, keepdim=True)
        dots = (dy * hat).sum(1, keepdim=True)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.addcmul(dy - sums / dy.shape[1], hat, dots / -dy.shape[1])
            dx *= inverse if weight is None else inverse * weight
        if ctx.shared:
            sums, dots = sums.sum(0, keepdim=True), dots.sum(0, keepdim=True)
        return dx, None if weight is None else dots, sums if ctx.has_bias else None, None


class _Moments(torch.autograd.Function):
    """(mean, v), each (g, C), of x (g n, C, ...): dx = (dmean + 2 dv (x - mean)) / M, M values each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
        mean, sigma = moments(x, g, eps)
        ctx.save_for_backward(x, mean)
        return mean, (sigma.square() - eps).clamp(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dmean: Tensor, dvar: Tensor) -> tuple[Tensor | None, ...]:
        x, mean = ctx.saved_tensors
        g, c = mean.shape
        n_values = x.numel() // (g * c)
        slope = 2 * dvar / n_values
        level = dmean / n_values - slope * mean
        shape = (g, 1, c, *[1] * (x.dim() - 2))
        images = x.view(g, -1, *x.shape[1:])
        return torch.addcmul(level.view(shape), images, slope.view(shape)).view(x.shape), None, None
